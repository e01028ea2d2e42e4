"""The trained part of an adapted model: what a checkpoint of a method has to hold, and no more."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


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

    Layers with a method ``state_loaded()`` are called afterwards: what they derive from their buffers
    has to be made anew.

    Raises:
        ValueError: The names or shapes differ; nothing is changed.
    """
    own = adapter_state(model)
    if wrong := sorted(own.keys() ^ state.keys()):
        raise ValueError(
            f"the state holds other parameters than the model trains: {', '.join(wrong[:3])}"
            + (f" and {len(wrong) - 3} more" if wrong[3:] else "")
        )
    for name, value in own.items():
        if value.shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(value.shape)}"
            raise ValueError(f"the state has {name!r} in the shape {shapes}")
    for name, value in own.items():
        value.copy_(state[name])
    for module in model.modules():
        if callable(loaded := getattr(module, "state_loaded", None)):
            loaded()
