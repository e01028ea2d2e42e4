"""A small declared world, with records of known numbers written through the harness's store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import Benchmark, Choice, Metric, Scale, Table, Task
from benchmarks.harness.store import Store
from reports import layout
from reports.build import build
from reports.layout import Report
from reports.notes import Notes
from reports.records import Grid, load_grid
from reports.scale import Scale as Loaded
from reports.scale import load_scale
from reports.specs import LAYOUTS
from reports.table import Part

TASKS = [("cifar100", "natural"), ("caltech101", "natural"), ("eurosat", "specialized")]
ROWS = ("linear", "bitfit", "lora-r8", "lora-r8+linear", "lora-r8+control")

SCALE = Scale(
    name="micro",
    description="a small world",
    backbones=("vit_micro",),
    seeds=(0, 1),
    is_embedded=True,
    choices={},
)

BENCHMARK = Benchmark(
    name="vtab1k",
    version=1,
    title="A small VTAB-1K",
    groups={"natural": "Natural", "specialized": "Specialized"},
    tasks=tuple(
        Task(name=name, label=name.title(), group=group, num_classes=10, n_test=100)
        for name, group in TASKS
    ),
    methods=tuple(row for row in ROWS if row != "bitfit"),
    metrics=(
        Metric(
            name="top1_accuracy",
            label="Top-1",
            unit="%",
            factor=100.0,
            digits=1,
            higher_is_better=True,
        ),
    ),
    selections=("last_epoch",),
    scales={"micro": SCALE},
    tables=tuple(Table(name=name, title="a_title", rows=ROWS) for name in ("table2", "table5")),
    runner="nowhere",
    configure=lambda benchmark, cell, scale: {"method.name": Choice(cell.method, "here")},
)

COMMITTED = {"commit": "0123456789abcdef", "dirty": False}

# method -> task -> accuracy by seed; the tests work with these by hand.
ACCURACIES = {
    "linear": {"cifar100": (0.4, 0.4), "caltech101": (0.4, 0.4), "eurosat": (0.4, 0.4)},
    "lora-r8": {"cifar100": (0.50, 0.52), "caltech101": (0.60, 0.64), "eurosat": (0.80, 0.80)},
    "lora-r8+linear": {
        "cifar100": (0.51, 0.53),
        "caltech101": (0.62, 0.66),
        "eurosat": (0.83, 0.83),
    },
    "lora-r8+control": {
        "cifar100": (0.50, 0.53),
        "caltech101": (0.61, 0.65),
        "eurosat": (0.81, 0.81),
    },
}


@dataclass
class World:
    """The small benchmark, and a folder of results."""

    results: Path
    benchmark: Benchmark = field(default=BENCHMARK)

    def cell(self, task: str, method: str, seed: int) -> Cell:
        return Cell("vtab1k", "vit_micro", task, method, seed)

    def path(self, task: str, method: str, seed: int) -> Path:
        return Store(self.results, "micro").path(self.cell(task, method, seed))

    def write(
        self, task, method, seed, accuracy=None, *, status="ok", overrides=None, **fields
    ) -> None:
        """Write a record; ``fields`` replace what it says of ``code``, ``data``, ``weights``, ..."""
        cell = self.cell(task, method, seed)
        redundancy = {"start": {"mean": 0.4}, "end": {"mean": 0.2}} if "lora" in method else None
        outcome = Outcome(
            metrics={"top1_accuracy": {"last_epoch": accuracy}} if status == "ok" else {},
            redundancy=redundancy,
            cost={"trainable_params": 0 if method == "linear" else 46_080},
            **{
                name: fields[name]
                for name in ("data", "weights", "counts", "curves", "stage1")
                if name in fields
            },
        )
        record = build_record(
            BENCHMARK,
            SCALE,
            cell,
            BENCHMARK.config(cell, SCALE, overrides),
            status=status,
            error=None if status == "ok" else "it went wrong",
            outcome=outcome,
            sources={},
            where={"code": fields.get("code", COMMITTED), "environment": {}, "hardware": {}},
            run={"attempt": 1},
        )
        # The store keeps an `ok` record when a failure comes after it; a test wants what it says.
        self.path(task, method, seed).unlink(missing_ok=True)
        Store(self.results, "micro").write(cell, record)

    def write_all(self) -> None:
        for method, by_task in ACCURACIES.items():
            for task, by_seed in by_task.items():
                for seed, accuracy in enumerate(by_seed):
                    self.write(task, method, seed, accuracy)

    def report(self, name: str = "table2", *, drafts: bool = False) -> Report:
        store = Store(self.results, "micro")
        grid = load_grid(BENCHMARK, "vit_micro", store, drafts=drafts)
        return report(next(t for t in BENCHMARK.tables if t.name == name), grid)

    def table(self, name: str = "table2") -> Part:
        return self.report(name).parts[0]


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def committed() -> dict[str, Loaded]:
    """The committed records by scale, read once."""
    return {name: load_scale(ROOT / "results", name) for name in ("micro", "paper")}


@pytest.fixture(scope="session")
def committed_build(committed, tmp_path_factory) -> dict[str, Path]:
    """What the committed records give, built once: folder by scale."""
    out = tmp_path_factory.mktemp("committed")
    return {name: build(one, out, with_page=False).folder for name, one in committed.items()}


@pytest.fixture(scope="session")
def laid_out():
    """Lays a table out on grids."""
    return report


def report(table: Table, *grids: Grid) -> Report:
    """A table with a part on each of these grids; of a table of costs, the second is that beside it."""
    kind, notes = LAYOUTS[table.layout], Notes()
    if kind.beside:
        grid, beside = grids
        parts = [Part(table=table, grid=grid, notes=notes, beside=beside, compute=kind.compute)]
    else:
        parts = [Part(table=table, grid=one, notes=notes, compute=kind.compute) for one in grids]
    return layout.report(parts, kind)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The world without a record."""
    return World(tmp_path / "results")


@pytest.fixture
def only_world(full_world: World) -> Iterator[World]:
    """The full world, whose benchmark is the only one that there is."""
    # Cleared and filled again: tables stand in the order of this dictionary.
    saved = dict(BENCHMARKS)
    BENCHMARKS.clear()
    BENCHMARKS["vtab1k"] = full_world.benchmark
    yield full_world
    BENCHMARKS.clear()
    BENCHMARKS.update(saved)


@pytest.fixture
def full_world(world: World) -> World:
    """The world with every record."""
    world.write_all()
    return world
