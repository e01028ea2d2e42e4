"""A lock a cell: of several runs one trains it, whatever the file system, and whoever dies."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import threading
import time

import pytest

from benchmarks.harness import execute, lock, workers
from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings
from benchmarks.harness.lock import Lock, held, is_free
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.registry import declared
from benchmarks.harness.workers import run_many

FORK = multiprocessing.get_context("fork")
BASE = Cell("vtab1k", "vit_micro", "eurosat", "lora-r2", 0)
CELLS = [
    Cell("vtab1k", "vit_micro", "eurosat", f"{base}{suffix}", 0)
    for base in ("lora-r2", "lora-r4")
    for suffix in ("", "+control", "+linear", "+nonlinear", "+euclidean", "+cosine")
]


@pytest.fixture(params=["flock", "ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def path(request, tmp_path, monkeypatch):
    """A lock's file, on a file system with ``flock`` and on those without."""
    if request.param != "flock":
        number = getattr(errno, request.param)

        def refuse(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
    return tmp_path / "cell" / "lock"


def test_one_has_it_and_leaves_nothing(path):
    first, second = Lock(path), Lock(path)
    assert first.take()
    assert not second.take()
    assert second.owner == f"process {os.getpid()} on {socket.gethostname()}"
    assert not is_free(path)
    first.release()
    assert is_free(path)
    assert second.take()
    second.release()
    assert list(path.parent.iterdir()) == []


def _hold(path, taken):
    assert Lock(path).take()
    taken.set()
    time.sleep(600)


def test_it_dies_with_its_process(path):
    taken = FORK.Event()
    owner = FORK.Process(target=_hold, args=(path, taken))
    owner.start()
    assert taken.wait(60)
    assert not is_free(path)
    assert Lock(path).owner == f"process {owner.pid} on {socket.gethostname()}"
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    with held(path) as is_ours:
        assert is_ours


def _take_once(path, inside, most):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with held(path) as is_ours:
            if is_ours:
                with inside.get_lock():
                    inside.value += 1
                    most.value = max(most.value, inside.value)
                time.sleep(0.05)
                with inside.get_lock():
                    inside.value -= 1
                return
        time.sleep(0.01)


def test_of_many_that_take_over_one_at_a_time_has_it(path):
    path.parent.mkdir()
    dead = FORK.Process(target=lambda: None)
    dead.start()
    dead.join()
    path.with_name("lock.owner").write_text(f"{socket.gethostname()} {dead.pid}")
    inside, most = FORK.Value("i", 0), FORK.Value("i", 0)
    takers = [FORK.Process(target=_take_once, args=(path, inside, most)) for _ in range(6)]
    for one in takers:
        one.start()
    for one in takers:
        one.join(90)
        assert one.exitcode == 0
    assert most.value == 1


@pytest.mark.parametrize(("age", "is_taken"), [(0, False), (lock.SILENT_SECONDS + 60, True)])
@pytest.mark.parametrize(
    "text",
    ["another-machine 12", "", "no number", f"x{os.getpid()}"],
    ids=["another machine", "empty", "no number", "no host"],
)
def test_an_owner_elsewhere_counts_as_dead_when_it_is_silent(
    tmp_path, monkeypatch, age, is_taken, text
):
    monkeypatch.setattr(fcntl, "flock", _no_flock)
    path = tmp_path / "lock"
    marker = tmp_path / "lock.owner"
    marker.write_text(text)
    os.utime(marker, (time.time() - age, time.time() - age))
    with held(path) as is_ours:
        assert is_ours == is_taken


def test_an_owner_says_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", _no_flock)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    path = tmp_path / "lock"
    with held(path):
        marker = tmp_path / "lock.owner"
        os.utime(marker, (0, 0))
        deadline = time.monotonic() + 30
        while marker.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _no_flock(*_):
    raise OSError(errno.ENOSYS, "no")


def write(cell, settings, status="ok"):
    benchmark, scale = declared(cell, settings.scale)
    values = {"last_epoch": 0.5, "best_val": None, "max_test": 0.5}
    record = build_record(
        benchmark,
        scale,
        cell,
        settings.config(cell),
        status=status,
        error=None if status == "ok" else "it broke",
        outcome=Outcome(metrics={"top1_accuracy": values}) if status == "ok" else Outcome(),
        sources={},
        where={"code": {}, "environment": {}, "hardware": {}},
        run={"attempt": 1},
    )
    settings.store.write(cell, record)


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """Settings of runs that train nothing, but take a moment, and write down what they would train."""
    settings = Settings(scale="smoke", results=tmp_path / "r", work=tmp_path / "w", device="cpu")
    log = tmp_path / "log"

    def run_cell(cell, settings, report, *, keep_fresh=False):
        with log.open("a") as file:
            file.write(f"{cell.method}\n")
        time.sleep(0.02)
        if not keep_fresh:
            write(cell, settings)
        (tmp_path / cell.method).touch()
        report(execute.Event(cell, "ok"))
        return "ok"

    monkeypatch.setattr(execute, "run_cell", run_cell)
    monkeypatch.setattr(execute, "prepare_process", lambda settings: None)
    monkeypatch.setattr(
        execute, "has_stage1", lambda cell, settings: (tmp_path / cell.base.method).exists()
    )
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.05)
    return settings, log


