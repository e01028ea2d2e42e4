"""Writes the tables and figures of one scale, each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.harness.errors import unknown
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import Scale, Table
from reports import claims, html, latex, markdown
from reports.grid import Grid, load_grid
from reports.layouts import Report, joined, report
from reports.measurement import Measurement
from reports.tables import TableData

LIST = "python -m reports show --help"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build wrote.

    Attributes:
        folder: The folder.
        files: What is in it.
        holes: The declared cells that have no number.
    """

    folder: Path
    files: tuple[Path, ...]
    holes: tuple[Measurement, ...]


def build(
    results: Path,
    out: Path,
    scale: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool | None = None,
) -> Built:
    """Write every table and figure of a scale below ``out/<scale>/``.

    With ``overrides``, from the records with these settings, into a folder that names them; with
    ``drafts``, also from records that are not final (``refusals.py``), into ``<scale>-draft``.
    """
    named = [str(value).replace("/", "-") for value in (overrides or {}).values()]
    folder = out / "-".join([scale, *named, *(["draft"] if drafts else [])])
    files: list[Path] = []
    tables = load_tables(results, scale, overrides=overrides, drafts=drafts)
    for table in tables:
        texts = {
            "md": markdown.render(table.page),
            "tex": latex.render(table.page),
            "csv": table.csv,
            "sources.csv": table.sources,
        }
        for suffix, text in texts.items():
            files.append(write(folder / f"{table.name}.{suffix}", text.encode()))
    of_tasks = numbers_of(tables)
    # Matplotlib takes longer to import than all tables to compute, and `show` draws nothing.
    from reports import figures

    drawn = list(figures.draw(of_tasks))
    for figure in drawn:
        for suffix, content in figure.encoded.items():
            files.append(write(folder / f"{figure.name}.{suffix}", content))
    judged = claims.judge_all(results, scale, overrides, drafts=drafts)
    is_draft = any(data.grid.has_drafts for data in of_tasks.values())
    listed = claims.page(judged, scale, is_draft=is_draft)
    text = claims.render_markdown(judged, scale, is_draft=is_draft)
    files.append(write(folder / "claims.md", text.encode()))
    files.append(write(folder / "claims.csv", claims.render_csv(judged, scale).encode()))
    page = html.render(
        f"ReSoRA Bench: tables and figures at scale {scale}",
        tables,
        {one.name: (one.caption, one.encoded["svg"]) for one in drawn},
        options=" ".join(
            [f"--scale {scale}", *(f"--set {k}={v}" for k, v in (overrides or {}).items())]
        ),
        more=[("claims", listed)],
    )
    files.append(write(folder / "index.html", page.encode()))
    # Tables share rows, so the same cell may be missing from two of them.
    holes = {found.path: found for table in tables for found in table.holes}
    return Built(folder=folder, files=tuple(files), holes=tuple(holes.values()))


def load_tables(
    results: Path,
    scale: str,
    name: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool | None = None,
) -> list[Report]:
    """Compute every table of a scale in the paper's order, or the one that is named.

    Raises:
        UsageError: There is no such table or scale.
    """
    if name is not None and name not in table_names():
        raise unknown("table", name, table_names(), LIST)
    if scale not in scales():
        raise unknown("scale", scale, scales(), "python -m benchmarks ls")
    found: list[Report] = []
    for benchmark in BENCHMARKS.values():
        if scale in benchmark.scales:
            chosen = [table for table in benchmark.tables if name in (None, table.name)]
            declared = benchmark.scales[scale]
            grids = {
                backbone: load_grid(
                    benchmark, declared, backbone, results, overrides, drafts=drafts
                )
                for position, backbone in enumerate(declared.backbones)
                if any(table.backbone == position for table in chosen)
            }
            found += _tables_of(declared, chosen, grids)
    # The paper's tables by their numbers, ours after them.
    found.sort(key=lambda one: (not one.name.startswith("table"), one.name))
    return [joined(list(parts)) for _, parts in groupby(found, key=lambda one: one.name)]


def numbers_of(tables: Sequence[Report]) -> dict[str, TableData]:
    """Return what figures are drawn from: tables by name, their parts by name and benchmark."""
    whole = {table.name: table.data for table in tables if isinstance(table.data, TableData)}
    return whole | {
        f"{table.name}_{part.grid.benchmark.name}": part for table in tables for part in table.parts
    }


def table_names() -> tuple[str, ...]:
    """The tables that any benchmark feeds."""
    names = [table.name for benchmark in BENCHMARKS.values() for table in benchmark.tables]
    return tuple(dict.fromkeys(names))


def scales() -> tuple[str, ...]:
    """The scales that any benchmark declares."""
    names = (name for benchmark in BENCHMARKS.values() for name in benchmark.scales)
    return tuple(dict.fromkeys(names))


def recorded_scales(results: Path) -> tuple[str, ...]:
    """The scales that have any record; all of them if none has."""
    recorded = [scale for scale in scales() if any((results / scale).rglob("*.json"))]
    return tuple(recorded or scales())


def write(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old or the new one, and never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def _tables_of(scale: Scale, tables: list[Table], grids: Mapping[str, Grid]) -> Iterator[Report]:
    for table in tables:
        if table.backbone < len(scale.backbones):
            yield report(table, grids[scale.backbones[table.backbone]])
