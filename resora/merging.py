"""``merge``: folds adapters into the frozen weights, so that inference costs nothing more."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from resora.petl.base import LowRankLayer


def merge(model: nn.Module) -> nn.Module:
    """Fold every adapter into the layer that it adapts, and put that layer back in its place.

    The outputs stay the same up to rounding (in evaluation mode, where adapters have dropout), and
    the module tree is that of the model before it was adapted.

    Args:
        model: A model with LoRA layers of ``resora.petl`` or ``peft``; changed in place. Modules of your
            own take part if they have a method ``merged() -> nn.Module``.

    Returns:
        The model to go on with: the same, but for a ``PeftModel`` or a model that is itself an adapter.

    Raises:
        ValueError: There is nothing to merge, or a low-rank layer cannot be merged; nothing is changed.
    """
    _check(model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if _is_adapter(model):
        return _merged(model)
    for name, module in list(model.named_modules()):
        if name and _is_adapter(module):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, _merged(module))
    return model


def _check(model: nn.Module) -> None:
    found = [(name, module) for name, module in model.named_modules() if _is_adapter(module)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no low-rank layer to merge")
    for name, module in found:
        if isinstance(module, LowRankLayer) and not hasattr(module, "merged"):
            raise ValueError(
                f"{name!r} ({type(module).__name__}) has no method `merged() -> nn.Module`: it "
                "cannot be folded into a weight"
            )


def _is_adapter(module: nn.Module) -> bool:
    peft = sys.modules.get("peft.tuners.lora.layer")
    return isinstance(module, LowRankLayer) or (
        peft is not None and isinstance(module, peft.LoraLayer)
    )


def _merged(module: Any) -> nn.Module:
    if isinstance(module, LowRankLayer):
        merged: nn.Module = module.merged()  # type: ignore[attr-defined]
        return merged
    if hasattr(module, "unload_and_optionally_merge_module"):
        unloaded: nn.Module = module.unload_and_optionally_merge_module(
            merge=True, safe_merge=False, adapter_names=None
        )
        return unloaded
    module.merge()
    base: nn.Module = module.get_base_layer()
    return base
