"""The records of a scale as one tidy frame: the declared grid, left-joined with the store.

Every declared cell is here, with what the store holds for it: numbers only if its record is whole, ``ok``
and of the declared configuration; else NaN, and the reason why.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import unknown
from benchmarks.harness.plain_text import cleaned
from benchmarks.harness.record import InvalidRecord, Record
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import DRAFT_SCALES, Benchmark, Scale, config_hash
from benchmarks.harness.store import State, Store
from reports.comparable import Measurement, without_refused
from reports.frame import CATEGORIES, to_frame


def load(
    results: Path | str = "results",
    scale: str = "micro",
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool | None = None,
) -> pd.DataFrame:
    """Return every number of a scale's records as one tidy frame, a row a declared (cell, quantity).

    Args:
        results: Folder of the records.
        scale: ``paper``, ``micro`` or ``smoke``.
        overrides: Settings in the place of those that are declared, by dotted name.
        drafts: Whether records count that are drafts (``comparable.py``); None: at ``smoke`` alone.

    Returns:
        The frame. Metrics are in the tables' unit (accuracies in %), all else as recorded (seconds, bytes,
        fractions). A hole is a row with NaN, and ``state`` and ``reason`` say why. Rows that no benchmark
        declares (``declared`` is False) come last.

    Raises:
        UsageError: There is no such scale.
    """
    return read(results, scale, overrides=overrides, drafts=drafts).frame


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The declared cells of a benchmark on one backbone at one scale: a part of the frame.

    What is refused (``comparable.py``) depends on the cells that stand together, so it is decided here.

    Attributes:
        found: What the store holds for each, in declared order, before anything is refused.
        overrides: Settings in the place of those that are declared.
        drafts: Whether records that are drafts count.
    """

    benchmark: Benchmark
    scale: Scale
    backbone: str
    found: tuple[Measurement, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    drafts: bool = False

    @cached_property
    def cells(self) -> dict[tuple[str, str], tuple[Measurement, ...]]:
        """By method and task, one for each declared seed."""
        cells: dict[tuple[str, str], tuple[Measurement, ...]] = {}
        for one in without_refused(self.found, self.benchmark, drafts=self.drafts):
            key = (one.cell.method, one.cell.task)
            cells[key] = (*cells.get(key, ()), one)
        return cells

    def of_methods(self, methods: Iterable[str]) -> Grid:
        """The grid of these methods alone, such as a table's rows and what they are compared with."""
        kept = set(methods)
        return replace(self, found=tuple(one for one in self.found if one.cell.method in kept))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """This part of the frame."""
        return to_frame(self.benchmark, self.scale, [m for at in self.cells.values() for m in at])

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], dict[tuple[str, str], dict[int, float]]]:
        """Quantity and rule -> method and task -> seed -> value, of what is no hole."""
        known = self.frame[self.frame["value"].notna() & (self.frame["variant"] == "")]
        names = ("quantity", "rule", "method", "task", "seed", "value")
        found: dict[tuple[str, str], dict[tuple[str, str], dict[int, float]]] = {}
        for quantity, rule, method, task, seed, value in zip(
            *(known[name].tolist() for name in names), strict=True
        ):
            found.setdefault((quantity, rule), {}).setdefault((method, task), {})[seed] = value
        return found

    def values(
        self, method: str, quantity: str | None = None, rule: str | None = None
    ) -> dict[str, dict[int, float]]:
        """Task -> seed -> value of a method, with what there is.

        Args:
            method: Its name.
            quantity: None: the primary metric.
            rule: By which an epoch was chosen; None: the primary one, or none for what has no rule.
        """
        names = [metric.name for metric in self.benchmark.metrics]
        quantity = quantity or names[0]
        rule = rule or (self.benchmark.selections[0] if quantity in names else "")
        of = self._numbers.get((quantity, rule), {})
        return {task.name: of.get((method, task.name), {}) for task in self.benchmark.tasks}

    def at(self, method: str, task: str) -> tuple[Measurement, ...]:
        """One measurement for each declared seed of a method on a task; none if undeclared."""
        return self.cells.get((method, task), ())

    def of(self, method: str) -> list[Measurement]:
        """All measurements of a method, by task and seed."""
        return [found for task in self.benchmark.tasks for found in self.at(method, task.name)]

    def holes(self, methods: Iterable[str]) -> list[Measurement]:
        """The declared cells of these methods that have no value."""
        return [found for method in methods for found in self.of(method) if found.record is None]

    def records(self, method: str) -> list[Record]:
        """The records that are used of a method, by task and seed."""
        return [found.record for found in self.of(method) if found.record is not None]

    @property
    def has_drafts(self) -> bool:
        """Whether any record that is taken is a draft."""
        return any(found.caveat for at in self.cells.values() for found in at)


