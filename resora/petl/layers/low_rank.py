"""A frozen linear layer with a low-rank update of each of its matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from resora.backbones import Backbone, Place
from resora.petl.base import Factors, Taps


class LowRankLinear(nn.Module):
    """A frozen linear layer plus B A x for some or all of the equal parts of its outputs.

    Attributes:
        base: The frozen layer, d_in -> len(parts) * d_out.
        lora_a: (M, r, d_in), the rows a_i of each adapted matrix. Kaiming-uniform at the start.
        lora_b: (M, r, d_out), the directions b_i. Zero at the start, so that nothing changes.
    """

    def __init__(
        self,
        base: nn.Linear,
        rank: int,
        scale: float,
        parts: Sequence[str] = ("",),
        adapted: Sequence[str] | None = None,
    ) -> None:
        """Wrap ``base``.

        Args:
            base: The layer.
            rank: r of each matrix.
            scale: The factor of the update, alpha / r.
            parts: Names of the equal parts of the layer's outputs.
            adapted: Those of them that get an update; None: all.

        Raises:
            ValueError: The outputs cannot be split into so many equal parts.
        """
        super().__init__()
        if base.out_features % len(parts):
            raise ValueError(
                f"{base.out_features} outputs are not {len(parts)} equal parts ({', '.join(parts)})"
            )
        self.base = base
        self.rank = rank
        self.scale = scale
        self.parts = tuple(parts)
        self.adapted = tuple(part for part in parts if adapted is None or part in adapted)
        matrices, width = len(self.adapted), base.out_features // len(parts)
        self.lora_a = nn.Parameter(base.weight.new_empty(matrices, rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(matrices, rank, width))
        for a in self.lora_a:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        self._taps = Taps()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ..., d_in) to (B, ..., parts * d_out)."""
        z = self.activations(x)
        self.hand_over(z)
        update = torch.einsum("...mr,mrd->...md", z, self.lora_b)
        return torch.add(self.base(x), self._placed(update), alpha=self.scale)

    def activations(self, x: Tensor) -> Tensor:
        """Return z = A x of each adapted matrix, (B, ..., M, r)."""
        z = functional.linear(x, self.rows().flatten(0, 1))
        split: Tensor = z.unflatten(-1, (len(self.adapted), self.rank))
        return split

    def rows(self) -> Tensor:
        """Return the rows of the down-projection, (M, r, d_in)."""
        return self.lora_a

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (M, B, ..., r), of each forward pass to ``record``."""
        return self._taps.add(record)

    def hand_over(self, z: Tensor) -> None:
        """Pass activations (B, ..., M, r) to the recorders: those of ``forward``, or computed for it."""
        self._taps(z.movedim(-2, 0))

    def factors(self) -> Factors:
        """Return b (M, r, d_out) and a (M, r, d_in)."""
        names = self.adapted if len(self.parts) > 1 else ()
        return Factors(self.lora_b, self.rows(), self.scale, names)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the layer with the update folded into its weight."""
        self.fold(self.lora_b, self.rows())
        return self.base

    @torch.no_grad()
    def fold(self, b: Tensor, a: Tensor) -> None:
        """Add scale * sum_i b_i a_i^T to the frozen weight, b (M, n, d_out) and a (M, n, d_in)."""
        update = self._placed(torch.einsum("mnd,mni->imd", b, a))
        self.base.weight.add_(update.T, alpha=self.scale)

    def _placed(self, update: Tensor) -> Tensor:
        """Put (..., M, d_out) where the adapted parts are, with zeros elsewhere: (..., parts * d_out)."""
        if len(self.adapted) == len(self.parts):
            return update.flatten(-2)
        whole = update.new_zeros(*update.shape[:-2], len(self.parts), update.shape[-1])
        whole[..., [self.parts.index(part) for part in self.adapted], :] = update
        return whole.flatten(-2)


def _chosen_of(parts: tuple[str, ...], wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted parts; all or none of a fused layer whose parts cannot be told apart."""
    if parts == ("qkv",):
        return parts if {"q", "k", "v"} <= set(wanted) else ()
    return tuple(part for part in parts if part in wanted)


MATRICES = ("q", "k", "v", "proj", "fc1", "fc2")
"""Names of the matrices of a block that a method may be asked to adapt."""


def check_low_rank(name: str, rank: int, targets: Sequence[str]) -> tuple[str, ...]:
    """Return ``targets`` as a tuple; raise a ``ValueError`` if they or the rank make no sense."""
    if rank < 1 or rank != int(rank):
        raise ValueError(f"the rank of {name} is a positive integer; got {rank}")
    if unknown := [one for one in targets if one not in MATRICES]:
        raise ValueError(
            f"unknown target {unknown[0]!r} of {name} (known: {', '.join(MATRICES)}; none: the default)"
        )
    return tuple(targets)


def chosen(
    backbone: Backbone, targets: Sequence[str] = ()
) -> Iterator[tuple[Place, tuple[str, ...]]]:
    """Yield the linear layers that hold matrices of ``targets``, each with those that it holds.

    Args:
        backbone: The backbone.
        targets: Of ``MATRICES``; empty: q, k and v, or fc1 in blocks without attention.

    Raises:
        ValueError: The backbone has none of them.
    """
    found = False
    for block in backbone.blocks:
        wanted = targets or (("q", "k", "v") if block.attention else ("fc1",))
        for place in block.linears:
            if adapted := _chosen_of(place.parts, wanted):
                found = True
                yield place, adapted
    if not found:
        raise ValueError(f"a backbone of the kind {backbone.kind} has none of {', '.join(targets)}")
