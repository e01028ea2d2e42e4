"""What a parameter-efficient method is, and what a low-rank layer offers to the regulariser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


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
        middle, batch first. They must be the tensor that the forward pass uses, not a copy. ``Taps``
        does the bookkeeping; a hook on the up-projection will do as well, but goes along into copies
        of the model, which then record for the original.

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

    # A copy of a model, also one in a file, is not the model that is being listened to.
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


class Method(ABC):
    """A parameter-efficient method: it freezes a backbone and adds or frees what it trains."""

    @abstractmethod
    def adapt(self, model: nn.Module, head: str) -> None:
        """Change ``model`` in place so that what requires a gradient is what the method trains.

        Args:
            model: The backbone with a fresh task head.
            head: Name of the head's submodule; the head is always trained.
        """


def freeze(model: nn.Module, *, but: str) -> None:
    """Let only the parameters of the submodule named ``but`` require a gradient."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == but or name.startswith(f"{but}."))
