"""What a method is compared with: the stage-1 method that it starts from, and the control."""

from __future__ import annotations

from benchmarks.harness.cell import parse_method

CONTROL = "control"


def base_of(method: str) -> str | None:
    """The stage-1 method that a stage-2 method starts from; None for a stage-1 method."""
    name = parse_method(method)
    return name.base if name.suffix else None


def control_of(method: str) -> str | None:
    """The stage-2 control that a method with a penalty is compared with; None for all others."""
    name = parse_method(method)
    return f"{name.base}+{CONTROL}" if name.suffix and name.suffix != CONTROL else None


def rivals_of(method: str) -> dict[str, str]:
    """What a method is compared with, as ``base`` and as ``control``."""
    found = {"base": base_of(method), "control": control_of(method)}
    return {name: rival for name, rival in found.items() if rival is not None}
