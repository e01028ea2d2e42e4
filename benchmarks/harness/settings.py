"""How to run cells: folders, device, limits, and the settings that replace declared ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.harness import kinds
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import check_scale, declared
from benchmarks.harness.spec import Config, config_hash
from benchmarks.harness.store import State, Store

DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


def option(help: str, **more: Any) -> dict[str, Any]:
    """Return what makes a field an option of the command lines (``options.add``).

    Args:
        help: What ``--help`` says.
        more: ``flag``, where that is not the field's name; ``old``, its earlier flag, which still works; all
            else goes to ``add_argument``.
    """
    return {"help": help, **more}


def flag_of(one: Field[Any]) -> str:
    """Return the flag of a field."""
    return str(one.metadata.get("flag", f"--{one.name.replace('_', '-')}"))


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
    results: Path = field(
        default=Path("results"), metadata=option("root of the records", type=Path)
    )
    data: Path = field(default=Path("data"), metadata=option("root of the packed data", type=Path))
    work: Path = field(default=Path("work"), metadata=option("root of checkpoints", type=Path))
    device: str = field(default="auto", metadata=option("cpu, cuda, or auto"))
    threads: int = field(default=1, metadata=option("threads of each process", type=int))
    timeout_seconds: float | None = field(
        default=None, metadata=option("time limit of one cell", type=float)
    )
    weights: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    caching: bool = field(
        default=True,
        metadata=option(
            "do not cache features of frozen parts: the same numbers, but slower",
            flag="--no-caching",
            action="store_false",
        ),
    )
    waits: bool = field(
        default=False,
        metadata=option(
            "wait for each checkpoint to be written (default: write it during the next epoch)",
            flag="--wait-for-checkpoints",
            action="store_true",
        ),
    )
    plain: bool = field(
        default=False,
        metadata=option(
            "turn all shortcuts off: cached features, checkpoints written during the next epoch, AdamW "
            "as one kernel, frozen matrices stored in bfloat16; the same numbers up to rounding",
            flag="--reference",
            old="--plain",
            action="store_true",
        ),
    )
    side_by_side: int = field(
        default=0,
        metadata=option(
            "train up to K LoRA cells of a task in one forward pass; for GPUs",
            flag="--batch-cells",
            old="--side-by-side",
            type=int,
            metavar="K",
        ),
    )

    def __post_init__(self) -> None:
        """Check what a person gave.

        Raises:
            UsageError: A value is of the wrong kind or out of its range.
        """
        check_scale(self.scale)
        if not DEVICE.fullmatch(self.device):
            raise UsageError(f"--device is {self.device!r}; it has to be cpu, cuda, cuda:N or auto")
        for one in fields(self):
            flag = flag_of(one)
            if flag in kinds.OPTIONS:
                kinds.OPTIONS[flag].checked(flag, getattr(self, one.name))
        if self.plain and self.side_by_side:
            raise UsageError(
                "--reference turns off all shortcuts, and --batch-cells is one: use one of them"
            )
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
