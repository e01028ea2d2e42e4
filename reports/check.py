"""Do the tables that are committed follow from the records that are committed?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from reports.build import build, scales

NOT_COMMITTED = ("smoke",)
"""Scales whose records and tables git ignores."""


def committed_scales(tables: Path) -> list[str]:
    """Return the scales that have tables to compare."""
    return [name for name in scales() if name not in NOT_COMMITTED and (tables / name).is_dir()]


def differences(results: Path, tables: Path, scale: str) -> Iterator[str]:
    """Build a scale's tables and figures anew, and yield how each file that differs does so."""
    with tempfile.TemporaryDirectory() as folder:
        built = {path.name: path for path in build(results, Path(folder), scale).files}
        there = {path.name: path for path in (tables / scale).iterdir()}
        for name in sorted(built.keys() | there.keys()):
            place = tables / scale / name
            if name not in there:
                yield f"{place}: missing, the records give it"
            elif name not in built:
                yield f"{place}: nothing builds it"
            elif built[name].read_bytes() != there[name].read_bytes():
                yield f"{place}: {_first_difference(built[name], there[name])}"


def _first_difference(built: Path, there: Path) -> str:
    try:
        pairs = [path.read_text(encoding="utf-8").splitlines() for path in (built, there)]
    except UnicodeDecodeError:
        return "another picture than the records give"
    for number, (new, old) in enumerate(zip(*pairs, strict=False), start=1):
        if new != old:
            return f"line {number} is {old[:80]!r}, the records give {new[:80]!r}"
    return f"{len(pairs[1])} lines, the records give {len(pairs[0])}"
