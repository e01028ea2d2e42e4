"""Finds the low-rank layers of a model: those of ``resora.petl``, of ``peft``, and the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from torch import nn

from resora import peft_layers
from resora.peft_layers import Untappable
from resora.petl.base import LowRankLayer


class NoLowRankLayer(ValueError):
    """A model has no layer that could be regularised."""


def low_rank_layers(model: nn.Module, exclude: Iterable[str] = ()) -> dict[str, LowRankLayer]:
    """Return the low-rank layers of ``model`` by name, in the order of its modules.

    A LoRA layer of ``peft`` is named after the layer that it adapts and its adapter, such as
    ``blocks.0.attn.qkv.default``.

    Args:
        model: Any module.
        exclude: Globs of names to skip, with or without the name of an adapter.

    Raises:
        NoLowRankLayer: There is none.
        ValueError: A glob of ``exclude`` matches nothing, or a LoRA layer of ``peft``
            cannot be recorded and is not excluded.
    """
    globs = [exclude] if isinstance(exclude, str) else list(exclude)
    unused = set(globs)
    layers: dict[str, LowRankLayer] = {}
    refused: dict[str, Untappable] = {}
    for module, name, layer in _candidates(model):
        matching = {g for g in globs if fnmatchcase(name, g) or fnmatchcase(module, g)}
        unused -= matching
        if matching:
            continue
        if isinstance(layer, Untappable):
            refused[name] = layer
        else:
            layers[name] = layer
    if unused:
        raise ValueError(
            f"exclude={sorted(unused)!r} matches no low-rank layer (found: "
            f"{_some([*layers, *refused])})"
        )
    if refused:
        raise ValueError(_refusal(refused))
    if not layers:
        raise NoLowRankLayer(
            f"{type(model).__name__} has no low-rank layer{' left' if globs else ''}. Looked for: modules "
            "with the methods `tap` and `factors` (resora.petl.LowRankLayer; resora's own LoRA has them) "
            "and LoRA layers of peft. Adapt the model first"
        )
    return layers


def _candidates(model: nn.Module) -> Iterator[tuple[str, str, LowRankLayer | Untappable]]:
    """Yield the name of the module, the name of the low-rank layer, and the layer."""
    known = peft_layers.adapter_names(model)
    closed: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, LowRankLayer):
            yield name, name, module
            continue
        prefix = f"{name}." if name else ""
        is_inside = any(name.startswith(outer) for outer in closed)
        for adapter, layer in peft_layers.adapters(module, known):
            if is_inside:
                reason = (
                    "it lies in a MultiheadAttention, which reads its weights and never calls it"
                )
                yield name, f"{prefix}{adapter}", Untappable(type(module).__name__, reason)
            else:
                yield name, f"{prefix}{adapter}", layer
        if peft_layers.merges_itself(module):
            closed.append(prefix)


def _refusal(refused: dict[str, Untappable]) -> str:
    first, *others = refused
    layer = refused[first]
    likewise = f" The same holds for {_some(others)}." if others else ""
    listed = ", ".join(map(repr, [first, *others[:2]])) + (", ..." if others[2:] else "")
    return (
        f"the peft layer {first!r} ({layer.kind}) cannot be regularised: {layer.reason}.{likewise} Choose "
        f"other target_modules, or leave it alone: ReSoRA(..., exclude=[{listed}])"
    )


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if names[3:] else "")
