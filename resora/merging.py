"""``merge``: folds adapters into the frozen weights, so that inference costs nothing more."""

from __future__ import annotations

import copy
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import nn

from resora.adapted import applied
from resora.petl.base import LowRankLayer, Mergeable

FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError)
"""Errors of layers that cannot be merged, such as peft's quantised or grouped ones."""


class _Place(NamedTuple):
    """A module and its place in a model; the root has no parent."""

    name: str
    module: nn.Module
    parent: nn.Module | None
    attribute: str


def merge(model: nn.Module) -> nn.Module:
    """Fold every adapter into the layer that it adapts, and put that layer back in its place.

    The outputs stay the same up to rounding (in evaluation mode, where adapters have dropout), and
    the module tree is that of the model before it was adapted. Adapters of ``peft`` that are not active
    are dropped.

    Args:
        model: A model with adapters of ``resora.petl`` or ``peft``; changed in place. Modules of your
            own take part if they have a method ``merged() -> nn.Module``. A model whose method adds no
            module, such as full fine-tuning, needs no merging.

    Returns:
        The merged model. It is the same object, except for a ``PeftModel``, a compiled model (compile it
        again) or a model that is itself an adapter.

    Raises:
        ValueError: There is nothing to merge, or an adapter cannot be merged without a change of the
            outputs; nothing is changed.
    """
    model = model._modules.get("_orig_mod") or model
    adapted = _adapted(model)
    places = [place for place in _places(model) if _is_adapter(place.module)]
    if not places and not adapted:
        raise ValueError(f"{type(model).__name__} has no adapter to merge")
    _check(model, places)
    for module in adapted:
        applied.forget(module)
    merged: dict[nn.Module, nn.Module] = {}
    for _, module, parent, attribute in places:
        if module not in merged:
            merged[module] = _fold(module)
        if parent is None:
            return merged[module]
        setattr(parent, attribute, merged[module])
    return _unwrapped(model)


def _adapted(model: nn.Module) -> list[nn.Module]:
    """Return the modules that a method is applied to; raise unless all of these can be merged."""
    found = [module for module in model.modules() if applied.applied_to(module) is not None]
    for module in found:
        mark = applied.applied_to(module)
        if mark is not None and not mark.method.is_mergeable:
            raise ValueError(
                f"{applied.name_of(mark.method)} cannot be merged: what it adds is no change of the "
                "backbone's weights"
            )
    return found


def _places(
    module: nn.Module, name: str = "", parent: nn.Module | None = None, attribute: str = ""
) -> Iterator[_Place]:
    """Yield the modules down to the adapters; a module that is used twice appears twice."""
    yield _Place(name, module, parent, attribute)
    if not _is_adapter(module):
        for key, child in module._modules.items():
            if child is not None:
                yield from _places(child, f"{name}.{key}" if name else key, module, key)


def _peft(module: str) -> ModuleType | None:
    return sys.modules.get(f"peft.{module}")


def _is_adapter(module: nn.Module) -> bool:
    if isinstance(module, LowRankLayer) or _folds(module):
        return True
    return _is_of_peft(module)


def _is_of_peft(module: nn.Module) -> bool:
    tuners, other = _peft("tuners.tuners_utils"), _peft("utils.other")
    return (tuners is not None and isinstance(module, tuners.BaseTunerLayer)) or (
        # A module that peft trains as a whole beside the adapters, such as a classifier.
        other is not None and isinstance(module, other.AuxiliaryTrainingWrapper)
    )


def _folds(module: nn.Module) -> TypeGuard[Mergeable]:
    # Layers of peft have an attribute of this name, a Boolean.
    return callable(getattr(module, "merged", None))


def _check(model: nn.Module, adapters: list[_Place]) -> None:
    """Raise unless all can be folded; folding is tried on a copy of each, one at a time."""
    users: defaultdict[nn.Parameter, dict[nn.Module, str]] = defaultdict(dict)
    for name, module, *_ in _places(model):
        for parameter in module.parameters(recurse=_is_adapter(module)):
            users[parameter][module] = name
    for name, module, *_ in adapters:
        try:
            reason = _reason_against(module) or _sharing(module, users)
        except FAILURES as error:
            raise ValueError(f"{name!r} cannot be merged: {error}") from error
        if reason is not None:
            raise ValueError(f"{name!r} ({type(module).__name__}) cannot be merged: {reason}")


def _reason_against(module: Any) -> str | None:
    if _folds(module):
        return None
    if isinstance(module, LowRankLayer):
        return "it has no method `merged() -> nn.Module`"
    if module.disable_adapters:
        return (
            "its adapters are switched off, and merging would switch them on; enable them first, or drop "
            "them by peft's unload()"
        )
    done = getattr(module, "merged_adapters", [])
    if done and set(module.active_adapters) - set(done):
        return f"only its adapters {done} are merged into the weight so far; unmerge them first"
    return None


def _sharing(module: nn.Module, users: dict[nn.Parameter, dict[nn.Module, str]]) -> str | None:
    """Say who else uses a parameter that folding alters, such as tied embeddings."""
    weights = list(module.parameters())
    copies: dict[int, Any] = {}
    kept = set(_fold(copy.deepcopy(module, copies)).parameters())
    for weight in weights:
        twin = copies[id(weight)]
        if twin in kept and not torch.equal(weight, twin):
            for other, name in users[weight].items():
                if other is not module:
                    return f"it shares its weight with {name!r}"
    return None


def _fold(module: Any) -> nn.Module:
    """Fold the update of an adapter, and of adapters inside it, into the weights; return the layer."""
    folded: nn.Module
    if not _is_of_peft(module):
        _fold_inside(module)
    if _folds(module):
        return module.merged()
    inner = getattr(module, "base_layer", None)
    if inner is not None and _is_adapter(inner):
        module.base_layer = _fold(inner)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All adapters are already merged")
        if hasattr(module, "unload_and_optionally_merge_module"):
            folded = module.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
        else:
            module.merge()
            folded = module.get_base_layer()
    return folded


def _fold_inside(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if _folds(child) or _is_of_peft(child):
            module._modules[name] = _fold(child)
        else:
            _fold_inside(child)


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model without peft's wrappers around it or its parts."""
    if _peft("peft_model") is None:
        return model
    model = _inner(model)
    for _, module, parent, attribute in list(_places(model)):
        if parent is not None and (inner := _inner(module)) is not module:
            setattr(parent, attribute, inner)
    for module in model.modules():
        if isinstance(vars(module).get("peft_config"), dict):
            del module.peft_config
        if vars(module).get("_hf_peft_config_loaded"):
            module._hf_peft_config_loaded = False  # type: ignore[assignment]
    return model


def _inner(module: Any) -> nn.Module:
    models = (sys.modules["peft"].PeftModel, sys.modules["peft"].PeftMixedModel)
    tuner = sys.modules["peft.tuners.tuners_utils"].BaseTuner
    # Prompt tuning has a PeftModel as well, whose base model is the model itself: it stays.
    while isinstance(module, tuner) or (
        isinstance(module, models) and isinstance(module.base_model, tuner)
    ):
        module = module.model if isinstance(module, tuner) else module.base_model
    kept: nn.Module = module
    return kept
