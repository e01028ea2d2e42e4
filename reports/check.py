"""Do the tables and figures that are committed follow from the records that are committed?"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from reports.records import scales

NOT_COMMITTED = ("smoke",)
"""Scales whose records and tables git ignores."""
BUILT_ONLY = (".svg", ".html")
"""What is built for a person's own eyes, and not committed."""
NUMBERS = ("n_declared", "n", "value", "std", "low", "high", "paper_printed", "paper", "states")
"""Columns of a table's CSV that are compared one by one; the others say which line it is."""


def committed_scales(tables: Path) -> list[str]:
    """Return the scales that have tables to compare."""
    return [name for name in scales() if name not in NOT_COMMITTED and (tables / name).is_dir()]


def compared(built_in: Path, kept_in: Path) -> Iterator[str]:
    """Yield how each file of a committed folder differs from the one that was built."""
    built, there = (
        {path.name: path for path in folder.iterdir() if path.suffix not in BUILT_ONLY}
        for folder in (built_in, kept_in)
    )
    for name in sorted(built.keys() | there.keys()):
        place = kept_in / name
        if name not in there:
            yield f"{place}: missing, the records give it"
        elif name not in built:
            yield f"{place}: nothing builds it"
        elif built[name].read_bytes() != there[name].read_bytes():
            yield f"{place}: {_how(built[name], there[name])}"


def _how(built: Path, there: Path) -> str:
    if built.suffix == ".csv" and not built.name.endswith(".sources.csv"):
        found = values_that_differ(*(_lines(path) for path in (built, there)))
        if found:
            return f"{len(found)} values differ, first {found[0]}"
    return _first_difference(built, there)


def values_that_differ(
    built: Mapping[tuple[str, ...], Mapping[str, str]],
    there: Mapping[tuple[str, ...], Mapping[str, str]],
) -> list[str]:
    """Every value of a table's CSV that is not the one that the records give, with where it stands."""
    found = []
    for key in dict.fromkeys((*built, *there)):
        new, old = built.get(key, {}), there.get(key, {})
        found += [
            f"{'/'.join(filter(None, key))} {name}: {old.get(name, 'no line')!r}, the records give "
            f"{new.get(name, 'no line')!r}"
            for name in NUMBERS
            if new.get(name, "") != old.get(name, "")
        ]
    return found


def _lines(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The lines of a CSV by what says which line each is."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {tuple(v for k, v in row.items() if k not in NUMBERS): row for row in rows}


def _first_difference(built: Path, there: Path) -> str:
    try:
        pairs = [path.read_text(encoding="utf-8").splitlines() for path in (built, there)]
    except UnicodeDecodeError:
        return "another picture than the records give"
    for number, (new, old) in enumerate(zip(*pairs, strict=False), start=1):
        if new != old:
            return f"line {number} is {old[:80]!r}, the records give {new[:80]!r}"
    return f"{len(pairs[1])} lines, the records give {len(pairs[0])}"
