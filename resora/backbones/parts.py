"""The description of a backbone: its towers, their blocks, and the layers in the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, NamedTuple

from torch import nn


class UnknownBackbone(ValueError):
    """A model has none of the structures that ``describe`` knows."""


class Place(NamedTuple):
    """A linear layer that a method may adapt.

    Attributes:
        path: Dotted name in the model.
        parts: Names of the equal parts of its outputs, each one matrix: ``("q", "k", "v")`` for a fused
            projection, ``("q",)`` for a separate one.
    """

    path: str
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a tower. All paths are dotted names in the model.

    Attributes:
        path: Of the block itself.
        width: Its number of channels d.
        stage: Index of its stage; 0 where a tower has one width throughout.
        attention: Query, key and value projections, fused or not; empty without attention.
        attention_core: The attention module, whose input is normalised tokens: ``attn`` in timm. None without
            attention.
        attention_out: The projection of the attention's output.
        mlp: The module that maps the MLP's input to its output; None where no single module does (BERT).
        mlp_in: The MLP's first layer, d -> 4 d.
        mlp_out: Its second layer, 4 d -> d.
        norms: The block's LayerNorms, in the order of the forward pass.
        heads: Attention heads; 0 without attention.
    """

    path: str
    width: int
    stage: int = 0
    attention: tuple[Place, ...] = ()
    attention_core: str | None = None
    attention_out: Place | None = None
    mlp: str | None = None
    mlp_in: Place | None = None
    mlp_out: Place | None = None
    norms: tuple[str, ...] = ()
    heads: int = 0

    @property
    def linears(self) -> tuple[Place, ...]:
        """All linear layers of the block, in the order of the forward pass."""
        others = (self.attention_out, self.mlp_in, self.mlp_out)
        return (*self.attention, *(place for place in others if place is not None))


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A stack of blocks with what comes before and after.

    Attributes:
        name: ``vision`` or ``text`` where a model has both, else empty.
        path: Of the module that holds it; empty if that is the model itself.
        blocks: In the order of the forward pass.
        layout: How a block's input is laid out: ``tokens`` (B, T, d), ``grid`` (B, H, W, d) or ``image``
            (B, d, H, W).
        prefix: Number of tokens before those of the patches, such as the class token; None: not known.
        takes_more_tokens: Whether the blocks take any number of tokens: their attention has no relative or
            rotary positions, and nothing in them depends on the grid of patches.
        embedding: The convolution that embeds patches; None for text.
        norms: The LayerNorms outside blocks, in the order of the forward pass, the last one at the end.
        merging: Linear layers or convolutions between stages, which reduce the resolution.
    """

    name: str = ""
    path: str = ""
    blocks: tuple[Block, ...]
    layout: Literal["tokens", "grid", "image"] = "tokens"
    prefix: int | None = 0
    takes_more_tokens: bool = True
    embedding: str | None = None
    norms: tuple[str, ...] = ()
    merging: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """The number of channels after the last block."""
        return self.blocks[-1].width

    def stages(self) -> list[tuple[Block, ...]]:
        """The blocks by stage."""
        indices = sorted({block.stage for block in self.blocks})
        return [tuple(b for b in self.blocks if b.stage == index) for index in indices]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A description of a backbone.

    Attributes:
        kind: ``vit``, ``swin``, ``convnext``, ``bert``, ``clip``; ``attention`` for another model with fused
            query, key and value projections; ``unknown`` where a method does not need to know.
        towers: One, or for CLIP two.
    """

    kind: str
    towers: tuple[Tower, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of all towers."""
        return tuple(block for tower in self.towers for block in tower.blocks)


def below(path: str, *names: str) -> str:
    """Join dotted names; the model itself has the empty one."""
    return ".".join(filter(None, (path, *names)))


def children(module: nn.Module, name: str) -> list[nn.Module]:
    """The modules in the list or sequence called ``name``; none if there is no such thing."""
    found = getattr(module, name, None)
    return list(found) if isinstance(found, (nn.Sequential, nn.ModuleList)) else []


def takes_only(function: Callable[..., Any], allowed: tuple[str, ...]) -> bool:
    """Whether a function has no parameter but the ``allowed`` ones."""
    return set(signature(function).parameters) <= set(allowed)


def named_if_there(module: nn.Module, path: str, names: tuple[str, ...]) -> Iterator[str]:
    """The paths of those of ``names`` that are submodules with parameters."""
    for name in names:
        try:
            found = module.get_submodule(name)
        except AttributeError:
            continue
        if next(found.parameters(), None) is not None:
            yield below(path, name)
