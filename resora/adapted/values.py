"""Checks of the tensors of a file: the hash that was written with them, and that their values are finite."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def sha256_of(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of the names, types, shapes and bytes of tensors on the CPU."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_finite(source: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise a ``ValueError`` with the place of the first NaN or infinity.

    Args:
        source: What holds the tensors, for the message.
        tensors: By name, of any types.
    """
    for name, value in tensors.items():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        # Types of one byte have no isfinite.
        wrong = ~(value.float() if value.element_size() == 1 else value).isfinite()
        if wrong.any():
            place = tuple(wrong.nonzero()[0].tolist())
            raise ValueError(
                f"{source}: {name!r} is {value[place].item()} at {list(place)}; the file is damaged, or the "
                "training diverged"
            )


def check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Raise a ``ValueError`` unless tensors have the names, shapes and kinds of type that a model's have."""
    if wrong := sorted(own.keys() ^ tensors.keys()):
        raise ValueError(
            f"the state holds other tensors than the model: {', '.join(map(repr, wrong[:3]))}"
            + (f" and {len(wrong) - 3} more" if wrong[3:] else "")
        )
    for name, value in own.items():
        found = tensors[name]
        if value.shape != found.shape:
            shapes = f"{tuple(found.shape)}, not {tuple(value.shape)}"
            raise ValueError(f"the state has {name!r} in the shape {shapes}")
        if value.dtype != found.dtype and not (
            value.is_floating_point() and found.is_floating_point()
        ):
            raise ValueError(f"the state has {name!r} as {found.dtype}, not as {value.dtype}")
        if value.dtype != found.dtype:
            check_finite(f"as {value.dtype}", {name: found.to(value.dtype)})
