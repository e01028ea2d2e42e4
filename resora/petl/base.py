"""What a parameter-efficient method is, and what a low-rank layer offers to the regulariser."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from resora.adapted import applied
from resora.adapted.structure import restored_on_failure
from resora.backbones import Backbone, describe
from resora.backbones.vision import call_projections


class Factors(NamedTuple):
    """The low-rank factors of the adapted matrices of one layer.

    Attributes:
        b: (M, r, d_out): for each of M adapted matrices, the rows are the directions b_i.
        a: (M, r, d_in): the rows of the down-projection; None where the activations are not a linear
            map of the layer's input.
        scale: The factor of the update (alpha / r); the features are scale * z_i b_i.
        names: The M adapted matrices, such as ``("q", "k", "v")``; empty if there is one.
    """

    b: Tensor
    a: Tensor | None = None
    scale: float = 1.0
    names: tuple[str, ...] = ()


@runtime_checkable
class LowRankLayer(Protocol):
    """A layer whose update is a sum of rank-1 terms z_i b_i; what ``ReSoRA`` looks for in a model.

    The activations z are whatever the last projection of the update is applied to.
    """

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """From now on, call ``record`` with the activations of each forward pass.

        The activations have the shape (M, ..., r), with the dimensions of the layer's input in the
        middle, batch first. They must be the tensor that the forward pass uses, not a copy. ``Taps`` does the
        bookkeeping. A hook on the up-projection works too, but copies of the model contain it and then record
        for the original.

        Returns:
            A handle whose ``remove`` ends it.
        """

    def factors(self) -> Factors | None:
        """Return the factors, or None while the layer adds nothing (merged or switched off)."""


class Taps:
    """The callables that a layer hands its activations to, in the order in which they were added."""

    def __init__(self) -> None:
        # A list: torch.compile guards on the keys of a dictionary, and numbers of handles differ from
        # layer to layer, so that blocks that are compiled one by one could not share a graph.
        self._records: list[Callable[[Tensor], None]] = []

    def add(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Add one; the handle's ``remove`` takes it away."""
        self._records.append(record)
        return _TapHandle(self._records, record)

    # A copy of a model, also one in a file, is not recorded.
    def __reduce__(self) -> tuple[type[Taps], tuple[()]]:
        return Taps, ()

    def __call__(self, z: Tensor) -> None:
        """Hand ``z`` to all of them."""
        for record in self._records:
            record(z)


class _TapHandle(RemovableHandle):
    def __init__(
        self, records: list[Callable[[Tensor], None]], record: Callable[[Tensor], None]
    ) -> None:
        self._records = records
        self._record = record

    def remove(self) -> None:
        if any(one is self._record for one in self._records):
            self._records.remove(self._record)


@runtime_checkable
class Mergeable(Protocol):
    """A module that adapts another one and can be folded into it; what ``resora.merge`` looks for."""

    def merged(self) -> nn.Module:
        """Fold the update into the adapted module's weights; return that module."""


@dataclasses.dataclass(frozen=True)
class Method(ABC):
    """A parameter-efficient method: it freezes a backbone and adds or unfreezes what it trains.

    A method is a frozen dataclass whose fields are its options, of JSON's types. It keeps no state: what
    changes in training lies in the model, in parameters or in buffers that a layer names in
    ``state_buffers``, so that a checkpoint of the trained part has all of it.

    Attributes:
        fits: The kinds of backbone it can adapt (``resora.backbones.KINDS``, and ``attention``); empty: any
            model at all.
        needs: What the other kinds lack, for messages.
        is_mergeable: Whether ``resora.merge`` gives back a plain backbone with the same outputs.
        changes_backbone: Whether it changes values of the frozen backbone, when it is inserted or loaded.
        starts_unchanged: Whether the adapted backbone computes what it did before, until it is trained.
    """

    fits: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[str] = "a structure that it can adapt"
    is_mergeable: ClassVar[bool] = False
    changes_backbone: ClassVar[bool] = False
    starts_unchanged: ClassVar[bool] = True

    def adapt(self, model: nn.Module, head: str) -> None:
        """Change ``model`` in place so that what requires a gradient is what the method trains.

        Args:
            model: The backbone with a fresh task head, or a model that has them as submodules.
            head: Dotted name of the head's submodule, which is always trained; empty: there is none.

        Raises:
            ValueError: The method does not fit the backbone, or the model is adapted already. The model
                is then what it was before.
        """
        applied.check_plain(model)
        backbone = self._described(model)
        own = set(model.modules())
        with restored_on_failure(model, all_values=self.changes_backbone):
            try:
                applied.remember(model, self, head)
                freeze(model, but=head)
                call_projections(model, backbone)
                self.insert(model, backbone)
            except UNEXPECTED as error:
                raise ValueError(
                    f"{applied.name_of(self)} does not fit {type(model).__name__}: {error}"
                ) from error
        for module in model.modules():
            if module not in own:  # as if they had been there when the model's mode was set
                module.training = model.training

    @abstractmethod
    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Unfreeze or add what is trained, in place; all but the head is frozen already.

        Args:
            model: The model.
            backbone: Where its parts are; ``unknown`` for a method that fits any model.
        """

    def extra_loss(self, model: nn.Module) -> Tensor | None:
        """Return a term of the loss that belongs to the method, after the forward pass; None: none."""
        del model
        return None

    def before_forward(self, model: nn.Module, step: int, steps: int) -> None:
        """Do what has to be done before a step's forward pass.

        Args:
            model: The adapted model.
            step: Number of steps made so far.
            steps: How many the method's training has. In a later stage, where a schedule has run out,
                ``step`` equals ``steps``.
        """
        del model, step, steps

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Look at the gradients, before the optimizer's step."""
        del model, step, steps

    def after_step(
        self, model: nn.Module, step: int, steps: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Change the model after the optimizer's step; ``optimizer`` is there for its moments."""
        del model, step, steps, optimizer

    def options(self) -> dict[str, Any]:
        """Return the options by name, as JSON has them."""
        return dataclasses.asdict(self)

    @classmethod
    def refusal(cls, kind: str) -> str | None:
        """Say in one line why the method does not fit a kind of backbone; None where it does."""
        if not cls.fits or kind in cls.fits:
            return None
        return f"it needs {cls.needs} and does not fit {kind} (it fits: {', '.join(cls.fits)})"

    def _described(self, model: nn.Module) -> Backbone:
        if not self.fits:
            return Backbone(kind="unknown", towers=())
        backbone = describe(model)
        if (reason := self.refusal(backbone.kind)) is not None:
            raise ValueError(f"{applied.name_of(self)}: {reason}")
        return backbone


UNEXPECTED = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError)
"""Errors of ``insert`` where a backbone has other parts than its kind has."""


def freeze(model: nn.Module, *, but: str) -> None:
    """Let only the parameters of the submodule named ``but`` require a gradient; empty: none."""
    for name, parameter in model.named_parameters():
        is_kept = bool(but) and (name == but or name.startswith(f"{but}."))
        parameter.requires_grad_(is_kept)
