"""What counts as one of the N samples: turns recorded activations into the ``z`` of a penalty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeVar

import torch
from torch import Tensor

Sample = Literal["token", "image", "class"]
OneMask = Tensor | Sequence[Tensor | None] | None
Mask = OneMask | Mapping[str, OneMask]
Images = int | Sequence[int] | None

_T = TypeVar("_T")


def mask_of(name: str, mask: Mask, names: Iterable[str]) -> OneMask:
    """Return the mask of a layer: among masks by glob, that of the first glob that matches its name, or None.

    Args:
        name: The layer.
        mask: What the regulariser was given.
        names: All layers.

    Raises:
        ValueError: A glob matches no layer, so that its mask would have no effect.
    """
    if not isinstance(mask, Mapping):
        return mask
    for glob in mask:
        if not any(fnmatchcase(other, glob) for other in names):
            raise ValueError(
                f"the glob {glob!r} of a mask matches no low-rank layer; one is called {name!r}"
            )
    return next((one for glob, one in mask.items() if fnmatchcase(name, glob)), None)


def samples(
    name: str, z: Sequence[Tensor], sample: Sample, mask: OneMask, images: Images
) -> tuple[Tensor, Tensor | None]:
    """Turn what a layer recorded into the N samples of a penalty.

    Args:
        name: The layer, for messages.
        z: Activations of each call of the layer, (M, B, ..., r).
        sample: ``token``: every position of every image; ``image``: the mean over an image's
            positions; ``class``: its first position.
        mask: (B, ...) with True where a position counts; one for all calls, or one for each forward pass.
        images: B, where the first dimension of ``z`` is not the image (windowed attention); one for
            all calls, or one for each forward pass.

    Returns:
        (M, N, r), and a mask (N,) or None; calls are joined along N.

    Raises:
        ValueError: The mask or the number of images does not fit.
        TypeError: The mask is neither boolean nor of integers.
    """
    masks = _for_each_call(name, "masks", mask, len(z))
    sizes = _for_each_call(name, "batch sizes", images, len(z))
    parts = [_samples(name, *call, sample) for call in zip(z, masks, sizes, strict=True)]
    joined = parts[0][0] if len(parts) == 1 else torch.cat([part for part, _ in parts], dim=1)
    if all(mask is None for _, mask in parts):
        return joined, None
    full = [p.new_ones(p.shape[1], dtype=torch.bool) if m is None else m for p, m in parts]
    return joined, torch.cat(full)


def check_batch_size(z: Mapping[str, Sequence[Tensor]]) -> None:
    """Raise a ``ValueError`` where some layers seem to see windows of the images that others see.

    Args:
        z: By layer, the activations of its calls, (M, B, ..., r). A layer may be called more than once
            in a forward pass.
    """
    sizes = {name: {one.shape[1] for one in calls} for name, calls in z.items()}
    fewest = min(sizes, key=lambda name: min(sizes[name]), default=None)
    for other, found in sizes.items():
        # A number that is no multiple belongs to another input, such as several texts for an image.
        known = sizes[fewest] if fewest is not None else set()
        if any(n % m == 0 for n in found - known for m in known):
            raise ValueError(
                f"layers disagree about the number of images ({fewest!r}: {_listed(known)}, "
                f"{other!r}: {_listed(found)}), as with attention in windows; pass that of the images, "
                "regularizer(batch_size=...), or choose sample='token'. If it is right, because inputs "
                "differ, make one regulariser for each, with exclude=[...]"
            )


def _listed(sizes: set[int]) -> str:
    return ", ".join(map(str, sorted(sizes)))


def _for_each_call(
    name: str, what: str, given: _T | Sequence[_T | None] | None, calls: int
) -> list[_T | None]:
    if not isinstance(given, (list, tuple)):
        return [given] * calls  # type: ignore[list-item]
    # A layer that is shared is called several times in each forward pass.
    times, rest = divmod(calls, max(1, len(given)))
    if rest or not times:
        raise ValueError(
            f"{len(given)} {what} for {calls} calls of {name!r} since the last step; pass one for "
            "each forward pass, or a single one for all"
        )
    return [one for one in given for _ in range(times)]


def _samples(
    name: str, z: Tensor, mask: Tensor | None, images: int | None, sample: Sample
) -> tuple[Tensor, Tensor | None]:
    mask = _checked(name, z, mask)
    if sample == "token":
        return z.flatten(1, -2), None if mask is None else mask.flatten()
    images = images or z.shape[1]
    positions = z.shape[1:-1].numel()
    if positions % images:
        raise ValueError(
            f"{name!r} saw {positions} positions, which {images} images cannot share equally; "
            "batch_size is the number of images of a forward pass"
        )
    matrices, rank = z.shape[0], z.shape[-1]
    if sample == "class":
        if z.ndim == 3:
            raise ValueError(
                f"sample='class' takes the first of an image's tokens, and {name!r} has no token "
                f"dimension: its activations are (matrices, ..., r) = {tuple(z.shape)}; exclude it, or "
                "take sample='image'"
            )
        first = z.reshape(matrices, images, -1, rank)[:, :, 0]
        return first, None if mask is None else mask.reshape(images, -1)[:, 0]
    # Means in float32, also under autocast.
    z = z if z.dtype == torch.float64 else z.float()
    tokens = z.reshape(matrices, images, -1, rank)
    if mask is None:
        return tokens.mean(2), None
    counts = mask.reshape(images, -1, 1)
    number = counts.sum(1)
    # Masked values may be NaN, and zero times NaN is not zero.
    return torch.where(counts, tokens, 0).sum(2) / number.clamp_min(1), number.flatten() > 0


def _checked(name: str, z: Tensor, mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    if mask.is_floating_point():
        raise TypeError(
            f"a mask is boolean, or 0 and 1, with True where a position counts; got {mask.dtype} (an "
            "additive attention mask, with 0 where it counts, would be read the wrong way round)"
        )
    if mask.shape != z.shape[1:-1]:
        raise ValueError(
            f"the mask has the shape {tuple(mask.shape)}, and {name!r} saw positions of the shape "
            f"{tuple(z.shape[1:-1])}; exclude=[...] layers that do not see every token"
        )
    return mask.to(z.device).bool()
