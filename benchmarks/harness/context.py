"""What a runner is given besides the cell and its configuration: folders, device, a voice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.cell import Cell


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where things are on this machine; nothing here may change a number.

    Attributes:
        data: Root of the packed data.
        work: Root of checkpoints, with the scale's name.
        device: ``cpu`` or ``cuda``.
        weights: The file of weights that a person gave, if any.
        on_epoch: Called after each epoch with the cell, the epoch and the number of epochs.
        caching: Keep features of what is frozen, where a method allows it.
        waits: Begin no epoch before the one before it is on disk.
        plain: Step by AdamW a tensor at a time, and round frozen matrices in each pass.
        recorded_stage1: Returns the sha256 of a base's checkpoint by its record; None: it has none.
    """

    data: Path
    work: Path
    device: str
    on_epoch: Callable[[Cell, int, int], None]
    weights: Path | None = None
    caching: bool = True
    waits: bool = False
    plain: bool = False
    recorded_stage1: Callable[[Cell], str | None] = lambda base: None

    def folder(self, cell: Cell) -> Path:
        """Return the folder for a cell's checkpoints."""
        return self.work.joinpath(*cell.parts)
