"""Finds the low-rank layers of a model: those of ``resora.petl``, of ``peft``, and the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from resora import peft_layers
from resora.petl.base import LowRankLayer


class NoLowRankLayer(ValueError):
    """A model has no layer that could be regularised."""


def low_rank_layers(model: nn.Module, exclude: Iterable[str] = ()) -> dict[str, LowRankLayer]:
    """Return the low-rank layers of ``model`` by name, in the order of its modules.

    A LoRA layer of ``peft`` is named after the layer that it adapts and its adapter, such as
    ``blocks.0.attn.qkv.default``.

    Args:
        model: Any module.
        exclude: Globs of names to leave alone.

    Raises:
        NoLowRankLayer: There is none.
        ValueError: A glob of ``exclude`` matches nothing, or a LoRA layer of ``peft``
            cannot be listened to and is not excluded.
    """
    globs = list(exclude)
    unused = set(globs)
    layers: dict[str, LowRankLayer] = {}
    for name, module in model.named_modules():
        for found, layer in _layers_of(name, module):
            if matching := {glob for glob in globs if fnmatchcase(found, glob)}:
                unused -= matching
            elif isinstance(layer, peft_layers.Untappable):
                raise ValueError(layer.explain(found))
            else:
                layers[found] = layer
    if unused:
        raise ValueError(
            f"exclude={sorted(unused)!r} matches no low-rank layer (found: {_some(layers)})"
        )
    if not layers:
        raise NoLowRankLayer(
            f"{type(model).__name__} has no low-rank layer. Looked for: modules with the methods `tap` "
            "and `factors` (resora.petl.LowRankLayer; resora's own LoRA has them) and LoRA layers of "
            "peft. Adapt the model first"
        )
    return layers


def _layers_of(
    name: str, module: nn.Module
) -> list[tuple[str, LowRankLayer | peft_layers.Untappable]]:
    if isinstance(module, LowRankLayer):
        return [(name, module)]
    prefix = f"{name}." if name else ""
    return [(f"{prefix}{adapter}", layer) for adapter, layer in peft_layers.adapters(module)]


def _some(layers: Iterable[str]) -> str:
    names = list(layers)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
