"""The store: one JSON file a cell, below ``results/<scale>/``; the only place that writes records.

A record is written whole or not at all, and a record that is ``ok`` is never replaced by one that is
not. The path is the identity, so git and people can find what they look for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.record import InvalidRecord, Record, check

TEMPORARY = ".tmp-"
"""Prefix of a file that is being written; one that is left over belongs to a killed process."""


class State(Enum):
    """What the store holds for a cell, against what is declared."""

    FRESH = "ok"
    STALE = "stale"  # ok, of another configuration or benchmark version
    NOT_OK = "not ok"  # a failure on record
    INVALID = "invalid"  # truncated, edited, or not a record
    MISSING = "missing"


class Store:
    """Records of one scale."""

    def __init__(self, results: Path, scale: str) -> None:
        """Open the folder of records of ``scale`` below ``results``; it need not exist."""
        self.root = Path(results) / scale

    def path(self, cell: Cell) -> Path:
        """Return where the record of a cell lies."""
        return self.root / cell.path

    def load(self, cell: Cell) -> Record | None:
        """Return the record of a cell, or None if there is none.

        Raises:
            InvalidRecord: There is a file, but it is not a whole and unaltered record of the cell.
        """
        try:
            text = self.path(cell).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRecord(f"cannot be read ({error})") from error
        try:
            record: Record = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidRecord(f"not whole JSON ({error}): truncated or edited") from error
        check(record, cell)
        return record

    def state(self, cell: Cell, expected_hash: str, version: int) -> State:
        """Say how the record of a cell stands to the declared configuration."""
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
        """Write a record; return whether it was, or an ``ok`` one was kept instead.

        Raises:
            InvalidRecord: It is not a record of the cell.
        """
        check(record, cell)
        if record["status"] != "ok" and self._holds_ok(cell):
            return False
        path = self.path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
        text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return True

    def files(self) -> Iterator[tuple[Path, Cell | None]]:
        """Iterate the files of the store with their cells; None for what is at no cell's path."""
        for path in sorted(self.root.rglob("*.json")):
            if path.name.startswith(TEMPORARY):
                continue
            try:
                yield path, Cell.parse(path.relative_to(self.root).with_suffix("").as_posix())
            except UsageError:
                yield path, None

    def remove_leftovers(self, older_than_seconds: float = 3600.0) -> None:
        """Delete what killed processes were writing; young files may be somebody's at work."""
        limit = time.time() - older_than_seconds
        for path in self.root.rglob(f"{TEMPORARY}*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < limit:
                    path.unlink()

    def _holds_ok(self, cell: Cell) -> bool:
        try:
            record = self.load(cell)
        except InvalidRecord:
            return False
        return record is not None and record["status"] == "ok"
