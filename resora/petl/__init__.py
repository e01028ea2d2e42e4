"""The parameter-efficient methods, one file each, and their names.

A name is a method, with ``-r<rank>`` where it has a rank: ``full``, ``linear``, ``lora-r8``. A file in this
folder is a method: ``vpt_deep.py`` is ``vpt-deep``. It names its class ``METHOD``; there is no list to edit.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from resora.petl.base import Factors, LowRankLayer, Mergeable, Method, Taps

__all__ = ["METHODS", "Factors", "LowRankLayer", "Mergeable", "Method", "Taps", "make_method"]

TYPES: dict[str, Any] = {
    "int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None),
}  # fmt: skip
NOT_METHODS = ("base", "layers")


class _Methods(Mapping[str, type[Method]]):
    """The methods by name, without the rank; a method's module is imported when it is asked for."""

    def __getitem__(self, name: str) -> type[Method]:
        if name not in list(self):
            raise KeyError(name)
        method: type[Method] = import_module(f"{__name__}.{name.replace('-', '_')}").METHOD
        return method

    def __iter__(self) -> Iterator[str]:
        found = (module.name for module in iter_modules(__path__))
        return iter(sorted(n.replace("_", "-") for n in found if n not in NOT_METHODS))

    def __len__(self) -> int:
        return len(list(iter(self)))


METHODS: Mapping[str, type[Method]] = _Methods()
"""The methods by name, without the rank."""


def make_method(name: str, **options: Any) -> Method:
    """Build the method called ``name``, for instance ``lora-r8``.

    Args:
        name: A key of ``METHODS``, followed by ``-r<rank>`` where the method has a rank.
        **options: Further options of the method, such as ``scale``.

    Raises:
        ValueError: There is no such method, a rank is missing or out of place, or an option is unknown or
            has a wrong value.
    """
    match = re.fullmatch(r"(?P<base>.+?)(?:-r(?P<rank>\d+))?", name)
    base, rank = (match["base"], match["rank"]) if match else (name, None)
    if base not in METHODS:
        near = difflib.get_close_matches(base, METHODS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown method {name!r}{hint} (known: {', '.join(METHODS)})")
    if rank is not None:
        options["rank"] = int(rank)
    method = METHODS[base]
    fields = {field.name: field for field in dataclasses.fields(method)}
    if unknown := [option for option in options if option not in fields]:
        if unknown == ["rank"]:
            raise ValueError(f"method {name!r} cannot be built: {base} has no rank")
        near = difflib.get_close_matches(unknown[0], fields, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"method {name!r} has no option {unknown[0]!r}{hint} (options: {', '.join(fields) or 'none'})"
        )
    for option, value in options.items():
        if not _is_of(value, declared := str(fields[option].type)):
            raise ValueError(
                f"the option {option!r} of {base} is of the type {declared}; got {repr(value)[:60]}"
            )
    if "rank" in fields and "rank" not in options and _is_required(fields["rank"]):
        raise ValueError(f"method {name!r} cannot be built: it needs a rank, such as {base}-r8")
    return method(**options)


def _is_of(value: object, declared: str) -> bool:
    """Say whether a value has a declared type, such as ``float | None``; True of types not in ``TYPES``."""
    names = declared.split(" | ")
    if not all(name in TYPES for name in names):
        return True
    if isinstance(value, bool):
        return "bool" in names
    is_finite = not isinstance(value, float) or math.isfinite(value)
    return is_finite and any(isinstance(value, TYPES[name]) for name in names)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
