"""The smoke grid of the embedded world on a real Slurm, against a run without: ``make slurm-grid``.

About 1,000 cells, run three times: without Slurm, on three nodes without accounting, and with it. That takes
an hour and a half on two cores, hence it runs where ``SLURM_TESTS=grid`` asks for it alone; ``SLURM_GRID``
names selectors of a smaller one.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.registry import select
from tests.slurm.cluster import Cluster, until
from tests.slurm.conftest import ROOT, require

GRID = os.environ.get("SLURM_GRID", "vtab1k/vit_micro/*").split()
HOURS = 3
"""Deadline of a run of the grid."""

pytestmark = pytest.mark.slow

MAY_DIFFER = {
    "record_sha256": "it covers the times",
    "run": "when it ran",
    "cost.cached_features.seconds": "a time",
    "cost.evaluate_seconds": "a time",
    "cost.total_seconds": "a time",
    "cost.train_seconds": "a time",
    "protocol.search.search_seconds": "a time",
    "protocol.search.supernet_seconds": "a time",
    "cost.peak_process_memory_bytes": "of a process that ran other cells before",
}
"""Parts of a record that two runs of one cell need not share, and why."""


def flat(value: object, name: str = "") -> dict[str, object]:
    """The leaves of a record by dotted name, without what may differ."""
    if name in MAY_DIFFER:
        return {}
    if isinstance(value, dict):
        parts = (flat(each, f"{name}.{key}".lstrip(".")) for key, each in value.items())
        return {key: leaf for part in parts for key, leaf in part.items()}
    return {name: value}


def records(results: Path) -> dict[str, dict]:
    """The records of the smoke scale by their path."""
    root = results / "smoke"
    return {
        path.relative_to(root).as_posix(): json.loads(path.read_text())
        for path in root.rglob("*.json")
    }


def differing_records(one: Path, other: Path) -> dict[str, list[str]]:
    """What differs between two stores, by record; a record that one of them lacks is told as such."""
    left, right, found = records(one), records(other), {}
    for name in sorted(left.keys() | right.keys()):
        if name not in left or name not in right:
            found[name] = ["is in one store alone"]
            continue
        a, b = flat(left[name]), flat(right[name])
        if wrong := [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]:
            found[name] = wrong
    return found


def differing_files(one: Path, other: Path) -> list[str]:
    """Files of two folders that differ or are in one alone; hashes of records cover their times."""
    names = {
        path.relative_to(root).as_posix()
        for root in (one, other)
        for path in root.rglob("*")
        if path.is_file()
    }

    def content(path: Path) -> object:
        if not path.exists():
            return None
        if not path.name.endswith(".sources.csv"):
            return path.read_bytes()
        rows = csv.DictReader(path.read_text().splitlines())
        return [row | {"record_sha256": "of times too"} for row in rows]

    return sorted(name for name in names if content(one / name) != content(other / name))


def python(*arguments: str, code: tuple[int, ...] = (0,), **more: object) -> str:
    """Run a module of the suite from the checkout; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=3600 * HOURS, **more,
    )  # fmt: skip
    assert done.returncode in code, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def data() -> Path:
    """The packed tasks; they are made where they are not there."""
    require(grid=True)
    python("data_prep", "prepare", "vtab1k")
    return ROOT / "data"


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory) -> Path:
    """Records and tables of a run without Slurm."""
    folder = tmp_path_factory.mktemp("plain")
    python("benchmarks", "run", *GRID, "--scale", "smoke", "--data", str(data), "--device", "cpu",
           "--results", str(folder / "results"), "--work", str(folder / "work"),
           "--jobs", str(min(2, os.cpu_count() or 1)))  # fmt: skip
    python("reports", "build", "--scale", "smoke", "--results", str(folder / "results"),
           "--out", str(folder / "tables"), code=(0, 3))  # fmt: skip
    return folder


@pytest.mark.parametrize("accounting", [False, True], ids=["no-accounting", "accounting"])
def test_the_whole_smoke_grid_equals_a_run_without_slurm(plain, data, tmp_path, accounting):
    require(accounting=accounting, grid=True)
    with Cluster(cpus=1, accounting=accounting) as cluster:
        environment = cluster.environment | {"OMP_NUM_THREADS": "1"}
        places = ["--scale", "smoke", "--data", str(data), "--results", str(tmp_path / "results"),
                  "--work", str(tmp_path / "work")]  # fmt: skip
        said = python("slurm", "submit", *GRID, *places, "--device", "cpu", "--seconds", "2", "--time", "60",
                      "--hours", "0.02", "--cpus-per-task", "1", "--tables", str(tmp_path / "tables"),
                      env=environment)  # fmt: skip
        print(said)
        going = 3

        def status() -> str:
            return python("slurm", "status", *places, code=(0, 1, going), env=environment)

        until(lambda: not cluster.run("squeue", "-h"), 3600 * HOURS, "the queue is empty")
        print(status())
        assert "0 done before" in said
    assert differing_records(plain / "results", tmp_path / "results") == {}
    found = records(tmp_path / "results")
    assert len(found) == len(select(GRID, "smoke"))
    assert {record["status"] for record in found.values()} == {"ok"}
    assert {record["run"]["attempt"] for record in found.values()} == {1}
    assert differing_files(plain / "tables" / "smoke", tmp_path / "tables" / "smoke") == []
