"""What a benchmark declares: one frozen object that runner, reports, plans and tests all iterate."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.harness.cell import Cell

Config = dict[str, Any]
"""A resolved configuration: nested, of JSON's types only."""


DRAFT_SCALES = ("smoke",)
"""Scales that show that everything works, also with changes that are not committed yet: their tables take
such records, those of the others do not."""


class Choice(NamedTuple):
    """A hyper-parameter with the place it comes from: the paper, a named repository, or our choice."""

    value: Any
    source: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One data set with its question.

    Attributes:
        name: The registry's name.
        label: How the paper's tables head its column.
        group: The group of tasks whose mean it enters.
        num_classes: Size of the answer.
        n_test: Size of the test split of the real data.
        device: ``cpu`` or ``cuda`` for a task that is about one of them; None: what a run is given.
    """

    name: str
    label: str
    group: str
    num_classes: int
    n_test: int
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measured quantity: records hold it as a fraction, tables print ``factor`` times it.

    Attributes:
        name: As records have it.
        label: As tables have it.
        unit: Of what tables print.
        factor: What a record's value is multiplied by for a table.
        digits: After the point, in a table.
        higher_is_better: The direction.
        lowest: The least that a record may hold.
        highest: The most that a record may hold.
    """

    name: str
    label: str
    unit: str
    factor: float
    digits: int
    higher_is_better: bool
    lowest: float = 0.0
    highest: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A budget and the world it runs in; scales never meet in one table.

    Attributes:
        name: ``paper``, ``micro`` or ``smoke``.
        description: One line for people.
        backbones: The backbones of this scale.
        seeds: The seeds of each cell.
        is_embedded: Whether the data are generated; such numbers reproduce nothing.
        choices: Hyper-parameters by dotted name.
    """

    name: str
    description: str
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    is_embedded: bool
    choices: Mapping[str, Choice]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper that this benchmark feeds.

    Attributes:
        name: ``table2``, for instance; also the name of the file with the published numbers.
        title: What the table shows.
        rows: Method names in the paper's order, the ones without an implementation included.
        layout: What its columns are: ``tasks``, or one of the other layouts that `reports` knows.
        backbone: Which of a scale's backbones it is about, by position. Declared tables of one name are the
            parts of one table, each on its own backbone.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    layout: str = "tasks"
    backbone: int = 0


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Everything there is to know about a benchmark before it runs.

    Attributes:
        name: First part of the path of its cells.
        version: Raised by a change that alters numbers; records of another version are not fresh.
        title: One line for people.
        groups: Task groups in the order of the tables, with their headings.
        tasks: All tasks, in the order of the tables.
        methods: All methods that can be run.
        metrics: What is measured; the first is the primary one.
        selections: Rules by which an epoch is chosen; the first is the primary one.
        scales: The scales by name.
        tables: Tables of the paper that its records feed.
        runner: Module with ``run(cell, config, context) -> Outcome``; imported when a cell runs.
        configure: Resolves a cell's configuration and the source of each value.
        is_timed: Whether its cells measure time; such cells run one at a time.
        cover_task: The task on which `run --cover` runs each method once; None: the first.
        methods_on: The methods of a backbone that does not have all of them.
        why_not: Says why a method is not declared on a backbone, for people who ask for it; None: unknown.
    """

    name: str
    version: int
    title: str
    groups: Mapping[str, str]
    tasks: tuple[Task, ...]
    methods: tuple[str, ...]
    metrics: tuple[Metric, ...]
    selections: tuple[str, ...]
    scales: Mapping[str, Scale]
    tables: tuple[Table, ...]
    runner: str
    configure: Callable[[Benchmark, Cell, Scale], dict[str, Choice]] = field(repr=False)
    is_timed: bool = False
    cover_task: str | None = None
    methods_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    why_not: Callable[[str, str], str | None] = field(
        default=lambda backbone, method: None, repr=False
    )

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names) or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"benchmark {self.name!r} declares a task or a method twice")
        if stray := {task.group for task in self.tasks} - set(self.groups):
            raise ValueError(f"benchmark {self.name!r} has tasks of undeclared groups: {stray}")
        declared = {name for names in self.methods_on.values() for name in names}
        if stray := declared - set(self.methods):
            raise ValueError(
                f"benchmark {self.name!r} has undeclared methods on a backbone: {stray}"
            )

    def task(self, name: str) -> Task:
        """Return the task called ``name``."""
        return next(task for task in self.tasks if task.name == name)

    def cells(self, scale: Scale) -> Iterator[Cell]:
        """Iterate the declared grid of one scale, in the order of the tables."""
        for backbone in scale.backbones:
            for task in self.tasks:
                for seed in scale.seeds:
                    for method in self.methods_on.get(backbone, self.methods):
                        yield Cell(self.name, backbone, task.name, method, seed)

    def cover(self, cells: Iterable[Cell]) -> Iterator[Cell]:
        """Iterate the fewest of some cells that touch everything: on each backbone each base and each suffix.

        All are on one task. The base with the most second stages has all of them, so that each penalty stands
        beside its control; the other bases have none.
        """
        first: dict[tuple[str, str], Cell] = {}
        for cell in sorted(cells, key=lambda cell: cell.task != self.cover_task):
            first.setdefault((cell.backbone, cell.method), cell)
        stages = Counter((cell.backbone, cell.base.method) for cell in first.values())
        richest = dict(reversed([key for key, _ in stages.most_common()]))  # by backbone
        for cell in first.values():
            if cell == cell.base or cell.base.method == richest[cell.backbone]:
                yield cell

    def config(
        self, cell: Cell, scale: Scale, overrides: Mapping[str, Any] | None = None
    ) -> Config:
        """Resolve the configuration of a cell: all that decides its numbers, and nothing else."""
        flat = {key: choice.value for key, choice in self.configure(self, cell, scale).items()}
        return nest(flat | {key: value for key, value in (overrides or {}).items() if key in flat})

    def sources(
        self, cell: Cell, scale: Scale, overrides: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """Return where each value of the configuration comes from, by dotted name."""
        sources = {key: choice.source for key, choice in self.configure(self, cell, scale).items()}
        return {
            key: "command line" if key in (overrides or {}) else sources[key] for key in sources
        }


def nest(flat: Mapping[str, Any]) -> Config:
    """Turn dotted names into nested dictionaries."""
    nested: Config = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return nested


NEUTRAL: dict[str, Any] = {"training.precision": "fp32"}
"""Settings that were added later, with the value that equals the earlier behaviour."""


def config_hash(config: Config) -> str:
    """Return the first 12 digits of the sha256 of a configuration's canonical JSON.

    A setting with its ``NEUTRAL`` value is left out, as if it were not there: records of the time before it
    stay what they are.
    """
    text = json.dumps(
        _without_neutral(config), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_neutral(config: Config) -> Config:
    kept = dict(config)
    for key, value in NEUTRAL.items():
        section, _, name = key.partition(".")
        settings = kept.get(section)
        if isinstance(settings, dict) and name in settings and settings[name] == value:
            kept[section] = {other: v for other, v in settings.items() if other != name}
            if not kept[section]:
                del kept[section]
    return kept
