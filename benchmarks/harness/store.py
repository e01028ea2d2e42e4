"""The store: one JSON file a cell in ``results/<scale>/``. Only this module writes records.

A record is written whole or not at all, and a record that is ``ok`` is never replaced by one that is
not. The path is the identity, so git and people can find what they look for.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path

from benchmarks.harness.cell import PARTS, Cell
from benchmarks.harness.errors import UsageError, shortened, told
from benchmarks.harness.record import InvalidRecord, Record, check, parse
from benchmarks.harness.registry import benchmark_named

TEMPORARY = ".tmp-"
"""Prefix of a file that is being written. A killed process leaves such a file."""

LEFTOVER = re.compile(rf"{re.escape(TEMPORARY)}\d+\.json-\d+")

LARGEST_BYTES = 1 << 26
"""No record is nearly as large."""

PROBE_BYTES = 1 << 18
"""What a folder must have room for, before anything is trained for it."""


Stamp = tuple[int, int, int]


class State(Enum):
    """The state of a cell's record, compared with the declared configuration."""

    FRESH = "ok"
    STALE = "stale"  # ok, of another configuration or benchmark version
    NOT_OK = "not ok"  # a failure on record
    INVALID = "invalid"  # truncated, edited, or not a record
    MISSING = "missing"


class Store:
    """Records of one scale."""

    def __init__(self, results: Path, scale: str) -> None:
        """Open the folder of records of ``scale`` below ``results``; it need not exist.

        Raises:
            UsageError: ``scale`` is no name of one folder.
        """
        if scale in ("", ".", "..") or "/" in scale or "\0" in scale:
            raise UsageError(f"{scale!r} is not the name of a scale: smoke, micro or paper")
        self.root, self.scale = Path(results) / scale, scale

    def path(self, cell: Cell) -> Path:
        """Return the path of a cell's record."""
        return self.root / cell.path

    def load(self, cell: Cell) -> Record | None:
        """Return the record of a cell, or None if there is none.

        Raises:
            InvalidRecord: There is a file, but it is not a whole and unaltered record of the cell.
        """
        content = _content(self.path(cell))
        if content is None:
            return None
        record: Record = parse(content)
        self._check(record, cell)
        return record

    def state(self, cell: Cell, expected_hash: str, version: int) -> State:
        """Return the state of a cell's record for a configuration."""
        try:
            record = self.load(cell)
        except InvalidRecord:
            return State.INVALID
        if record is None:
            return State.MISSING
        if record["status"] != "ok":
            return State.NOT_OK
        same = record["config_hash"] == expected_hash
        return (
            State.FRESH if same and record["cell"]["benchmark_version"] == version else State.STALE
        )

    def write(self, cell: Cell, record: Record) -> bool:
        """Write a record; return False if an ``ok`` record was kept instead.

        Raises:
            InvalidRecord: It is not a record of the cell.
        """
        self._check(record, cell)
        if record["status"] != "ok" and self._holds_ok(cell):
            return False
        path = self.path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            _put_aside(path)
        _write_whole(path, json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")
        return True

    def stamp(self, cell: Cell) -> Stamp | None:
        """Return what changes when a record is written; None if there is none."""
        try:
            found = self.path(cell).lstat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def stamps(self, cells: Iterable[Cell]) -> dict[Cell, Stamp | None]:
        """Return the stamp of each of some cells."""
        return {cell: self.stamp(cell) for cell in cells}

    def require_room(self, cells: Iterable[Cell]) -> None:
        """Raise a ``UsageError`` unless the records of cells can be written."""
        folders = {self.path(cell).parent for cell in cells}
        require_room(self.root, "--results", sorted(folders))

    def files(self) -> Iterator[tuple[Path, Cell | None]]:
        """Iterate the files of the store with their cells; None for what is at no cell's path.

        Raises:
            UsageError: A folder of the store cannot be read.
        """
        for path in sorted(self._paths()):
            if path.suffix != ".json" or path.name.startswith(TEMPORARY):
                continue
            try:
                yield path, Cell.parse(path.relative_to(self.root).with_suffix("").as_posix())
            except UsageError:
                yield path, None

    def remove_leftovers(self, older_than_seconds: float = 3600.0) -> None:
        """Delete partial files of killed processes; young files may belong to a running process.

        Only what a record's own writer can have left is deleted: a file of its name at a cell's place.
        """
        limit = time.time() - older_than_seconds
        for path in self._paths():
            depth = len(path.relative_to(self.root).parts)
            if depth != len(PARTS) or not LEFTOVER.fullmatch(path.name):
                continue
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < limit:
                    path.unlink()

    def _paths(self) -> Iterator[Path]:
        """Iterate all files, and folders that have the name of a record; links are not followed."""

        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise UsageError(
                    f"the records of {self.root} cannot be read: {error.filename}: {error.strerror}"
                ) from error

        for folder, inner, names in os.walk(self.root, onerror=refuse):
            yield from (Path(folder, name) for name in names)
            yield from (Path(folder, name) for name in inner if name.endswith(".json"))

    def _check(self, record: Record, cell: Cell) -> None:
        try:
            metrics = benchmark_named(cell.benchmark).metrics
        except UsageError as error:
            raise InvalidRecord(f"it is of no benchmark: {error}") from error
        check(record, cell, metrics, self.scale)

    def _holds_ok(self, cell: Cell) -> bool:
        try:
            record = self.load(cell)
        except InvalidRecord:
            return False
        return record is not None and record["status"] == "ok"


def require_room(root: Path, option: str, folders: Iterable[Path] = ()) -> None:
    """Check that a folder can be written, before anything is trained for it.

    Args:
        root: The folder.
        option: The option of the command line that takes another one.
        folders: Folders below it that will be written, too.

    Raises:
        UsageError: One cannot be made or written, or its disk is full.
    """
    try:
        for folder in (root, *folders):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        probe = root / f"{TEMPORARY}room-{os.getpid()}"
        _write_whole(probe, "\n" * PROBE_BYTES)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"{shortened(str(root))} cannot be written: {told(error)} ({option} DIR takes another folder)"
        ) from error


def _content(path: Path) -> bytes | None:
    """Return what is in a record's file, or None if there is none.

    Raises:
        InvalidRecord: What is there is no file, or cannot be read.
    """
    try:
        # A pipe without a writer would be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise InvalidRecord("it is not a file")
            if found.st_size > LARGEST_BYTES:
                raise InvalidRecord(f"it has {found.st_size} bytes, which no record has")
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRecord(f"cannot be read ({error.strerror})") from error


def _write_whole(path: Path, text: str) -> None:
    """Write a file atomically; a partial file on a full disk is removed."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # What failed in writing does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _put_aside(folder: Path) -> None:
    """Rename a folder that is at the path of a record; its content is kept."""
    for number in range(1000):
        aside = folder.with_name(f"{folder.name}.not-a-record-{number}")
        if not aside.exists():
            folder.rename(aside)
            return
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
