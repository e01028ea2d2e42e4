"""Checks of what a user hands to ``ReSoRA``, with messages that say what to do."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from resora.petl.base import Factors


def check_choice(name: str, value: object, known: tuple[str | None, ...]) -> None:
    """Raise a ``ValueError`` if ``value`` is not one of the names in ``known``."""
    if value not in known:
        names = [one for one in known if one is not None]
        raise ValueError(
            f"unknown {name} {value!r}{_nearest(value, names)} (known: {', '.join(names)})"
        )


def check_weight(weight: float, warmup_steps: int) -> None:
    """Raise a ``ValueError`` unless the weight is finite and >= 0, and the warm-up an integer >= 0."""
    # Written so that NaN is refused, which compares false with everything.
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"the weight is a finite number, zero or more; got {weight!r}")
    if warmup_steps < 0 or warmup_steps != int(warmup_steps):
        raise ValueError(f"warmup_steps is a number of steps, zero or more; got {warmup_steps!r}")


def check_options(
    name: str, function: Callable[..., Tensor], options: Mapping[str, Any], others: Iterable[str]
) -> None:
    """Raise a ``TypeError`` if ``function`` has no such option.

    Args:
        name: The penalty.
        function: Called with (z, b, **options).
        options: Keyword arguments.
        others: Names that are not options of the penalty; a misspelt name is compared with these as well.
    """
    if "mask" in options:
        raise TypeError("a mask belongs to a batch: give it to the call, regularizer(mask=...)")
    known = keywords(function)
    if known is None:
        return
    known = [one for one in known if one not in ("mask", "group")]
    for option in options:
        if option not in known:
            listed = f"options: {', '.join(known)}" if known else "it has none"
            raise TypeError(
                f"penalty {name!r} has no option {option!r}{_nearest(option, [*known, *others])} "
                f"({listed})"
            )


def keywords(function: Callable[..., Tensor]) -> list[str] | None:
    """Return the keyword arguments of ``function`` besides (z, b); None if it takes any (``**options``)."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some callables that are not written in Python have no signature
        return None
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        one.name
        for place, one in enumerate(parameters)
        if one.kind in kinds and (place >= 2 or one.kind is one.KEYWORD_ONLY)
    ]


def check_values(function: Callable[..., Tensor], options: Mapping[str, Any]) -> None:
    """Call the penalty on small tensors, so that it refuses wrong values before training starts."""
    with torch.no_grad():
        function(torch.eye(3)[:, :2], torch.eye(2), **options)


def check_factors(name: str, factors: Factors | None) -> None:
    """Raise a ``ValueError`` if the factors of the layer ``name`` have shapes that do not fit."""
    if factors is None:
        return
    b, a, names = factors.b, factors.a, factors.names
    if b.ndim != 3:
        raise ValueError(
            f"factors() of {name!r}: b is (matrices, r, d_out), also for a single matrix; "
            f"got {tuple(b.shape)}"
        )
    if a is not None and (a.ndim != 3 or a.shape[:2] != b.shape[:2]):
        raise ValueError(
            f"factors() of {name!r}: a is (matrices, r, d_in), with the matrices and the rank of b "
            f"{tuple(b.shape)}; got {tuple(a.shape)}"
        )
    if names and len(names) != len(b):
        raise ValueError(f"factors() of {name!r}: {len(names)} names for {len(b)} matrices")


def check_recorded(name: str, z: Tensor, b: Tensor) -> None:
    """Raise a ``ValueError`` if activations do not have the shape that goes with b (M, r, d)."""
    matrices, rank = b.shape[:2]
    if z.ndim < 3 or z.shape[0] != matrices or z.shape[-1] != rank:
        raise ValueError(
            f"{name!r} recorded activations of the shape {tuple(z.shape)}; with b {tuple(b.shape)} they "
            f"are (matrices, batch, ..., r) = ({matrices}, ..., {rank})"
            + ("; for a single matrix, record(z[None])" if matrices == 1 else "")
        )


def _nearest(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
