"""The peak of the resident memory of this process."""

from __future__ import annotations

import re
import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_of_this_process() -> int:
    """Return the most resident memory in bytes that this process has had since its program started.

    Linux' ``ru_maxrss`` is not that: a program that a large process starts inherits the size of that one.
    Where there is no ``/proc``, it is all there is; its unit is a kibibyte, as on Linux.
    """
    if STATUS.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(), re.M)):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
