"""Lists of images with their labels, as public repositories pass them on: a path, a space, a label."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data_prep.contents import Named
from data_prep.errors import DataError

SHOWN = 3
LABEL = re.compile(r"-?[0-9]+")


class Entry(NamedTuple):
    """One line of a list.

    Attributes:
        name: The image as it is listed.
        path: Where it is.
        label: From 0 on.
        where: File and line, for messages.
    """

    name: str
    path: Path
    label: int
    where: str


def read_list(path: Path, task: Named, locate: Callable[[str], Path]) -> list[Entry]:
    """Read a list; a line is split at its last space.

    Args:
        path: The list.
        task: Whose labels it has.
        locate: Where the image of a listed path is.

    Raises:
        DataError: It is not there, or a line is wrong; the message has file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such list; {task.name} is incomplete") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error})") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        name, _, label = line.strip().rpartition(" ")
        if not name or not LABEL.fullmatch(label):
            raise DataError(f"{where}: {line!r} is not a path and a label")
        if not 0 <= int(label) < task.num_classes:
            raise DataError(
                f"{where}: label {label} is outside 0 to {task.num_classes - 1}, "
                f"the {task.num_classes} classes of {task.name}"
            )
        entries.append(Entry(name, with_its_ending(locate(name)), int(label), where))
    return entries


def with_its_ending(path: Path) -> Path:
    """Return an image that is listed as ``x.jpg`` and lies there as ``x.JPG``, or the other way round."""
    if not path.is_file():
        for ending in (path.suffix.lower(), path.suffix.upper()):
            if (other := path.with_suffix(ending)).is_file():
                return other
    return path


def refuse_duplicates(entries: list[Entry]) -> None:
    """Require that no image is listed twice.

    Raises:
        DataError: One is; the message has file and both lines.
    """
    seen: dict[Path, Entry] = {}
    for entry in entries:
        if (before := seen.setdefault(entry.path, entry)) is not entry:
            line = before.where.rpartition(":")[2]
            raise DataError(f"{entry.where}: {entry.name} is already in line {line}")


def fingerprint(lists: dict[str, list[Entry]]) -> str:
    """Return a hash of which images the lists name, in which order, and with which labels."""
    lines = (f"{name} {entry.path} {entry.label}\n" for name in lists for entry in lists[name])
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def require_images(lists: dict[str, list[Entry]]) -> None:
    """Require that the image of every line is there.

    Raises:
        DataError: Some are not; the first ones are named, with file and line.
    """
    absent = [entry for entries in lists.values() for entry in entries if not entry.path.is_file()]
    if absent:
        shown = "; ".join(f"{entry.where}: {entry.path}" for entry in absent[:SHOWN])
        more = f"; and {len(absent) - SHOWN:,} more" if len(absent) > SHOWN else ""
        raise DataError(f"no such image: {shown}{more}")
