"""Keeps the activations of low-rank layers from the forward pass until the penalty is computed."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

TOO_MANY = 32
"""Forward passes without a call of the regulariser after which a warning is given."""


class Switch:
    """Switches recording on and off; one for all layers of a model."""

    def __init__(self, model: nn.Module | None = None) -> None:
        self._model = model
        self.is_on = False
        # Keep activations also in evaluation mode and without gradients, in order to measure.
        self.is_measuring = False

    @property
    def records_training(self) -> bool:
        """Whether training forward passes are recorded."""
        return self.is_on and self._model is not None and self._model.training


class Pass:
    """The activations z of one forward pass, and the pass before it; z is None before the first."""

    # A chain and not a list: torch.compile guards on the length of a list, so that each further
    # pass before a call of the regulariser would be compiled anew.
    def __init__(self, z: Tensor | None = None, before: Pass | None = None) -> None:
        self.z = z
        self.before = before


class Recorder:
    """The activations of one layer since they were last cleared, one tensor a forward pass.

    Attributes:
        last: The last pass; setting it to an earlier one drops the later ones.
        had_no_gradient: A pass ran without gradients, so its activations were not kept.
    """

    def __init__(self, name: str, switch: Switch) -> None:
        self.name = name
        self.last = Pass()
        self.had_no_gradient = False
        self._switch = switch

    @property
    def z(self) -> list[Tensor]:
        """The activations of each pass, (M, ..., r), oldest first."""
        found: list[Tensor] = []
        at: Pass | None = self.last
        while at is not None and at.z is not None:
            found.append(at.z)
            at = at.before
        return found[::-1]

    def __call__(self, z: Tensor) -> None:
        """Keep ``z`` in a training pass, or while redundancy is measured."""
        if self._switch.is_measuring:
            self.last = Pass(_own(z), self.last)
        elif self._switch.records_training:
            if not torch.is_grad_enabled():
                self.had_no_gradient = True
            elif torch.compiler.is_compiling() or not _is_recomputation():
                self.last = Pass(_own(z), self.last)
                self._warn_if_forgotten()

    def forget(self) -> None:
        """Drop all activations."""
        self.last = Pass()
        self.had_no_gradient = False

    # Copies of a model, and its files, contain its hooks; they must not contain activations.
    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return Recorder(self.name, Switch())

    def __reduce__(self) -> tuple[type[Recorder], tuple[str, Switch]]:
        return Recorder, (self.name, Switch())

    def _warn_if_forgotten(self) -> None:
        if not torch.compiler.is_compiling() and len(self.z) == TOO_MANY:
            warnings.warn(
                f"{TOO_MANY} forward passes of {self.name!r} were recorded and the regulariser was "
                "not called; their graphs stay in memory. Call it in each step, or close() it",
                stacklevel=2,
            )


def _own(z: Tensor) -> Tensor:
    # A compiled function whose output is a view of something inside it makes the view anew in each
    # call, and torch 2.13 does it wrongly once it reads the function from its cache on disk
    # (pytorch issue 185630). The copy is fused with what computes z.
    return z.clone() if torch.compiler.is_compiling() else z


def _is_recomputation() -> bool:
    # Non-reentrant checkpointing calls the layers again inside the backward pass; the first call's
    # activations are the ones that carry the penalty's gradient.
    return torch._C._current_graph_task_id() != -1
