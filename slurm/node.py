"""What a job does on its node. It reads the records first, so a second start runs only missing cells."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import INCOMPLETE
from benchmarks.harness.execute import Event, Settings, pending
from benchmarks.harness.progress import Pace
from benchmarks.harness.workers import run_many
from data_prep.terminal import print_what_it_can


@dataclass
class RunCells:
    """Run cells one after the other. A cell that fails leaves a record, and the others continue.

    Before the time limit and on preemption Slurm sends a signal, at which submitit calls ``checkpoint`` and
    has the job requeued. The trainer saves after each epoch, so that no more than one is lost.
    """

    cells: Sequence[Cell]
    settings: Settings

    def __call__(self) -> dict[str, str]:
        """Run what has no fresh record; return the state of each cell."""
        print_what_it_can()
        todo = pending(self.cells, self.settings)
        say(f"{len(self.cells)} cells, {len(self.cells) - len(todo)} done before")
        # A job that waited for another would hold its GPU for nothing.
        run_many(todo, self.settings, 1, Log().tell, waits=False)
        return {str(cell): self.settings.state(cell).value for cell in self.cells}

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Return what runs after a requeue: the same, since the progress is in the store."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


@dataclass
class BuildTables:
    """Build tables and figures from the records; holes in them are no error."""

    scale: str
    results: Path
    out: Path

    def __call__(self) -> int:
        """Build; return the exit code."""
        command = [sys.executable, "-m", "reports", "build", "--scale", self.scale]
        command += ["--results", str(self.results), "--out", str(self.out)]
        code = subprocess.run(command, check=False).returncode
        if code not in (0, INCOMPLETE):
            raise RuntimeError(f"{' '.join(command)} ended with {code}")
        return code

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Return what runs after a requeue."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def say(text: str) -> None:
    """Write a line into the job's log at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Log:
    """Writes the end of every cell into the job's log, and an epoch when a line of progress is due."""

    def __init__(self) -> None:
        self._pace = Pace()

    def tell(self, event: Event) -> None:
        """Handle an event of a cell."""
        if event.note is not None:
            say(event.note)
        elif event.status is None:
            if self._pace.is_due():
                say(f"{event.cell} epoch {event.epoch} of {event.epochs}")
        else:
            if event.trace:
                say(event.trace.rstrip())  # before the line that ends the cell's part of the log
            say(f"{event.cell} {event.status}{': ' + event.error if event.error else ''}")
