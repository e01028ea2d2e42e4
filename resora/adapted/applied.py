"""The note on a model that says which method adapted it, where its head is, and what it was before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

ATTRIBUTE = "_resora_applied"
SAMPLED = 256
"""Values of each tensor in a fingerprint. A few are enough: two trainings differ in nearly all of them."""


class Adapting(Protocol):
    """What this package needs of a method of ``resora.petl``, which itself needs this package."""

    changes_backbone: ClassVar[bool]
    """Whether the method changes values of the backbone."""

    is_mergeable: ClassVar[bool]
    """Whether ``resora.merge`` can fold the method in."""

    def adapt(self, model: nn.Module, head: str) -> None:
        """Change a model in place."""

    def options(self) -> dict[str, Any]:
        """Return the options by name, as they can be stored in JSON."""


@dataclass(frozen=True)
class Applied:
    """A method as it was applied to a model.

    Attributes:
        method: The method, with its options.
        head: Dotted name of the task head; empty if there is none.
        backbone: Fingerprint of the backbone before it was adapted, its head left out; empty for a model
            without values (on the meta device).
    """

    method: Adapting
    head: str
    backbone: str


def name_of(method: Adapting) -> str:
    """Return the name by which ``make_method`` knows a method, such as ``lora-r8``."""
    family = type(method).__module__.rpartition(".")[2].replace("_", "-")
    rank = getattr(method, "rank", None)
    return family if rank is None else f"{family}-r{rank}"


def applied_to(model: nn.Module) -> Applied | None:
    """Return what was applied to ``model``; None for a plain one."""
    found: Applied | None = vars(model).get(ATTRIBUTE)
    return found


def check_plain(model: nn.Module) -> None:
    """Raise a ``ValueError`` if the model is adapted already."""
    if (found := applied_to(model)) is not None:
        raise ValueError(
            f"{type(model).__name__} is adapted already, by {name_of(found.method)}; build the backbone "
            "anew, or merge it first (resora.merge)"
        )


def remember(model: nn.Module, method: Adapting, head: str) -> None:
    """Note on ``model`` that ``method`` is applied to it now."""
    vars(model)[ATTRIBUTE] = Applied(method, head, fingerprint(model, head))


def forget(model: nn.Module) -> None:
    """Note that the model is plain again."""
    vars(model).pop(ATTRIBUTE, None)


@torch.no_grad()
def fingerprint(model: nn.Module, head: str) -> str:
    """Return a hash of a plain model's weights, without its head.

    Names, shapes and up to 256 values of each parameter enter, so that it takes milliseconds.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if head and (name == head or name.startswith(f"{head}.")):
            continue
        if parameter.is_meta:
            return ""
        digest.update(f"{name} {tuple(parameter.shape)} ".encode())
        digest.update(_sample(parameter))
    return digest.hexdigest()[:16]


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().flatten()
    every = max(1, len(flat) // SAMPLED)
    values: bytes = flat[::every][:SAMPLED].float().cpu().contiguous().numpy().tobytes()
    return values
