"""Subnets of a NOAH supernet: their sizes, their parameters, and the space they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

Sizes = tuple[int, ...]


class Subnet(NamedTuple):
    """The sizes of a subnet's modules, one for each block; 0: the block has no such module.

    Attributes:
        prompts: Prompts of each block.
        lora: Rank of the update of each block's ``qkv``.
        adapters: Width of each block's adapter.
    """

    prompts: Sizes
    lora: Sizes
    adapters: Sizes

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self.prompts)

    def parameters(self, width: int) -> int:
        """Return how many parameters it has on blocks of ``width`` channels, the head not counted.

        A prompt has d, a rank of the update of ``qkv`` d + 3 d, a unit of an adapter d + 1 + d; each
        adapter has a bias of d besides.
        """
        own = sum(self.prompts) * width + sum(self.lora) * 4 * width
        biases = sum(size > 0 for size in self.adapters) * width
        return own + sum(self.adapters) * (2 * width + 1) + biases


def as_subnet(sizes: Sequence[Sequence[int]]) -> Subnet:
    """Read a subnet from three lists: prompts, LoRA, adapters.

    Raises:
        ValueError: There are not three lists of one length, or a size is not a number from 0 on.
    """
    rows = [tuple(row) for row in sizes]
    if len(rows) != len(Subnet._fields) or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError("a subnet is three lists, one size a block: prompts, LoRA, adapters")
    if wrong := [size for row in rows for size in row if not is_whole(size) or size < 0]:
        raise ValueError(f"the sizes of a subnet are whole numbers from 0 on; got {wrong[0]!r}")
    return Subnet(*rows)


def is_whole(value: object) -> bool:
    """Say whether a value is an integer, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Space:
    """All subnets of a supernet.

    Attributes:
        blocks: Blocks of the backbone.
        width: Their channels.
        choices: The sizes that a module can have, in increasing order.
        depths: In how many of the first blocks there can be modules of one kind, in increasing order; each
            kind has its own number.
    """

    blocks: int
    width: int
    choices: Sizes
    depths: Sizes

    def smallest(self) -> Subnet:
        """Return the subnet with the least of everything."""
        return Subnet(*[self._row([self.choices[0]] * self.depths[0]) for _ in Subnet._fields])

    def largest(self) -> Subnet:
        """Return the supernet itself."""
        return Subnet(*[self._row([self.choices[-1]] * self.depths[-1]) for _ in Subnet._fields])

    def random(self, generator: torch.Generator | None = None) -> Subnet:
        """Draw a subnet: for each kind a depth, then a size for each block up to it, all equally likely."""
        depths, drawn = self._draw(generator)
        return Subnet(*[self._row(row[:depth]) for row, depth in zip(drawn, depths, strict=True)])

    def mutated(
        self, parent: Subnet, probability: float, generator: torch.Generator | None = None
    ) -> Subnet:
        """Return ``parent`` with each depth and each size drawn again with a probability."""
        depths, drawn = self._draw(generator)
        kept = torch.rand(len(parent), 1 + self.blocks, generator=generator) >= probability
        rows = []
        for old, new, depth, keeps in zip(parent, drawn, depths, kept.tolist(), strict=True):
            mixed = [o if keep and o else n for o, n, keep in zip(old, new, keeps[1:], strict=True)]
            rows.append(self._row(mixed[: _depth(old) if keeps[0] else depth]))
        return Subnet(*rows)

    def crossed(
        self, one: Subnet, other: Subnet, generator: torch.Generator | None = None
    ) -> Subnet:
        """Return a child that has each depth and each size from either parent, with equal probability."""
        coins = torch.rand(len(one), 1 + self.blocks, generator=generator) < 0.5
        rows = []
        for a, b, takes in zip(one, other, coins.tolist(), strict=True):
            # Where one parent has no module, the other's size is used.
            mixed = [
                (x if take else y) or x or y for x, y, take in zip(a, b, takes[1:], strict=True)
            ]
            rows.append(self._row(mixed[: _depth(a if takes[0] else b)]))
        return Subnet(*rows)

    def fitted(
        self, subnet: Subnet, budget: int, generator: torch.Generator | None = None
    ) -> Subnet:
        """Take random steps down until a subnet has no more than ``budget`` parameters.

        Raises:
            ValueError: Even the smallest subnet has more.
        """
        if (least := self.smallest().parameters(self.width)) > budget:
            raise ValueError(
                f"the smallest subnet has {least} parameters, over the budget of {budget}"
            )
        while subnet.parameters(self.width) > budget:
            steps = list(self._steps_down(subnet))
            subnet = steps[int(torch.randint(len(steps), (), generator=generator))]
        return subnet

    def _steps_down(self, subnet: Subnet) -> list[Subnet]:
        """Return the subnets that are one size of one module smaller, or one depth of one kind."""
        found = []
        for kind, row in zip(Subnet._fields, subnet, strict=True):
            lower = [
                (*row[:i], self.choices[self.choices.index(size) - 1], *row[i + 1 :])
                for i, size in enumerate(row)
                if size > self.choices[0]
            ]
            if not lower and (at := self.depths.index(_depth(row))):
                lower = [self._row(row[: self.depths[at - 1]])]
            found += [subnet._replace(**{kind: sizes}) for sizes in lower]
        return found

    def _draw(self, generator: torch.Generator | None) -> tuple[list[int], list[list[int]]]:
        """Draw a depth for each kind, and a size for each block of each kind."""
        kinds = len(Subnet._fields)
        depths = torch.randint(len(self.depths), (kinds,), generator=generator)
        sizes = torch.randint(len(self.choices), (kinds, self.blocks), generator=generator)
        return (
            [self.depths[i] for i in depths.tolist()],
            [[self.choices[i] for i in row] for row in sizes.tolist()],
        )

    def _row(self, sizes: Sequence[int]) -> Sizes:
        return (*sizes, *[0] * (self.blocks - len(sizes)))


def _depth(row: Sizes) -> int:
    return sum(size > 0 for size in row)
