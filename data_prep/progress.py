"""Progress: a bar in a terminal; elsewhere, as in the log of a job, a line every ten seconds at most."""

from __future__ import annotations

import os
import time
from typing import Any

from tqdm import tqdm

VARIABLE = "PROGRESS_SECONDS"
"""Environment variable: the least seconds between two lines of a log."""


class Pace:
    """Says when the next line of a log is due: the first, too, only after a while."""

    def __init__(self) -> None:
        """Start the clock."""
        self.seconds = _seconds(os.environ.get(VARIABLE) or "10")
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time for a line; if so, the next one has to wait."""
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SystemExit(f"error: {VARIABLE}={text!r} is not a number of seconds") from None


_LINE = "{desc}{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_pace = Pace()
"""All bars of a process share it."""


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar of tqdm, which takes the same arguments; where there is no terminal, lines instead."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._is_live = False  # tqdm's __init__ draws, before it is known where
        super().__init__(*args, **{"dynamic_ncols": True, **options})
        self._is_live = self.fp.isatty()
        if self._is_live:
            self.refresh()
        else:
            self.bar_format, self.dynamic_ncols, self.ncols = _LINE, None, None
            self.set_description(self.desc.removesuffix(": "), refresh=False)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or write a line if one is due."""
        if self._is_live:
            super().display(msg, pos)
        elif self.bar_format and _pace.is_due():
            self.fp.write(f"{self}\n")
            self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        """Take the bar off the terminal."""
        if self._is_live:
            super().clear(nolock=nolock)

    def close(self) -> None:
        """Leave the bar as it is, or remove it if it is not to be left; a log has its lines already."""
        if not getattr(self, "_is_live", False):
            self.sp = None  # without a printer tqdm writes nothing more
        super().close()
