"""Errors that a person can act on, and the exit codes of every command."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable

DONE, SOME_FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3
"""Exit codes: done; some cells failed; wrong usage; the declared grid has holes."""


def output_closed() -> int:
    """Return the exit code for a closed output, for instance by ``head``."""
    # Python would complain at its exit, when it writes out what is left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def told(error: OSError) -> str:
    """Return an error of the operating system as one line."""
    what = error.strerror or str(error) or type(error).__name__
    return f"{shortened(str(error.filename))}: {what}" if error.filename else what


class TimeLimit(Exception):
    """A cell exceeded its time limit."""


class UsageError(Exception):
    """A request that does not exist or cannot be done; the message is one line."""


def shortened(text: str) -> str:
    """Return a name that somebody gave, cut where it is longer than any name that there is."""
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def unknown(kind: str, name: str, known: Iterable[str], command: str) -> UsageError:
    """Build the error for a name that does not exist, with the nearest one that does."""
    name = shortened(name)
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}{hint} ({command} lists them)")
