"""A plan on this machine, one process a device: no Slurm is needed."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import submitit

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings
from slurm import following, local
from slurm.cli import main
from slurm.node import RunCells
from slurm.planning import Job
from tests.benchmarks.packed import pack_task
from tests.slurm.cluster import until

ROOT = Path(__file__).parents[2]
TWO = [Cell.parse(f"vtab1k/vit_micro/eurosat/lora-r{rank}/0") for rank in (2, 4)]
EIGHT = [Job(array="stage 1", device="cuda", cells=(), seconds=1.0) for _ in range(8)]


def command(folder: Path, *more: str) -> list[str]:
    """The six cells of EuroSAT and LoRA of rank 2, two jobs side by side."""
    return ["submit", "vtab1k/vit_micro/eurosat/lora-r2*", "--executor", "local", "--workers", "2",
            "--scale", "smoke", "--set", "backbone.weights=random", "--device", "cpu", "--seconds", "3",
            "--hours", "0.002", "--cpus-per-task", "1", "--results", str(folder / "results"),
            "--work", str(folder / "work"), "--data", str(folder / "data"),
            "--tables", str(folder / "t"), *more]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    pack_task(tmp_path / "data", "eurosat", 10)
    return tmp_path


def settings(folder: Path) -> Settings:
    """How the command below runs, for a job of it."""
    return Settings(
        scale="smoke",
        results=folder / "results",
        data=folder / "data",
        work=folder / "work",
        device="cpu",
        overrides={"backbone.weights": "random"},
    )


def statuses(folder: Path) -> dict[str, str]:
    """The status of each record."""
    return {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in (folder / "results").rglob("*.json")
    }


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    threads = [p for p in Path(f"/proc/{pid}/task").glob("*/children") if p.exists()] or [path]
    return [int(child) for thread in threads for child in thread.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_same_plan_runs_on_this_machine(folder, capfd):
    assert main(command(folder)) == 0
    assert set(statuses(folder).values()) == {"ok"}
    assert len(statuses(folder)) == 6
    assert (folder / "t" / "smoke" / "index.html").exists()
    assert main(command(folder)) == 0
    assert "nothing to do" in capfd.readouterr().out


@dataclass
class Look:
    """Writes down which device it sees, and when it was there."""

    folder: Path
    name: int

    def __call__(self) -> None:
        seen = {"device": os.environ["CUDA_VISIBLE_DEVICES"], "from": time.time()}
        time.sleep(0.3)
        text = json.dumps(seen | {"to": time.time()})
        (self.folder / f"{self.name}.json").write_text(text)


def test_jobs_side_by_side_see_different_devices_and_the_others_queue(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = iter(range(8))
    failed = local.run(
        EIGHT, lambda job: Look(tmp_path, next(names)), ["0", "1"], lambda text: None
    )
    assert failed == []
    seen = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(seen) == 8
    assert {one["device"] for one in seen} == {"0", "1"}
    for device in "01":
        alone = sorted((one["from"], one["to"]) for one in seen if one["device"] == device)
        for (_, end), (start, _) in itertools.pairwise(alone):
            assert end <= start
    # Not one after the other, though: a GPU each, at the same time.
    first = sorted(seen, key=lambda one: one["from"])[:2]
    assert {one["device"] for one in first} == {"0", "1"}


def test_a_killed_worker_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    names, said = iter(range(8)), []

    def task(job):
        number = next(names)
        return Die() if number == 3 else Look(tmp_path, number)

    failed = local.run(EIGHT, task, ["0", "1"], said.append)
    assert len(failed) == 1
    assert len(list(tmp_path.glob("*.json"))) == 7
    assert sum("was killed by SIGKILL" in text for text in said) == 1


def test_the_log_of_a_cell_with_a_defect_has_its_stack(folder, capsys, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr("benchmarks.training.two_stage.run", broken)
    RunCells(TWO, settings(folder))()
    lines = capsys.readouterr().out.splitlines()
    for cell in TWO:
        part = following.part_of(lines, cell)
        assert part[-1] == f"{cell} failed: ZeroDivisionError: no such thing"
        assert any("in broken" in line for line in part)


def test_a_cell_whose_job_may_not_go_on_has_not_failed(folder, monkeypatch):
    def ended(*_):
        raise submitit.core.utils.UncompletedJobError("timed-out too many times")

    monkeypatch.setattr("benchmarks.training.two_stage.run", ended)
    with pytest.raises(submitit.core.utils.UncompletedJobError):
        RunCells(TWO, settings(folder))()
    assert statuses(folder) == {}


class DeafOnce:
    """Does not hear the first Ctrl-C, as where Python drops it in a destructor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        def hear(number, frame):
            if (self.folder / "first").exists():
                raise KeyboardInterrupt
            (self.folder / "first").touch()

        signal.signal(signal.SIGINT, hear)
        (self.folder / "ready").touch()
        for _ in range(600):
            time.sleep(0.1)


