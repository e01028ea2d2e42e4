"""What a base's record says of the checkpoint that second stages start from."""

from __future__ import annotations

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import InvalidRecord, Record
from benchmarks.harness.settings import Settings
from benchmarks.harness.spec import config_hash


def checkpoint_sha256(record: Record | None) -> str | None:
    """Return the hash of the stage-1 checkpoint in a record; None if it has none, as older records."""
    found: str | None = (
        None if record is None else (record["stage1"] or {}).get("checkpoint_sha256")
    )
    return found


def recorded_sha256(base: Cell, settings: Settings) -> str | None:
    """Return the hash of a base's checkpoint by its record; None without a record of these settings."""
    try:
        record = settings.store.load(base)
    except InvalidRecord:
        return None
    if record is None or record["status"] != "ok":
        return None
    is_same = record["config_hash"] == config_hash(settings.config(base))
    return checkpoint_sha256(record) if is_same else None


def why_not_of_base(record: Record, base: Record | None) -> str | None:
    """Say that a second stage did not start from the checkpoint of its base's record; None: nothing says so.

    Args:
        record: Of a second stage.
        base: The record of its base; None if there is none.
    """
    start, end = checkpoint_sha256(record), checkpoint_sha256(base)
    if start is None or end is None or start == end:
        return None
    return (
        f"it started from the checkpoint {start[:12]}, and the record of its base is of {end[:12]}: "
        "run it again with --rerun all"
    )
