"""Restores a model when a change to it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def restored_on_failure(
    model: nn.Module, values: Iterable[Tensor] = (), *, all_values: bool = False
) -> Iterator[None]:
    """Make a model what it was if the block raises.

    Its modules, their attributes, hooks and modes come back, and what requires a gradient.

    Args:
        model: The model.
        values: The parameters and buffers whose values may change. They are copied; no others are restored.
        all_values: Copy all parameters and buffers.
    """
    before = _Structure(model, [*model.parameters(), *model.buffers()] if all_values else values)
    try:
        yield
    except BaseException:
        before.restore()
        raise


class _Structure:
    """The modules of a model, their attributes, and some values."""

    def __init__(self, model: nn.Module, values: Iterable[Tensor]) -> None:
        self._trained = [(p, p.requires_grad) for p in model.parameters()]
        self._attributes = [
            (module, [(name, value, _copied(value)) for name, value in vars(module).items()])
            for module in model.modules()
        ]
        self._values = [(value, value.detach().clone()) for value in values]

    @torch.no_grad()
    def restore(self) -> None:
        for module, attributes in self._attributes:
            vars(module).clear()
            for name, value, kept in attributes:
                # In place: the handle of a hook finds its dictionary by reference.
                if isinstance(value, (dict, set)):
                    value.clear()
                    value.update(kept)
                elif isinstance(value, list):
                    value[:] = kept
                vars(module)[name] = value
        for parameter, was_trained in self._trained:
            parameter.requires_grad_(was_trained)
        for value, kept in self._values:
            value.copy_(kept)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, (dict, list, set)) else None
