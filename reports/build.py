"""Writes the tables and figures of one scale, each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.errors import unknown
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import Benchmark, Table
from reports import latex, markdown
from reports.grid import Grid, load_grid
from reports.layouts import Report, joined, report
from reports.measurement import Measurement
from reports.tables import TableData

LIST = "python -m reports show --help"
ACCURACY_FROM, REDUNDANCY_FROM = "table2", "table5"
"""The tables whose rows the two figures draw."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build wrote, and the declared cells that have no number."""

    folder: Path
    files: tuple[Path, ...]
    holes: tuple[Measurement, ...]


def build(
    results: Path, out: Path, scale: str, overrides: Mapping[str, Any] | None = None
) -> Built:
    """Write every table and figure of a scale below ``out/<scale>/``.

    With ``overrides``, from the records with these settings, into a folder that names them.
    """
    named = [str(value).replace("/", "-") for value in (overrides or {}).values()]
    folder = out / "-".join([scale, *named])
    files: list[Path] = []
    tables = list(load_tables(results, scale, overrides=overrides))
    for table in tables:
        texts = {
            "md": markdown.render(table.page),
            "tex": latex.render(table.page),
            "csv": table.csv,
            "sources.csv": table.sources,
        }
        for suffix, text in texts.items():
            files.append(write(folder / f"{table.name}.{suffix}", text.encode()))
    of_tasks = {table.name: table.data for table in tables if isinstance(table.data, TableData)}
    for name, encoded in _figures(of_tasks):
        for suffix, content in encoded.items():
            files.append(write(folder / f"{name}.{suffix}", content))
    # Tables share rows, so the same cell may be missing from two of them.
    holes = {found.path: found for table in tables for found in table.holes}
    return Built(folder=folder, files=tuple(files), holes=tuple(holes.values()))


def load_tables(
    results: Path,
    scale: str,
    name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Iterator[Report]:
    """Compute every table of a scale, or the one that is named.

    Raises:
        UsageError: There is no such table or scale.
    """
    if name is not None and name not in table_names():
        raise unknown("table", name, table_names(), LIST)
    if scale not in scales():
        raise unknown("scale", scale, scales(), "python -m benchmarks ls")
    for benchmark in BENCHMARKS.values():
        if scale in benchmark.scales:
            chosen = [table for table in benchmark.tables if name in (None, table.name)]
            yield from _tables_of(benchmark, chosen, results, scale, overrides or {})


def table_names() -> tuple[str, ...]:
    """The tables that any benchmark feeds."""
    names = (table.name for benchmark in BENCHMARKS.values() for table in benchmark.tables)
    return tuple(dict.fromkeys(names))


def scales() -> tuple[str, ...]:
    """The scales that any benchmark declares."""
    names = (name for benchmark in BENCHMARKS.values() for name in benchmark.scales)
    return tuple(dict.fromkeys(names))


def write(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old or the new one, and never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def _tables_of(
    benchmark: Benchmark,
    tables: list[Table],
    results: Path,
    scale: str,
    overrides: Mapping[str, Any],
) -> Iterator[Report]:
    declared = benchmark.scales[scale]
    by_name: dict[str, list[Report]] = {}
    grids: dict[str, Grid] = {}
    for table in tables:
        if table.backbone < len(declared.backbones):
            backbone = declared.backbones[table.backbone]
            if backbone not in grids:
                grids[backbone] = load_grid(benchmark, declared, backbone, results, overrides)
            by_name.setdefault(table.name, []).append(report(table, grids[backbone]))
    yield from map(joined, by_name.values())


def _figures(tables: dict[str, TableData]) -> Iterator[tuple[str, dict[str, bytes]]]:
    # Matplotlib takes longer to import than all tables to compute, and `show` draws nothing.
    from reports import figures

    if ACCURACY_FROM in tables:
        yield "accuracy_by_task", figures.encode(figures.accuracy_by_task(tables[ACCURACY_FROM]))
    if REDUNDANCY_FROM in tables:
        yield "redundancy", figures.encode(figures.redundancy(tables[REDUNDANCY_FROM]))