def _run_all(settings, seen, ended):
    events = []
    assert run_many(CELLS, settings, 1, events.append, seen=seen) == []
    ended.put({event.cell for event in events if event.status == "ok"})


def test_eight_runs_at_once_train_each_cell_once(pretended):
    settings, log = pretended
    ended = FORK.Queue()
    seen = settings.store.stamps(CELLS)
    runs = [FORK.Process(target=_run_all, args=(settings, seen, ended)) for _ in range(8)]
    for one in runs:
        one.start()
    for _ in runs:
        assert ended.get(timeout=120) == set(CELLS), "each run sees every cell end"
    for one in runs:
        one.join(60)
        assert one.exitcode == 0
    assert sorted(log.read_text().split()) == sorted(cell.method for cell in CELLS)


def test_a_cell_of_another_run_is_left_to_it_and_named(pretended):
    settings, log = pretended
    notes = []
    with held(settings.lock_of(BASE)) as is_ours:
        assert is_ours
        left = run_many(CELLS, settings, 1, lambda event: notes.append(event.note), waits=False)
    assert left == CELLS[:6], "its stage 1 is at work: what starts from it, too"
    assert sorted(log.read_text().split()) == sorted(cell.method for cell in CELLS[6:])
    told = [note for note in notes if note and "left to it" in note]
    assert len(told) == 6
    assert told[0].startswith(
        f"{BASE}: process {os.getpid()} on {socket.gethostname()} is at work on"
    )


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_a_cell_of_another_run_is_waited_for(pretended, status):
    settings, log = pretended
    lock_of_it = Lock(settings.lock_of(BASE))
    assert lock_of_it.take()

    def finish():
        write(BASE, settings, status)
        (log.parent / BASE.method).touch()
        lock_of_it.release()

    events = []
    timer = threading.Timer(1.0, finish)
    timer.start()
    assert run_many([BASE], settings, 1, events.append) == []
    timer.join()
    assert not log.exists(), "it is not trained again, also if it has failed"
    assert [event.status for event in events if event.status] == [status]


def test_a_cell_whose_run_has_died_is_taken_over(pretended):
    settings, log = pretended
    lock_of_it = Lock(settings.lock_of(BASE))
    assert lock_of_it.take()
    timer = threading.Timer(0.5, lock_of_it.release)
    timer.start()
    assert run_many([BASE], settings, 1, lambda event: None) == []
    timer.join()
    assert log.read_text() == "lora-r2\n"


def test_all_is_trained_again_when_asked(pretended):
    settings, log = pretended
    write(BASE, settings)
    run_many([BASE], settings, 1, lambda event: None)
    assert log.read_text() == "lora-r2\n"
