"""A limit on the seconds of a cell."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness.errors import TimeLimit


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise ``TimeLimit`` in the block after so many seconds; None: never."""
    if seconds is None:
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise TimeLimit(f"took longer than {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
