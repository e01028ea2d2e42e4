"""A cluster for a module's tests, and the command on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.benchmarks.packed import pack_task
from tests.slurm.cluster import Cluster, is_installed, until

ROOT = Path(__file__).parents[2]
BLOCK = "vtab1k/vit_micro/*/lora-r2*"
"""On two packed tasks: 12 cells, in 2 groups of a stage 1 and five second stages."""


@dataclass
class World:
    """Folders of one test, and the cluster."""

    cluster: Cluster
    folder: Path
    data: Path
    more: list[str] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def places(self) -> list[str]:
        return [
            *("--scale", "smoke", "--set", "backbone.weights=random"),
            *(
                "--results",
                str(self.results),
                "--work",
                str(self.folder / "work"),
                "--data",
                str(self.data),
            ),
            *self.more,
        ]

    def slurm(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run ``python -m slurm``; assert its exit code."""
        command = [sys.executable, "-m", "slurm", arguments[0], *self.places]
        if arguments[0] in ("submit", "resubmit"):  # their last job builds tables
            command += ["--tables", str(self.folder / "tables")]
        command += arguments[1:]
        environment = self.cluster.environment | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        if code is not None:
            assert done.returncode == code, done.stdout + done.stderr
        return done

    def submit(self, *more: str, selector: str = BLOCK, hours: str = "0.002", code: int = 0):
        """Submit small jobs: two cells of a few seconds each."""
        asked = ["--device", "cpu", "--seconds", "3", "--hours", hours, "--cpus-per-task", "1"]
        cells = [s for task in ("eurosat", "dmlab") for s in [selector.replace("*", task, 1)]]
        return self.slurm("submit", *cells, *asked, *more, code=code)

    def wait(self, seconds: float = 120, code: int = 0) -> str:
        """Wait until nothing runs or waits; return what status says last."""
        last: list[subprocess.CompletedProcess[str]] = []

        def ended() -> bool:
            last[:] = [self.slurm("status", code=None)]
            return last[0].returncode != 3

        until(ended, seconds, "all cells end")
        assert last[0].returncode == code, last[0].stdout + last[0].stderr
        return last[0].stdout

    def records(self) -> dict[str, dict]:
        """The records by cell."""
        root = self.results / "smoke"
        return {
            path.relative_to(root).with_suffix("").as_posix(): json.loads(path.read_text())
            for path in root.rglob("*.json")
        }

    def logs(self) -> str:
        """All jobs' logs."""
        return "".join(path.read_text() for path in sorted(self.folder.rglob("*_0_log.out")))

    def repeated_epochs(self) -> int:
        """How many epochs were trained again, in all logs."""
        lines = re.findall(r"^\S+ epoch \d+ of \d+$", self.logs(), re.M)
        return len(lines) - len(set(lines))

    def jobs(self) -> list[dict]:
        """The jobs of the last submission."""
        files = sorted((self.folder / "work" / "smoke" / "slurm").glob("*/submission.json"))
        return json.loads(files[-1].read_text())["jobs"]


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch):
    """Jobs log every epoch, for the tests that count them."""
    monkeypatch.setenv("PROGRESS_SECONDS", "0")


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> Path:
    """Two packed tasks."""
    root = tmp_path_factory.mktemp("data")
    pack_task(root, "eurosat", 10)
    pack_task(root, "dmlab", 6)
    return root


def require(*, accounting: bool = False, grid: bool = False) -> None:
    """Skip, unless a cluster was asked for: ``make slurm-test`` installs one and asks for it."""
    asked = os.environ.get("SLURM_TESTS")
    if not asked or (grid and asked != "grid"):
        pytest.skip(f"make slurm-{'grid' if grid else 'test'} runs this on a real Slurm")
    assert is_installed(accounting=accounting), "Slurm is not installed: make slurm-test does it"


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of two cores, without accounting."""
    require()
    with Cluster(cpus=2, own_names=False) as found:
        yield found


@pytest.fixture
def world(cluster, packed, tmp_path):
    """Fresh folders on the cluster, and no job of an earlier test."""
    yield World(cluster, tmp_path, packed)
    cluster.run("scancel", "--me", check=False)
    until(lambda: not cluster.run("squeue", "-h", "--me"), 60, "the queue is empty")
