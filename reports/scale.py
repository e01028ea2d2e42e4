"""All tables of one scale, from records that are read once; or one table from those that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.harness.errors import unknown
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import Benchmark, Table
from reports import layout
from reports.comparable import Measurement
from reports.layout import Report
from reports.notes import Notes
from reports.records import Records, read, scales, table_names
from reports.rivals import rivals_of
from reports.specs import LAYOUTS
from reports.table import Part

LIST = "python -m reports show --help"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """All reports of one scale, from records that were read once.

    Attributes:
        records: The records.
        drafts: Whether drafts were asked for.
    """

    records: Records
    drafts: bool | None = None

    @cached_property
    def tables(self) -> dict[str, Report]:
        """Every table in the paper's order, ours after the paper's."""
        return {one.name: one for one in _tables(self.records)}

    @cached_property
    def parts(self) -> dict[str, Part]:
        """What figures are drawn from: tables by name, parts of several by name and benchmark."""
        found: dict[str, Part] = {}
        for table in self.tables.values():
            if len(table.parts) == 1:
                found[table.name] = table.parts[0]
            else:
                of = {f"{table.name}_{one.grid.benchmark.name}": one for one in table.parts}
                found |= of
        return found

    @property
    def holes(self) -> list[Measurement]:
        """The declared cells without a number; tables share rows, so each once."""
        return list({one.path: one for of in self.tables.values() for one in of.holes}.values())

    @property
    def options(self) -> str:
        """What a command that fills a hole needs at its end."""
        settings = [f"--set {name}={value}" for name, value in self.records.overrides.items()]
        return " ".join([f"--scale {self.records.scale}", *settings])

    @property
    def folder(self) -> str:
        """The name of the folder to write into."""
        named = [str(value).replace("/", "-") for value in self.records.overrides.values()]
        return "-".join([self.records.scale, *named, *(["draft"] if self.drafts else [])])

    @property
    def has_drafts(self) -> bool:
        """Whether any table rests on a record that is not final."""
        return any(part.grid.has_drafts for of in self.tables.values() for part in of.parts)


def load_scale(
    results: Path,
    scale: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool | None = None,
) -> Scale:
    """Read all records of a scale once.

    Raises:
        UsageError: There is no such scale.
    """
    return Scale(records=read(results, scale, overrides=overrides, drafts=drafts), drafts=drafts)


def load_table(
    results: Path,
    scale: str,
    name: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool | None = None,
) -> list[Report]:
    """Compute one table, from the records that it needs alone; nothing if the scale does not have it.

    Raises:
        UsageError: There is no such table or scale.
    """
    if name not in table_names():
        raise unknown("table", name, table_names(), LIST)
    if scale not in scales():
        raise unknown("scale", scale, scales(), "python -m benchmarks ls")
    needed: dict[tuple[str, str], set[str]] = {}
    for benchmark, table in _declared(scale):
        if table.name == name:
            for of, methods in _needed(benchmark, table).items():
                backbone = BENCHMARKS[of].scales[scale].backbones[table.backbone]
                needed.setdefault((of, backbone), set()).update(methods)
    records = read(results, scale, only=needed, overrides=overrides, drafts=drafts)
    return list(_tables(records, name))


def _tables(records: Records, name: str | None = None) -> Iterator[Report]:
    declared = [pair for pair in _declared(records.scale) if name in (None, pair[1].name)]
    declared.sort(key=lambda pair: (not pair[1].name.startswith("table"), pair[1].name))
    for _, pairs in groupby(declared, key=lambda pair: pair[1].name):
        notes = Notes()
        parts = [_part(records, benchmark, table, notes) for benchmark, table in pairs]
        yield layout.report(parts, LAYOUTS[parts[0].table.layout])


def _declared(scale: str) -> list[tuple[Benchmark, Table]]:
    return [
        (benchmark, table)
        for benchmark in BENCHMARKS.values()
        if scale in benchmark.scales
        for table in benchmark.tables
        if table.backbone < len(benchmark.scales[scale].backbones)
    ]


def _needed(benchmark: Benchmark, table: Table) -> dict[str, list[str]]:
    """The methods that a table is made of, by benchmark: its rows, and what they are compared with."""
    rows = [*table.rows, *(rival for row in table.rows for rival in rivals_of(row).values())]
    beside = LAYOUTS[table.layout].beside
    own = list(benchmark.methods) if benchmark.is_timed else rows
    return {benchmark.name: own} | ({beside: rows} if beside in BENCHMARKS else {})


def _part(records: Records, benchmark: Benchmark, table: Table, notes: Notes) -> Part:
    grids = {
        of: records.grid(of, table.backbone).of_methods(methods)
        for of, methods in _needed(benchmark, table).items()
    }
    kind = LAYOUTS[table.layout]
    return Part(
        table=table,
        grid=grids[benchmark.name],
        beside=grids.get(kind.beside),
        notes=notes,
        compute=kind.compute,
    )
