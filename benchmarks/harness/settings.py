"""How to run cells: folders, device, limits, and the settings that replace declared ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness import kinds
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import check_scale, declared
from benchmarks.harness.spec import Config, config_hash
from benchmarks.harness.store import State, Store

DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to run, the same for all cells; must travel to other processes.

    Attributes:
        scale: Name of the scale.
        results: Root of the records.
        data: Root of the packed data.
        work: Root of checkpoints.
        device: ``cpu``, ``cuda``, or ``auto``.
        threads: Threads of torch in each process.
        timeout_seconds: Limit for one cell; None for none.
        weights: The file of weights that a person gave, if any.
        overrides: Values that replace declared ones, by dotted name.
        caching: Compute features of what is frozen once, where a method allows it.
        waits: Begin no epoch of a training before the one before it is on disk.
        plain: Take no shortcut: none of the above, nor any other that changes no number but by rounding.
        side_by_side: Cells that share forward passes, at most, where they can; up to 1: none does.
    """

    scale: str
    results: Path = Path("results")
    data: Path = Path("data")
    work: Path = Path("work")
    device: str = "auto"
    threads: int = 1
    timeout_seconds: float | None = None
    weights: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    caching: bool = True
    waits: bool = False
    plain: bool = False
    side_by_side: int = 0

    def __post_init__(self) -> None:
        """Check what a person gave.

        Raises:
            UsageError: A value is of the wrong kind or out of its range.
        """
        check_scale(self.scale)
        if not DEVICE.fullmatch(self.device):
            raise UsageError(f"--device is {self.device!r}; it has to be cpu, cuda, cuda:N or auto")
        for name in ("threads", "timeout_seconds", "side_by_side"):
            option = f"--{name.replace('_', '-')}"
            kinds.OPTIONS[option].checked(option, getattr(self, name))
        object.__setattr__(self, "overrides", kinds.checked(self.overrides))

    @property
    def store(self) -> Store:
        """The store of this scale."""
        return Store(self.results, self.scale)

    def config(self, cell: Cell) -> Config:
        """Return the resolved configuration of a cell."""
        benchmark, scale = declared(cell, self.scale)
        return benchmark.config(cell, scale, self.overrides)

    def lock_of(self, cell: Cell) -> Path:
        """Return the file by which one process at a time is at work on a cell and its checkpoints."""
        return self.work.joinpath(self.scale, *cell.parts, "lock")

    def state(self, cell: Cell) -> State:
        """Return how the store stands to a cell's configuration."""
        benchmark, _ = declared(cell, self.scale)
        return self.store.state(cell, config_hash(self.config(cell)), benchmark.version)
