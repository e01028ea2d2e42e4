"""The parameter-efficient methods, one file each, and their names.

A name is a method, with ``-r<rank>`` where it has a rank: ``full``, ``linear``, ``lora-r8``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from resora.petl.base import Factors, LowRankLayer, Method, Taps
from resora.petl.full import Full
from resora.petl.linear import Linear
from resora.petl.lora import LoRA

__all__ = ["METHODS", "Factors", "LowRankLayer", "Method", "Taps", "make_method"]

METHODS: dict[str, Callable[..., Method]] = {"full": Full, "linear": Linear, "lora": LoRA}
"""The methods by name, without the rank."""


def make_method(name: str, **options: float) -> Method:
    """Build the method called ``name``, for instance ``lora-r8``.

    Args:
        name: A key of ``METHODS``, followed by ``-r<rank>`` where the method has a rank.
        **options: Further arguments of the method, such as ``scale``.

    Raises:
        ValueError: There is no such method, or a rank is missing or out of place.
    """
    match = re.fullmatch(r"(?P<base>.+?)(?:-r(?P<rank>\d+))?", name)
    base, rank = (match["base"], match["rank"]) if match else (name, None)
    if base not in METHODS:
        near = difflib.get_close_matches(base, METHODS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown method {name!r}{hint} (known: {', '.join(METHODS)})")
    if rank is not None:
        options["rank"] = int(rank)
    try:
        return METHODS[base](**options)
    except TypeError as error:
        raise ValueError(f"method {name!r} cannot be built: {error}") from error
