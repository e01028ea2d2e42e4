"""The trained part of an adapted model: what a checkpoint of a method has to hold, and no more."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from resora.adapted.applied import applied_to
from resora.adapted.structure import restored_on_failure
from resora.adapted.values import check_fit


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what is trained, and the buffers that layers name in ``state_buffers``; detached, by name."""
    state = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    for path, module in model.named_modules():
        for buffer in getattr(module, "state_buffers", ()):
            state[f"{path}.{buffer}" if path else buffer] = module.get_buffer(buffer).detach()
    return state


@torch.no_grad()
def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into the trained part of a model that the same method has adapted.

    The method ``state_loaded()`` of layers that have it is called afterwards, so that they compute again what
    they derive from their buffers.

    Raises:
        ValueError: The names, shapes or types differ; nothing is changed.
    """
    copy_into(model, adapter_state(model), state)


@torch.no_grad()
def copy_into(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into a model's tensors of these names, and call ``state_loaded()``, or change nothing.

    Raises:
        ValueError: The names, shapes or types differ, or values do not fit into the model's type.
    """
    check_fit(own, state)
    applied = applied_to(model)
    changes_all = applied is not None and applied.method.changes_backbone
    with restored_on_failure(model, own.values(), all_values=changes_all):
        for name, value in own.items():
            value.copy_(state[name])
        for module in model.modules():
            if callable(loaded := getattr(module, "state_loaded", None)):
                loaded()
