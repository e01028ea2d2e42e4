"""Prefix tuning (Li and Liang, 2021): trained keys and values ahead of those of the tokens, in every layer.

An MLP computes them from p vectors, p x d -> tanh(Linear(d, 512)) -> Linear(512, 2 L d), as in the
library adapter-transformers, whose defaults these are: 9,872,384 parameters on BERT-base. With
``bottleneck=0`` the keys and values are the parameters, 552,960 of them. The last linear layer is split into
one part for each attention; the first half of its outputs is the keys. In CLIP each tower has its own MLP. In
Swin every window has the prefix, and its layers have the widths of their stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from resora.backbones import Backbone, Block
from resora.petl.base import Method
from resora.petl.layers.prompts import ExtendedAttention, check_prompts, extend_attention, like


class PrefixVectors(nn.Module):
    """The part of the MLP that all layers of a tower share.

    Attributes:
        embedding: (p, d), drawn from N(0, 1).
        down: d -> m.
    """

    def __init__(self, length: int, width: int, bottleneck: int, weight: Tensor) -> None:
        """Draw the parameters on the device and in the type of ``weight``."""
        super().__init__()
        self.embedding = nn.Parameter(nn.init.normal_(weight.new_empty(length, width)))
        self.down = nn.Linear(width, bottleneck, device=weight.device, dtype=weight.dtype)

    def forward(self) -> Tensor:
        """Return (p, m)."""
        return torch.tanh(self.down(self.embedding))


class MadePrefix(nn.Module):
    """The keys and values of one layer, computed from the shared vectors."""

    def __init__(self, vectors: PrefixVectors, width: int, weight: Tensor) -> None:
        """Make keys and values of ``width`` channels, in the type of ``weight``."""
        super().__init__()
        # In a tuple, because the vectors belong to the tower and must not be registered here again.
        self._vectors = (vectors,)
        bottleneck = vectors.down.out_features
        self.up = nn.Linear(bottleneck, 2 * width, device=weight.device, dtype=weight.dtype)

    def forward(self, attention: ExtendedAttention, batch: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values in heads, (1, H, p, d / H) each."""
        del batch
        (vectors,) = self._vectors
        keys, values = self.up(vectors()).unsqueeze(0).chunk(2, dim=-1)
        return attention.in_heads(keys), attention.in_heads(values)


class PlainPrefix(nn.Module):
    """The keys and values of one layer as parameters, (2, p, d), drawn from N(0, 1)."""

    def __init__(self, length: int, width: int, weight: Tensor) -> None:
        """Draw them on the device and in the type of ``weight``."""
        super().__init__()
        self.keys_values = nn.Parameter(nn.init.normal_(weight.new_empty(2, length, width)))

    def forward(self, attention: ExtendedAttention, batch: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values in heads, (1, H, p, d / H) each."""
        del batch
        keys, values = attention.in_heads(self.keys_values).unsqueeze(1)
        return keys, values


@dataclass(frozen=True)
class Prefix(Method):
    """Trained keys and values in every attention.

    Attributes:
        length: Their number p.
        bottleneck: Width m of the MLP that computes them; 0: no MLP, they are parameters.
    """

    length: int = 30
    bottleneck: int = 512

    fits = ("vit", "swin", "bert", "clip")
    needs = "attention with keys and values"
    starts_unchanged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_prompts("prefix", self.length)
        if self.bottleneck != int(self.bottleneck) or self.bottleneck < 0:
            raise ValueError(
                f"the bottleneck of prefix is a positive integer, or 0 for none; got {self.bottleneck}"
            )

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Add a prefix to every attention, and to each tower the MLP that they share."""
        for tower in backbone.towers:
            weight = like(model, tower.blocks[0])
            vectors = None
            if self.bottleneck:
                vectors = PrefixVectors(self.length, tower.width, self.bottleneck, weight)
                model.get_submodule(tower.path).add_module("prefix", vectors)
            for block in tower.blocks:
                width = _key_width(model, block)
                prefix = (
                    PlainPrefix(self.length, width, weight)
                    if vectors is None
                    else MadePrefix(vectors, width, weight)
                )
                extend_attention(model, block, prefix)


def _key_width(model: nn.Module, block: Block) -> int:
    """Return the number of channels of all heads' keys."""
    place = block.attention[0]
    return cast(nn.Linear, model.get_submodule(place.path)).out_features // len(place.parts)


METHOD = Prefix