@dataclass(frozen=True, kw_only=True)
class Records:
    """All that was read of one scale.

    Attributes:
        results: Folder of the records.
        scale: Its name.
        grids: By benchmark and backbone.
        undeclared: Records at the scale that no benchmark declares.
        overrides: Settings in the place of those that are declared.
        drafts: Whether drafts were asked for.
    """

    results: Path
    scale: str
    grids: Mapping[tuple[str, str], Grid]
    undeclared: Mapping[str, Sequence[Measurement]]
    overrides: Mapping[str, Any]
    drafts: bool | None = None

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy frame, categories in declared order."""
        parts = [grid.frame for grid in self.grids.values()]
        for name, found in self.undeclared.items():
            benchmark = BENCHMARKS[name]
            parts.append(to_frame(benchmark, benchmark.scales[self.scale], found, declared=False))
        whole = pd.concat(parts)
        for name in CATEGORIES:
            values = whole[name].tolist()
            whole[name] = pd.Categorical(values, list(dict.fromkeys(values)), ordered=True)
        return whole.reset_index(drop=True)

    def grid(self, benchmark: str, position: int = 0) -> Grid:
        """The grid on the backbone at a position among those of the scale."""
        backbone = BENCHMARKS[benchmark].scales[self.scale].backbones[position]
        return self.grids[benchmark, backbone]


def read(
    results: Path | str,
    scale: str,
    *,
    only: Mapping[tuple[str, str], Collection[str]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    drafts: bool | None = None,
) -> Records:
    """Read and check the records of a scale, each once.

    Args:
        results: Folder of the records.
        scale: Name of the scale.
        only: Methods by benchmark and backbone, if not all that is declared is asked for.
        overrides: Settings in the place of those that are declared, by dotted name.
        drafts: Whether records count that are drafts; None: at ``DRAFT_SCALES`` alone.

    Raises:
        UsageError: There is no such scale.
    """
    if scale not in scales():
        raise unknown("scale", scale, scales(), "python -m benchmarks ls")
    results, overrides = Path(results), overrides or {}
    store = Store(results, scale)
    declared = [
        (name, backbone)
        for name, benchmark in BENCHMARKS.items()
        if scale in benchmark.scales
        for backbone in benchmark.scales[scale].backbones
    ]
    # A record is a thousand small objects; looking for cycles among them takes as long as reading them.
    was_on = gc.isenabled()
    gc.disable()
    try:
        grids = {
            (name, backbone): load_grid(
                BENCHMARKS[name],
                backbone,
                store,
                overrides,
                drafts=scale in DRAFT_SCALES if drafts is None else drafts,
                methods=None if only is None else only[name, backbone],
            )
            for name, backbone in declared
            if only is None or (name, backbone) in only
        }
        undeclared = _undeclared(store, grids) if only is None else {}
    finally:
        if was_on:
            gc.enable()
    return Records(
        results=results,
        scale=scale,
        grids=grids,
        undeclared=undeclared,
        overrides=overrides,
        drafts=drafts,
    )


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


def load_grid(
    benchmark: Benchmark,
    backbone: str,
    store: Store,
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool = False,
    methods: Collection[str] | None = None,
) -> Grid:
    """Look up every declared cell of one backbone in the store.

    Args:
        benchmark: The benchmark.
        backbone: One of the backbones of the store's scale.
        store: The records.
        overrides: Settings in the place of those that are declared, by dotted name.
        drafts: Whether records count that are drafts (``comparable.py``).
        methods: These alone; None: all.
    """
    scale, overrides = benchmark.scales[store.root.name], overrides or {}
    hashes: dict[tuple[str, str], str] = {}
    found = []
    for cell in benchmark.cells(scale):
        if cell.backbone == backbone and (methods is None or cell.method in methods):
            # No configuration depends on the seed.
            key = (cell.method, cell.task)
            if key not in hashes:
                hashes[key] = config_hash(benchmark.config(cell, scale, overrides))
            found.append(_look_up(benchmark, store, cell, hashes[key]))
    return Grid(
        benchmark=benchmark,
        scale=scale,
        backbone=backbone,
        found=tuple(found),
        overrides=overrides,
        drafts=drafts,
    )


def _look_up(benchmark: Benchmark, store: Store, cell: Cell, expected: str | None) -> Measurement:
    """What there is for a cell; without an expected hash, of any configuration."""
    path = f"{store.root.name}/{'/'.join(cell.parts)}.json"

    def without(state: State, reason: str | None) -> Measurement:
        return Measurement(cell=cell, state=state, reason=reason, path=path)

    try:
        # Whoever wrote the record, its texts enter tables, pages, CSV files and the terminal from here.
        record = cleaned(store.load(cell))
    except InvalidRecord as error:
        return without(State.INVALID, str(error))
    if record is None:
        return without(State.MISSING, None)
    if record["status"] != "ok":
        return without(State.NOT_OK, record["status"])
    version = record["cell"]["benchmark_version"]
    if version != benchmark.version:
        return without(State.STALE, f"benchmark version {version}, declared is {benchmark.version}")
    if expected not in (None, record["config_hash"]):
        return without(
            State.STALE, f"configuration {record['config_hash']}, declared is {expected}"
        )
    return Measurement(cell=cell, state=State.FRESH, reason=None, path=path, record=record)


def _undeclared(
    store: Store, grids: Mapping[tuple[str, str], Grid]
) -> dict[str, list[Measurement]]:
    """The records of the store that are at no declared cell, by benchmark."""
    declared = {one.cell for grid in grids.values() for one in grid.found}
    found: dict[str, list[Measurement]] = {}
    for _, cell in store.files():
        benchmark = BENCHMARKS.get(cell.benchmark) if cell else None
        if cell is None or benchmark is None or cell in declared:
            continue
        if store.root.name in benchmark.scales:
            one = _look_up(benchmark, store, cell, None)
            found.setdefault(benchmark.name, []).append(one)
    return found
