"""Kills runs at random and starts them again, and starts eight at once; says what was lost or trained twice.

    python tests/benchmarks/kills.py --kills 50 --runs 8

Twelve cells of the small world train with two workers. The parent, a worker, or both are killed with SIGKILL
at a random moment, and the same command is given again, until all is done. Then every record has to be what
an undisturbed run has, no finished record may have been written again, and no file may be half there. A run
is a fork of this process, and so are its workers, which saves importing torch a few hundred times.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.harness import cli, workers
from benchmarks.harness.cell import Cell
from benchmarks.harness.registry import select
from benchmarks.harness.store import InvalidRecord, Store
from benchmarks.training.trainer import Stage
from benchmarks.vtab1k import runner  # noqa: F401 - imported once, before the forks
from tests.benchmarks.packed import pack_task

SELECTOR = "vtab1k/vit_micro/eurosat/lora-r[24]*"
COMPARED = ("status", "metrics", "curves", "redundancy", "counts", "config_hash")
TARGETS = ("parent", "worker", "both")


@dataclass
class World:
    """Folders of one grid of twelve cells, and what was trained in them."""

    folder: Path
    data: Path
    epochs: int
    finished: dict[Cell, bytes] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.folder / "results", "smoke")

    @property
    def log(self) -> Path:
        return self.folder / "epochs.log"

    def start(self, jobs: int) -> int:
        """Start a run; return its process."""
        self.folder.mkdir(exist_ok=True)
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            with (self.folder / "output.log").open("a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            _log_epochs(self.log)
            places = [f"--{name}={self.folder / name}" for name in ("results", "work")]
            code = cli.main(
                ["run", SELECTOR, *places, f"--data={self.data}", "--device=cpu", f"--jobs={jobs}",
                 "--set=backbone.weights=random", "--set=data.limit_train=32", "--set=data.limit_test=16",
                 *(f"--set=stage{n}.epochs={self.epochs}" for n in (1, 2))]
            )  # fmt: skip
        finally:
            os._exit(code)

    def trained(self) -> Counter[str]:
        """How often each epoch of each cell has come to its end."""
        return Counter(self.log.read_text().splitlines()) if self.log.exists() else Counter()

    def check(self) -> list[str]:
        """Say what is wrong after a kill: a finished record has changed or is gone, or one is not whole."""
        wrong = []
        for cell in select([SELECTOR], "smoke"):
            path = self.store.path(cell)
            try:
                record = self.store.load(cell)
            except InvalidRecord as error:
                wrong.append(f"{path}: {error}")
                continue
            content = path.read_bytes() if record is not None else b""
            if self.finished.get(cell, content) != content:
                wrong.append(f"{cell}: its finished record has changed")
            if record is not None and record["status"] == "ok":
                self.finished[cell] = content
        return wrong

    def differs(self, other: World) -> list[str]:
        """Say in which cells the numbers are not those of another world."""
        wrong = []
        for cell in select([SELECTOR], "smoke"):
            ours, theirs = self.store.load(cell), other.store.load(cell)
            if ours is None or any(ours[key] != theirs[key] for key in COMPARED):
                wrong.append(f"{cell}: not what an undisturbed run has")
        return wrong


def _log_epochs(log: Path) -> None:
    plain = Stage.train_epoch

    @functools.wraps(plain)
    def train_epoch(stage, epoch, *rest):
        found = plain(stage, epoch, *rest)
        with log.open("a") as file:
            file.write(f"{'/'.join(stage.folder.parts[-5:])} {epoch}\n")
        return found

    Stage.train_epoch = train_epoch


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _kill(pid: int, target: str, rng: random.Random) -> bool:
    """Kill the run, one of its workers, or both; return whether there was something to kill."""
    children = _children(pid)
    if os.waitpid(pid, os.WNOHANG)[0]:
        return False
    if target != "parent":
        if not children:
            target = "parent"
        else:
            os.kill(rng.choice(children), signal.SIGKILL)
    if target != "worker":
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 60
    while any(map(_is_alive, children)):
        if time.monotonic() > deadline:
            raise SystemExit(f"processes {children} outlive their parent")
        time.sleep(0.02)
    return True


def campaign(root: Path, data: Path, reference: World, kills: int, seed: int) -> dict[str, object]:
    """Kill so many times, over as many grids of twelve cells as that takes."""
    rng = random.Random(seed)
    wrong: list[str] = []
    count, grids, again, epochs = Counter(), 0, 0, 0
    while sum(count.values()) < kills:
        world = World(root / f"grid{grids}", data, reference.epochs)
        grids += 1
        while True:
            pid = world.start(jobs=2)
            if sum(count.values()) >= kills:
                break
            time.sleep(rng.uniform(0.1, 4.0))
            target = rng.choice(TARGETS)
            if not _kill(pid, target, rng):
                pid = 0
                break
            count[target] += 1
            wrong += world.check()
        if pid and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
            wrong.append(f"grid {grids}: the last run failed")
        wrong += world.check() + world.differs(reference)
        trained = world.trained()
        again += sum(trained.values()) - len(trained)
        epochs += len(trained)
    return {
        "kills": dict(count), "grids of 12 cells": grids, "epochs": epochs,
        "epochs trained again": again, "wrong": wrong,
    }  # fmt: skip


def at_once(root: Path, data: Path, reference: World, runs: int) -> dict[str, object]:
    """Start so many runs of the same cells at one moment."""
    world = World(root / "at-once", data, reference.epochs)
    pids = [world.start(jobs=1) for _ in range(runs)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    trained = world.trained()
    wrong = world.check() + world.differs(reference)
    wrong += [f"{epoch} trained {n} times" for epoch, n in trained.items() if n > 1]
    wrong += [f"a run ended with {code}" for code in codes if code]
    attempts = [world.store.load(cell)["run"]["attempt"] for cell in world.finished]
    if set(attempts) != {1} or len(attempts) != 12:
        wrong.append(f"attempts: {attempts}")
    left = [str(path) for path in (world.folder / "work").rglob("lock*")]
    wrong += [f"left behind: {path}" for path in left]
    return {"runs at once": runs, "epochs": len(trained), "wrong": wrong}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=8, help="runs at once")
    parser.add_argument("--epochs", type=int, default=3, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    workers.multiprocessing = _Forking  # type: ignore[assignment]
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        pack_task(root / "data", "eurosat", 10)
        reference = World(root / "undisturbed", root / "data", options.epochs)
        os.waitpid(reference.start(jobs=1), 0)
        assert not reference.check()
        assert len(reference.finished) == 12, (reference.folder / "output.log").read_text()[-2000:]
        found = at_once(root, root / "data", reference, options.runs)
        print(found, flush=True)
        killed = campaign(root, root / "data", reference, options.kills, options.seed)
        print(killed, flush=True)
        return 1 if found["wrong"] or killed["wrong"] else 0
    finally:
        shutil.rmtree(root, ignore_errors=True)


class _Forking:
    """``multiprocessing`` whose processes are forks."""

    get_context = staticmethod(lambda name: multiprocessing.get_context("fork"))
    active_children = staticmethod(multiprocessing.active_children)
    parent_process = staticmethod(multiprocessing.parent_process)


if __name__ == "__main__":
    raise SystemExit(main())