def test_a_process_that_does_not_hear_is_told_again(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(local, "PATIENCE", 0.5)
    workers = local._Workers(lambda job: DeafOnce(tmp_path), lambda text: None)
    places: queue.Queue[str] = queue.Queue()
    places.put("")
    thread = threading.Thread(target=workers.run, args=(EIGHT[0], places))
    thread.start()
    until((tmp_path / "ready").exists, 60, "the process is at work")
    workers.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert (tmp_path / "first").exists()
    assert workers.failed == [EIGHT[0]]


class Die:
    """Is killed, as by the kernel that is out of memory."""

    def __call__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def start(folder):
    """Starts the command, and ends it with the test."""
    started: list[subprocess.Popen] = []
    yield lambda: started.append(_start(folder)) or started[0]
    for process in started:
        process.kill()
        process.wait(20)


def _start(folder: Path) -> subprocess.Popen:
    long = ["--set", "stage1.epochs=400", "--set", "stage2.epochs=400"]
    log = folder / "log"
    process = subprocess.Popen(
        [sys.executable, "-m", "slurm", *command(folder, *long)],
        cwd=ROOT,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # A shell's background job does not hear Ctrl-C, and what it starts does not either.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until(lambda: "epoch 2 of" in log.read_text(), 300, "an epoch")
    except TimeoutError:
        process.kill()
        raise
    return process


@pytest.mark.slow
def test_ctrl_c_stops_all_and_starts_nothing_more(folder, start):
    process = start()
    workers = children(process.pid)
    assert workers
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    assert process.wait(60) == 1
    assert "stopped; finished cells are kept" in (folder / "log").read_text()
    until(lambda: not any(map(alive, workers)), 20, "the workers end")
    assert statuses(folder) == {"lora-r2": "cancelled"}


@pytest.mark.slow
def test_a_second_command_is_refused_while_one_runs_and_workers_end_with_it(folder, start, capsys):
    process = start()
    assert main(command(folder)) == 2
    assert "another command uses" in capsys.readouterr().err
    workers = children(process.pid)
    assert workers
    process.kill()
    process.wait(20)
    until(lambda: not any(map(alive, workers)), 20, "the workers end")
    assert statuses(folder) == {}


@pytest.mark.slow
def test_a_failing_cell_is_told_by_the_exit_code(folder, capfd):
    bad = command(folder, "--set", "stage2.learning_rate=1e30")
    bad[1] = "vtab1k/vit_micro/eurosat/lora-r2[+]linear"
    assert main(bad) == 1
    said = capfd.readouterr().out
    assert "1 of 2 cells failed or have no record" in said
    assert statuses(folder) == {"lora-r2": "ok", "lora-r2+linear": "diverged"}


def test_cells_without_data_are_refused_before_anything_runs(folder, capsys):
    asked = command(folder)
    asked[1:2] = ["vtab1k/vit_micro/eurosat/lora-r2", "vtab1k/vit_micro/pets/lora-r2"]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert "pets" in error
    assert "--skip-missing" in error
    assert statuses(folder) == {}
    capsys.readouterr()
    assert main([*asked, "--skip-missing", "--dry-run"]) == 3
    assert "missing for 1 of them" in capsys.readouterr().out
