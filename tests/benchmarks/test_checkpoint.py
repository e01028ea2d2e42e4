"""The last epoch is written beside training: whole, as it was handed over, before a stage ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import run_cell
from benchmarks.training import checkpoint
from benchmarks.training.checkpoint import LAST_EPOCH, EpochWriter, load_epoch

ROOT = Path(__file__).resolve().parents[2]
CELL = Cell.parse("vtab1k/vit_micro/eurosat/lora-r2/0")


def state(value, size=8):
    return {
        "identity": "x",
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"lr": 0.1}]},
        "model": {"a": torch.full((size,), float(value))},
        "progress": {"epoch": value, "curves": {"loss": [1.0, None]}},
    }


@pytest.fixture
def slow(monkeypatch):
    """Writing begins when it is let go."""
    begun, let_go = threading.Event(), threading.Event()
    plain = torch.save

    def save(*arguments):
        begun.set()
        assert let_go.wait(30)
        plain(*arguments)

    monkeypatch.setattr(checkpoint.torch, "save", save)
    return begun, let_go


def test_what_is_written_is_what_was_handed_over(tmp_path, slow):
    begun, let_go = slow
    writer, handed = EpochWriter(tmp_path), state(1)
    writer.write(handed)
    assert begun.wait(30)
    handed["model"]["a"].add_(100)
    handed["optimizer"]["groups"][0]["lr"] = 5.0
    handed["progress"]["curves"]["loss"].append(2.0)
    assert not (tmp_path / LAST_EPOCH).exists()
    let_go.set()
    writer.wait()
    found = load_epoch(tmp_path, "x", "cpu")
    assert torch.equal(found["model"].pop("a"), torch.ones(8))
    expected = state(1)
    expected["model"] = {}
    assert found == expected


def test_one_write_is_under_way_at_most(tmp_path, slow):
    _, let_go = slow
    writer = EpochWriter(tmp_path)
    writer.write(state(1))
    second = threading.Thread(target=writer.write, args=(state(2),))
    second.start()
    second.join(0.2)
    assert second.is_alive(), "the second waits for the first"
    let_go.set()
    second.join(30)
    writer.wait()
    assert load_epoch(tmp_path, "x", "cpu")["progress"]["epoch"] == 2
    assert [path.name for path in tmp_path.iterdir()] == [LAST_EPOCH]


def test_what_cannot_be_written_is_told_where_it_is_waited_for(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    writer = EpochWriter(tmp_path)
    writer.write(state(1))
    with pytest.raises(OSError, match="no space left"):
        writer.wait()
    writer.write(state(1))
    with pytest.raises(OSError, match="no space left"):
        writer.write(state(2))
    with pytest.raises(OSError, match="no space left"):
        EpochWriter(tmp_path, waits=True).write(state(1))


def test_a_disk_that_is_full_fails_the_cell(settings, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    assert run_cell(CELL, settings, lambda event: None) == "failed"
    assert settings.store.load(CELL)["error"] == "OSError: no space left"


@pytest.mark.parametrize("waits", [False, True])
def test_both_ways_leave_the_same_record_and_nothing_behind(settings, waits, tmp_path):
    other = dataclasses.replace(
        settings, waits=waits, results=tmp_path / "r2", work=tmp_path / "w2"
    )
    for one in (settings, other):
        assert run_cell(CELL, one, lambda event: None) == "ok"
        assert not list(one.work.rglob("*last-epoch*"))
        assert not [t for t in threading.enumerate() if t.name == "checkpoint"]
    first, second = settings.store.load(CELL), other.store.load(CELL)
    for name in ("metrics", "curves", "redundancy"):
        assert first[name] == second[name]


def test_killed_while_it_writes_the_file_before_is_there(tmp_path):
    program = f"""
import pathlib, sys, torch
from benchmarks.training.checkpoint import EpochWriter
writer = EpochWriter(pathlib.Path({str(tmp_path)!r}))
for epoch in range(1, 10_000):
    model = {{"a": torch.full((1_000_000,), float(epoch))}}
    writer.write({{"identity": "x", "model": model, "progress": {{"epoch": epoch}}}})
    print(epoch, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    told = next(int(line) for line in process.stdout if int(line) >= 5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    told = max([told, *map(int, process.stdout.read().split())])
    found = load_epoch(tmp_path, "x", "cpu")
    epoch = found["progress"]["epoch"]
    assert told - 1 <= epoch <= told + 1, "no more than the one that was being written is lost"
    assert torch.equal(found["model"]["a"], torch.full((1_000_000,), float(epoch)))
