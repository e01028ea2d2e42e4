"""Keeps the activations that low-rank layers hand over in the forward pass, until they are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Sample = Literal["token", "image", "class"]
Mask = Tensor | Sequence[Tensor] | None

TOO_MANY = 32
"""Forward passes without a call of the regulariser after which a warning is given."""


class Switch:
    """Says whether recorders keep what they are handed; one for all layers of a model."""

    def __init__(self, model: nn.Module | None = None) -> None:
        self._model = model
        self.is_on = False
        # Keep activations also in evaluation mode and without gradients, in order to measure.
        self.is_measuring = False

    @property
    def records_training(self) -> bool:
        """Whether forward passes that train are recorded."""
        return self.is_on and self._model is not None and self._model.training


class Recorder:
    """The activations of one layer since they were last taken, one tensor a forward pass.

    Attributes:
        z: Activations, each (M, ..., r).
        had_no_gradient: A pass ran without gradients, so its activations were of no use.
    """

    def __init__(self, name: str, switch: Switch) -> None:
        self.name = name
        self.z: list[Tensor] = []
        self.had_no_gradient = False
        self._switch = switch

    def __call__(self, z: Tensor) -> None:
        """Keep ``z``, if this is a pass that trains, or if somebody measures."""
        if self._switch.is_measuring:
            self.z.append(z)
        elif self._switch.records_training:
            if not torch.is_grad_enabled():
                self.had_no_gradient = True
            elif not _is_recomputation():
                self.z.append(z)
                self._warn_if_forgotten()

    def take(self) -> list[Tensor]:
        """Return what was kept and forget it."""
        kept, self.z, self.had_no_gradient = self.z, [], False
        return kept

    # Copies of a model, and its files, carry its hooks along; they must not carry activations.
    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return Recorder(self.name, Switch())

    def __reduce__(self) -> tuple[type[Recorder], tuple[str, Switch]]:
        return Recorder, (self.name, Switch())

    def _warn_if_forgotten(self) -> None:
        if len(self.z) == TOO_MANY and not torch.compiler.is_compiling():
            warnings.warn(
                f"{TOO_MANY} forward passes of {self.name!r} were recorded and the regulariser was "
                "not called; their graphs stay in memory. Call it in each step, or close() it",
                stacklevel=2,
            )


def _is_recomputation() -> bool:
    # Non-reentrant checkpointing calls the layers again inside the backward pass; the first call's
    # activations are the ones that carry the penalty's gradient. The compiler's own recomputation
    # calls no Python.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def samples(
    name: str,
    z: Sequence[Tensor],
    sample: Sample,
    masks: Sequence[Tensor | None],
    images: int | None,
) -> tuple[Tensor, Tensor | None]:
    """Turn what a layer recorded into the N samples of a penalty.

    Args:
        name: The layer, for messages.
        z: Activations of each forward pass, (M, B, ..., r).
        sample: ``token``: every position of every image; ``image``: the mean over an image's
            positions; ``class``: its first position.
        masks: For each pass, (B, ...) with True where a position counts, or None.
        images: B, where the first dimension of ``z`` is not the image (windowed attention).

    Returns:
        (M, N, r), and a mask (N,) or None; passes are joined along N.
    """
    if len(masks) != len(z):
        raise ValueError(
            f"{len(z)} forward passes of {name!r} were recorded; got {len(masks)} masks"
        )
    parts = [_samples(name, *pair, sample, images) for pair in zip(z, masks, strict=True)]
    joined = parts[0][0] if len(parts) == 1 else torch.cat([part for part, _ in parts], dim=1)
    if all(mask is None for _, mask in parts):
        return joined, None
    full = [p.new_ones(p.shape[1], dtype=torch.bool) if m is None else m for p, m in parts]
    return joined, torch.cat(full)


def _samples(
    name: str, z: Tensor, mask: Tensor | None, sample: Sample, images: int | None
) -> tuple[Tensor, Tensor | None]:
    if mask is not None:
        if mask.shape != z.shape[1:-1]:
            raise ValueError(
                f"the mask has the shape {tuple(mask.shape)}; the positions of {name!r} are "
                f"{tuple(z.shape[1:-1])}"
            )
        mask = mask.to(z.device).bool()
    if sample == "class":
        if z.ndim != 4:
            raise ValueError(
                f"sample='class' takes the first of an image's tokens, and {name!r} has no token "
                f"dimension: its activations are (matrices, ..., r) = {tuple(z.shape)}"
            )
        return z[:, :, 0], None
    if sample == "token":
        return z.flatten(1, -2), None if mask is None else mask.flatten()
    return _image_means(z, mask, images or z.shape[1])


def _image_means(z: Tensor, mask: Tensor | None, images: int) -> tuple[Tensor, Tensor | None]:
    matrices, rank = z.shape[0], z.shape[-1]
    z = z if z.dtype == torch.float64 else z.float()
    tokens = z.reshape(matrices, images, -1, rank)
    if mask is None:
        return tokens.mean(2), None
    counts = mask.reshape(images, -1, 1)
    total = torch.where(counts, tokens, 0).sum(2)
    number = counts.sum(1)
    return total / number.clamp_min(1), number.flatten() > 0
