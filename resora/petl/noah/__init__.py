"""NOAH, Neural Prompt Search (Zhang et al., 2022; ZhangYuanhan-AI/NOAH).

Each block of a ViT has prompts, a LoRA of its fused ``qkv`` and an adapter after its MLP, and for each task a
search decides how large each of them is:

1. A supernet with all modules at their largest size is trained; each step trains one random subnet, whose
   modules are the first rows of the supernet's.
2. Evolution looks for the subnet with the best validation accuracy under a budget of parameters.
3. That subnet is trained from fresh initial values.

Deviations. The start is the one that the public modules set themselves, LoRA's B and the adapter's second
layer at zero, so that prompts alone change the output; in the public code the ViT's constructor overwrites
both afterwards. The public model also has prompts before the first block, which never reach an output; here
they do not exist. The range of a prompt's initial values depends on how many there are in the network that is
built; in the public code these are always 100. ``evolution.evolve`` says how the search differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from resora.backbones import Backbone, Block
from resora.petl.base import Method
from resora.petl.layers.elastic import ElasticAdapter, ElasticLoRA, ElasticPrompts
from resora.petl.layers.prompts import check_more_tokens
from resora.petl.noah.evolution import Evolution, Found, evolve
from resora.petl.noah.subnets import Space, Subnet, as_subnet, is_whole

__all__ = ["NOAH", "Evolution", "Found", "Space", "Subnet", "evolve"]

LAYERS = (ElasticPrompts, ElasticLoRA, ElasticAdapter)
"""The layers of the three kinds of module, in the order of ``Subnet``."""


@dataclass(frozen=True)
class NOAH(Method):
    """The supernet, or with ``subnet`` one subnet alone.

    Attributes:
        subnet: Sizes of a subnet's prompts, LoRA and adapters, three lists with one number a block; None: the
            supernet, all of whose subnets are trained at once.
        choices: The sizes that a search can choose. The released subnets have 1, 5 and 10; the space of the
            public search script is 5, 10, 50 and 100.
        depths: In how many of the first blocks a search can put a kind of module, such as 3, 6, 9 and 12 in
            the public search; empty: in all, as in the released subnets.
        dropout: On prompts, on LoRA's input and in the adapter's bottleneck.
    """

    subnet: Subnet | None = None
    choices: tuple[int, ...] = (1, 5, 10)
    depths: tuple[int, ...] = ()
    dropout: float = 0.1

    fits: ClassVar[tuple[str, ...]] = ("vit",)
    needs: ClassVar[str] = "a plain vision transformer, whose blocks take further tokens"
    starts_unchanged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options; lists, as JSON has them, become tuples."""
        if self.subnet is not None:
            object.__setattr__(self, "subnet", as_subnet(self.subnet))
        for name in ("choices", "depths"):
            sizes = sorted(set(getattr(self, name)))
            if any(not is_whole(size) or size < 1 for size in sizes):
                raise ValueError(f"the {name} of noah are whole numbers from 1 on; got {sizes}")
            object.__setattr__(self, name, tuple(sizes))
        if not self.choices:
            raise ValueError("noah needs at least one size to choose")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"the dropout of noah lies in [0, 1); got {self.dropout}")

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Give each block its modules, at the largest size or at those of the subnet."""
        (tower,) = backbone.towers
        check_more_tokens("noah", model, tower)
        sizes = self.subnet or self._space(len(tower.blocks), tower.width).largest()
        if sizes.blocks != len(tower.blocks):
            raise ValueError(
                f"the subnet of noah has sizes for {sizes.blocks} blocks; the backbone has "
                f"{len(tower.blocks)}"
            )
        carried = 0
        for index, (block, *own) in enumerate(zip(tower.blocks, *sizes, strict=True)):
            is_last = index == len(tower.blocks) - 1
            carried = self._insert_in(model, block, own, carried, is_last=is_last)

    def before_forward(self, model: nn.Module, step: int, steps: int) -> None:
        """Choose the subnet that the step trains; torch's generator decides."""
        del step, steps
        if self.subnet is None:
            self.select(model, self.space(model).random())

    def after_step(
        self, model: nn.Module, step: int, steps: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Leave a supernet at its largest size, which is what an evaluation between steps sees."""
        del step, steps, optimizer
        if self.subnet is None:
            self.select(model, None)

    def space(self, model: nn.Module) -> Space:
        """Return the subnets of a supernet.

        Raises:
            ValueError: The model is none.
        """
        blocks = [module for module in model.modules() if isinstance(module, ElasticPrompts)]
        prompts = blocks[0].prompts if blocks else None
        if self.subnet is not None or prompts is None:
            raise ValueError("only a supernet has subnets: adapt a backbone with NOAH(subnet=None)")
        return self._space(len(blocks), prompts.shape[-1])

    def select(self, model: nn.Module, subnet: Subnet | None) -> None:
        """Make a supernet compute ``subnet`` alone from now on; None: the whole supernet.

        Raises:
            ValueError: It is not a subnet of this supernet.
        """
        sizes = subnet or self.space(model).largest()
        found = [[m for m in model.modules() if isinstance(m, kind)] for kind in LAYERS]
        for layers, row in zip(found, sizes, strict=True):
            if len(layers) != len(row) or any(
                size > layer.largest for layer, size in zip(layers, row, strict=True)
            ):
                raise ValueError(f"{sizes} is no subnet of this supernet")
        carried = 0
        for layers, row in zip(found, sizes, strict=True):
            for layer, size in zip(layers, row, strict=True):
                layer.size = size
                if isinstance(layer, ElasticPrompts):
                    layer.carried, carried = carried, size or carried

    def search(
        self,
        model: nn.Module,
        evaluate: Callable[[], float],
        *,
        budget: int,
        evolution: Evolution | None = None,
        generator: torch.Generator | None = None,
        known: dict[Subnet, float] | None = None,
        on_generation: Callable[[int], None] = lambda generation: None,
    ) -> Found:
        """Search a trained supernet for the best subnet; ``NOAH(subnet=found.subnet)`` trains it alone.

        Args:
            model: The supernet. It is left at its largest size.
            evaluate: Returns the score of the model as it is now, such as its accuracy on validation data.
            budget: The most trainable parameters that the subnet may have, without the head.
            evolution: Numbers of the search; None: the defaults.
            generator: Decides every draw, on the CPU.
            known: Scores found before, from which an interrupted search continues; new ones are added.
            on_generation: Called after each generation with its number.

        Raises:
            ValueError: The model is no supernet, or no subnet keeps to the budget.
        """

        def score(subnet: Subnet) -> float:
            self.select(model, subnet)
            return evaluate()

        space = self.space(model)
        try:
            return evolve(
                space,
                score,
                budget,
                evolution,
                generator=generator,
                known=known,
                on_generation=on_generation,
            )
        finally:
            self.select(model, None)

    def _space(self, blocks: int, width: int) -> Space:
        depths = tuple(sorted({min(depth, blocks) for depth in self.depths or (blocks,)}))
        return Space(blocks, width, self.choices, depths)

    def _insert_in(
        self, model: nn.Module, block: Block, sizes: list[int], carried: int, *, is_last: bool
    ) -> int:
        """Give one block its modules; return how many prompts it leaves in the sequence."""
        prompts, rank, bottleneck = sizes
        qkv = cast(nn.Linear, model.get_submodule(block.attention[0].path))
        like = qkv.weight
        if rank:
            lora = ElasticLoRA(qkv, rank, self.dropout)
            model.set_submodule(block.attention[0].path, lora)
        if bottleneck:
            path = _after_mlp(model, block)
            base = model.get_submodule(path)
            model.set_submodule(path, ElasticAdapter(base, bottleneck, self.dropout, like=like))
        if prompts or (is_last and carried):
            inner = model.get_submodule(block.path)
            wrapped = ElasticPrompts(inner, prompts, self.dropout, like=like, is_last=is_last)
            wrapped.carried = carried
            model.set_submodule(block.path, wrapped)
        return prompts or carried


def _after_mlp(model: nn.Module, block: Block) -> str:
    """Return the module after which the adapter comes: the stochastic depth of the MLP, or the MLP."""
    path = f"{block.path}.drop_path2"
    try:
        model.get_submodule(path)
    except AttributeError:
        return cast(str, block.mlp)
    return path


METHOD = NOAH
