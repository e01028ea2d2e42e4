"""The adapted matrices that take part in a step, and their grouping into batches of one shape."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from resora.petl.base import Factors


class Matrices(NamedTuple):
    """The M adapted matrices of one layer in one step.

    Attributes:
        names: The name of each matrix.
        z: Samples, (M, N, r).
        mask: Samples that count, (N,), or None.
        b: Directions, (M, r, d), without the scale.
        scale: The factor of the update.
    """

    names: list[str]
    z: Tensor
    mask: Tensor | None
    b: Tensor
    scale: float


def names_of(layer: str, factors: Factors) -> list[str]:
    """Return the name of each adapted matrix of ``layer``."""
    return [f"{layer}.{matrix}" for matrix in factors.names] or (
        [layer] if len(factors.b) == 1 else [f"{layer}.{m}" for m in range(len(factors.b))]
    )


def of_weights(layer: str, factors: Factors) -> Matrices:
    """Return the matrices W_i = b_i a_i^T in place of features: the input dimensions are the samples."""
    if factors.a is None:
        raise ValueError(
            f"space='weight' needs the rows of the down-projection, and {layer!r} has none (its "
            f"activations are no linear map of its input); leave it out with exclude=[{layer!r}]"
        )
    return Matrices(names_of(layer, factors), factors.a.mT, None, factors.b, factors.scale)


def by_shape(found: list[Matrices], *, is_shared: bool) -> list[list[Matrices]]:
    """Group the matrices that can be computed as one batch.

    Args:
        found: The matrices of all layers.
        is_shared: Whether several processes hold parts of the samples. They may hold different numbers, but
            must form the same groups, so that the grouping does not look at the number of samples.
    """
    groups: defaultdict[tuple[object, ...], list[Matrices]] = defaultdict(list)
    for one in found:
        differing = () if is_shared else (one.z.shape[1], one.mask is None)
        same = (one.z.shape[-1], one.b.shape[1:], one.z.dtype, one.b.dtype, one.z.device, one.scale)
        groups[*same, *differing].append(one)
    return list(groups.values())


def joined(group: list[Matrices]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return z (L, N, r), b (L, r, d) with the scale, and the mask (L, N) or None, of a group."""
    b = torch.cat([one.b for one in group])
    if group[0].scale != 1:
        b = group[0].scale * b
    longest = max(one.z.shape[1] for one in group)
    z = torch.cat([_padded(one.z, longest) for one in group])
    if all(one.mask is None and one.z.shape[1] == longest for one in group):
        return z, b, None
    return z, b, torch.cat([_mask(one, longest) for one in group])


def _padded(z: Tensor, longest: int) -> Tensor:
    missing = longest - z.shape[1]
    return functional.pad(z, (0, 0, 0, missing)) if missing else z


def _mask(one: Matrices, longest: int) -> Tensor:
    count = one.z.shape[1]
    mask = one.z.new_ones(count, dtype=torch.bool) if one.mask is None else one.mask
    return functional.pad(mask, (0, longest - count)).expand(len(one.z), -1)
