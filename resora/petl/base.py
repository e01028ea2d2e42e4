"""What a parameter-efficient method is, and what a low-rank layer offers to the regulariser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn


class Subspaces(NamedTuple):
    """Activations and directions of the adapted matrices of one layer, of one forward pass.

    Attributes:
        z: (L, B, T, r): L matrices of one shape in this layer (q, k, v), B images, T tokens, rank r.
        b: (L, r, d): the rows are the directions b_i, the adapter's scale included.
    """

    z: Tensor
    b: Tensor


@runtime_checkable
class LowRankLayer(Protocol):
    """A layer whose update is a sum of rank-1 terms; what ``ReSoRA`` looks for in a model."""

    def tap(self, recording: bool) -> None:
        """Start or stop keeping the activations of each forward pass; stopping drops them."""

    def subspaces(self) -> Subspaces | None:
        """Return what the last forward pass left, or None when there was none since ``tap``."""

    def matrix_names(self) -> tuple[str, ...]:
        """Name the L adapted matrices of this layer, in the order of ``Subspaces.z``."""


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
