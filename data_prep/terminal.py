"""What every command prints to."""

from __future__ import annotations

import sys


def print_what_it_can() -> None:
    """Replace what the terminal's encoding lacks by question marks, where Python would end in an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream is of another kind
            stream.reconfigure(errors="replace")
