"""What is not finite is no result: checks that say where it is, each one pass over the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

LARGEST_PARAMETER = 1e6
"""No trained parameter of a usable model is larger; what is, overflows in the next products."""

NAMED = 3
"""So many rows or parameters are named, the others counted."""


class Diverged(Exception):
    """Training does not come to a usable model; the message says by which sign."""


def require_finite(values: Tensor, what: str) -> None:
    """Raise unless all numbers of a tensor are finite.

    Args:
        values: (N, ...).
        what: Its name, in the plural, for the message.

    Raises:
        Diverged: Some are not; the message has their rows.
    """
    require_rows(values.isfinite().flatten(1).all(1), what)


def require_rows(is_finite: Tensor, what: str) -> None:
    """Raise ``Diverged`` that names ``what`` and the rows, unless all of (N,) are true."""
    if bool(is_finite.all()):
        return
    rows = (~is_finite).nonzero().flatten().tolist()
    raise Diverged(
        f"{what} are not finite in {len(rows)} of {len(is_finite)} rows: {_some(list(map(str, rows)))}"
    )


def require_usable(parameters: Mapping[str, Tensor]) -> None:
    """Raise unless all parameters are finite and of a size that can be computed with.

    Raises:
        Diverged: Some are not; the message has their names.
    """
    kept = {name: value for name, value in parameters.items() if value.numel()}
    if not kept:
        return
    with torch.no_grad():
        largest = nn.utils.get_total_norm(list(kept.values()), math.inf)
        if float(largest) <= LARGEST_PARAMETER:  # false for NaN
            return
        sizes = {name: float(value.abs().max()) for name, value in kept.items()}
    wrong = [
        f"{name} ({size:.3g})" for name, size in sizes.items() if not size <= LARGEST_PARAMETER
    ]
    raise Diverged(
        f"parameters are not finite, or beyond {LARGEST_PARAMETER:g} in size: {_some(wrong)}"
    )


def require_finite_values(values: Mapping[str, float | None]) -> None:
    """Raise ``Diverged`` that names the first metric that is neither a finite number nor missing."""
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise Diverged(f"{name} is {value}")


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
