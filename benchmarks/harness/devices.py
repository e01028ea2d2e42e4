"""Devices: the one that ``auto`` stands for, the one of a cell, and whether this machine has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from benchmarks.harness import provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import benchmark_named
from benchmarks.harness.settings import Settings


def at_hand(cells: Iterable[Cell], settings: Settings) -> tuple[list[Cell], Counter[str]]:
    """Return the cells whose device is at hand, and how many are left out for want of each device."""
    here: list[Cell] = []
    absent: Counter[str] = Counter()
    for cell in cells:
        wanted = _wanted_device(cell)
        if wanted is None or _is_at_hand(wanted, settings.device):
            here.append(cell)
        else:
            absent[wanted] += 1
    return here, absent


def default_device(name: str) -> str:
    """Return the device that ``auto`` stands for on this machine; another name stands for itself."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def require_device(name: str) -> None:
    """Raise a ``UsageError`` unless this machine has a device."""
    if not name.startswith("cuda"):
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError(
            f"--device {name}: torch finds no GPU on this machine; --device cpu runs here"
        )
    if int(name.partition(":")[2] or 0) >= count:
        raise UsageError(
            f"--device {name}: this machine has {count} GPUs, cuda:0 to cuda:{count - 1}"
        )


def kind_of(device: str) -> str:
    """Return the name of the GPU, or of the processor for the device ``cpu``."""
    hardware = provenance.hardware("cuda" if device.startswith("cuda") else "cpu")
    return str(hardware["gpu"] or hardware["cpu"])


def _wanted_device(cell: Cell) -> str | None:
    return benchmark_named(cell.benchmark).task(cell.task).device


def device_of(cell: Cell, asked: str) -> str:
    """Return the device of a cell in a run on the one ``asked`` for."""
    wanted = _wanted_device(cell)
    return default_device(asked) if wanted is None or asked.startswith(wanted) else wanted


def _is_at_hand(wanted: str, asked: str) -> bool:
    """Whether this machine has the device, and a run on the one ``asked`` for includes it."""
    if asked != "auto" and not asked.startswith(wanted):
        return False
    return wanted == "cpu" or default_device("auto") == wanted
