"""Adapters (Houlsby et al., 2019): a bottleneck behind the attention and one behind the MLP.

*Parameter-Efficient Transfer Learning for NLP*, arXiv 1902.00751. On ViT-B/16, 2 x 12 x (2 x 768 x 8 + 8 +
768) = 313,536 parameters at 8 dimensions; with one a block, 156,768, the row "Adapter" of NOAH's tables. On
BERT-base with a reduction of 16, 1,789,056, which with the retrieval head is the row "Adapter" of the
paper's Table 1.

What is different here: the up-projection starts at zero, so that the start is unchanged, where the paper
draws both from a narrow normal distribution; LayerNorms stay frozen, which the paper trains too; and in a
BERT the adapter comes before the dropout that follows the projection, which the paper's code has the other
way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from resora.backbones import Backbone, Block, Place
from resora.petl.base import Method
from resora.petl.layers.bottleneck import (
    ACTIVATIONS,
    Bottleneck,
    SequentialAdapter,
    check_bottleneck,
)


@dataclass(frozen=True)
class Adapter(Method):
    """A bottleneck behind a block's output projections, before the residual connection.

    Attributes:
        dim: Dimensions of the bottleneck.
        reduction: Instead of ``dim``, how many times narrower than the block it is, for backbones whose
            blocks differ in width; None: ``dim`` is used.
        per_block: 2: behind the attention's projection and behind the MLP; 1: behind the MLP alone (Pfeiffer
            et al., NOAH). A ConvNeXt block has no attention and gets one.
        activation: ``relu``, ``gelu`` or ``silu``.
        dropout: In the bottleneck, in training.
    """

    dim: int = 8
    reduction: int | None = None
    per_block: int = 2
    activation: str = "relu"
    dropout: float = 0.0

    fits = ("vit", "swin", "convnext", "bert", "clip")
    needs = "blocks with an MLP in a known place"

    def __post_init__(self) -> None:
        """Check the options."""
        check_bottleneck("the adapter", self.dim, self.dropout)
        if self.reduction is not None and self.reduction < 1:
            raise ValueError(f"the reduction of the adapter is at least 1; got {self.reduction}")
        if self.per_block not in (1, 2):
            raise ValueError(f"a block has 1 or 2 adapters; got per_block={self.per_block}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {self.activation!r} (known: {', '.join(ACTIVATIONS)})"
            )

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Put bottlenecks behind the projections."""
        for block in backbone.blocks:
            for place in self._places(block):
                self._wrap(model, place, block.width)

    def _places(self, block: Block) -> list[Place]:
        after_attention = [block.attention_out] if self.per_block == 2 else []
        return [place for place in (*after_attention, block.mlp_out) if place is not None]

    def _wrap(self, model: nn.Module, place: Place, width: int) -> None:
        base = cast(nn.Linear, model.get_submodule(place.path))
        dim = self.dim if self.reduction is None else max(1, width // self.reduction)
        bottleneck = Bottleneck(base.weight, width, dim, self.activation, self.dropout)
        model.set_submodule(place.path, SequentialAdapter(base, bottleneck))


METHOD = Adapter
