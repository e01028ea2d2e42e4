"""Cells that the command trains side by side: the same numbers, records, failures and resumption as alone."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.harness import beside
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.execute import pending
from benchmarks.harness.registry import select
from benchmarks.harness.workers import run_many
from benchmarks.training import together
from benchmarks.training.finite import Diverged
from benchmarks.training.side_by_side import SideBySide
from benchmarks.training.trainer import Stage

ROOT = Path(__file__).resolve().parents[2]
EUROSAT = "vtab1k/vit_micro/eurosat"


@pytest.fixture
def joined(settings):
    return dataclasses.replace(settings, side_by_side=3)


def run(settings, *selectors):
    events = []
    run_many(pending(select(selectors, settings.scale), settings), settings, 1, events.append)
    notes = [event.note for event in events if event.note]
    return {str(event.cell): event.status for event in events if event.status}, notes


def record(settings, path):
    return settings.store.load(Cell.parse(path))


def assert_same(one, other):
    """float32, 4 to 12 steps: losses to 1e-4, penalties to 1e-3, accuracy to one of 40 images."""
    assert one["config_hash"] == other["config_hash"]
    assert one["counts"] == other["counts"]
    for stage, curves in one["curves"].items():
        assert other["curves"][stage].keys() == curves.keys()
        for name, series in curves.items():
            there = other["curves"][stage][name]
            assert [v is None for v in there] == [v is None for v in series]
            tolerance = {"train_loss": {"rel": 1e-4}, "penalty": {"rel": 1e-3}}
            for p, q in zip(series, there, strict=True):
                assert q == p or q == pytest.approx(p, **tolerance.get(name, {"abs": 1.1 / 40}))
    before, after = one["redundancy"]["end"]["mean"], other["redundancy"]["end"]["mean"]
    assert after == pytest.approx(before, rel=1e-3)


def test_the_command_gives_the_numbers_of_each_cell_alone(capsys, settings, paths, tmp_path):
    chosen = [f"{EUROSAT}/lora-r2*", f"{EUROSAT}/lora-r8", f"{EUROSAT}/linear"]
    alone = dataclasses.replace(settings, results=tmp_path / "r2", work=tmp_path / "w2")
    run(alone, *chosen)
    assert main(["run", *chosen, *paths, "--batch-cells=4"]) == 0
    printed = capsys.readouterr().out
    assert "in one forward pass, up to 4 at once: 7 of 8 cells" in printed
    assert "shares a forward pass: linear" in printed
    sizes = []
    for cell in select(chosen[:2], "smoke"):
        one, other = record(alone, str(cell)), record(settings, str(cell))
        assert_same(one, other)
        assert "side_by_side" not in one["cost"]
        sizes.append(other["cost"]["side_by_side"])
        assert other["cost"]["total_seconds"] > other["cost"]["train_seconds"] > 0
        if cell != cell.base:
            assert other["stage1"]["cell"] == str(cell.base)
    # Two first stages; five second ones, in parts as equal as can be.
    assert sorted(sizes) == [2, 2, 2, 2, 3, 3, 3]
    assert "side_by_side" not in record(settings, f"{EUROSAT}/linear/0")["cost"]
    assert main(["run", *chosen, *paths, "--batch-cells=4"]) == 0
    assert "8 cells chosen at scale smoke, 8 done before" in capsys.readouterr().out


def test_the_seconds_of_cells_together_add_up(joined):
    started = time.perf_counter()
    run(joined, f"{EUROSAT}/lora-r2", f"{EUROSAT}/lora-r4", f"{EUROSAT}/lora-r8")
    spent = time.perf_counter() - started
    costs = [record(joined, f"{EUROSAT}/lora-r{rank}/0")["cost"] for rank in (2, 4, 8)]
    assert sum(cost["total_seconds"] for cost in costs) < spent


@pytest.mark.slow
def test_few_shot_cells_train_beside_each_other(joined, tmp_path):
    chosen = "fewshot/vit_micro/cars-4shot/lora-r8*"
    alone = dataclasses.replace(
        joined, side_by_side=0, results=tmp_path / "r2", work=tmp_path / "w2"
    )
    run(alone, chosen)
    statuses, notes = run(joined, chosen)
    assert set(statuses.values()) == {"ok"}
    assert notes == []
    for path in statuses:
        assert_same(record(alone, path), record(joined, path))
    assert (
        record(joined, "fewshot/vit_micro/cars-4shot/lora-r8+linear/0")["cost"]["side_by_side"] == 2
    )


def test_a_dry_run_tells_which_cells_share_a_forward_pass(capsys, paths):
    chosen = [f"{EUROSAT}/lora-r2*", "vtab1k/vit_micro/eurosat/moslora-r8"]
    assert main(["run", *chosen, *paths, "--batch-cells=8", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "in one forward pass, up to 8 at once: 6 of 7 cells" in printed
    assert "shares a forward pass: moslora-r8" in printed
    assert main(["run", *chosen, *paths, "--batch-cells=-1"]) == 2
    assert "--batch-cells is -1; it has to be a whole number" in capsys.readouterr().err


def test_other_settings_train_apart(joined):
    def key(path, **overrides):
        return beside.forward_key(
            Cell.parse(path), dataclasses.replace(joined, overrides=overrides)
        )

    one = key(f"{EUROSAT}/lora-r8+linear/0")
    assert one == key(f"{EUROSAT}/lora-r2+control/0")
    assert one == key(f"{EUROSAT}/lora-r8+linear/0", **{"stage2.learning_rate": 1.0})
    assert one != key(f"{EUROSAT}/lora-r8/0")
    assert one != key("vtab1k/vit_micro/dmlab/lora-r8+linear/0")
    assert one != key("vtab1k/swin_micro/eurosat/lora-r8+linear/0")
    for name, value in {
        "stage2.batch_size": 8,
        "training.precision": "bf16",
        "backbone.drop_path": 0.3,
        "data.limit_train": 32,
    }.items():
        assert one != key(f"{EUROSAT}/lora-r8+linear/0", **{name: value}), name
    for path in (f"{EUROSAT}/moslora-r8/0", "flickr30k/bert_micro/f30k/lora-r8/0"):
        assert key(path) is None


@pytest.mark.slow
def test_a_stage_1_that_was_not_asked_for_runs_beside_those_that_were(joined):
    statuses, _ = run(joined, f"{EUROSAT}/lora-r2+linear", f"{EUROSAT}/lora-r4*")
    assert f"{EUROSAT}/lora-r2/0" not in statuses
    assert set(statuses.values()) == {"ok"}
    assert record(joined, f"{EUROSAT}/lora-r2/0")["cost"]["side_by_side"] == 2


def test_one_cell_that_fails_leaves_the_others(joined, monkeypatch):
    plain_close, plain_prepare = Stage.close_epoch, together.prepare

    def close(stage, *rest):
        if "lora-r2" in str(stage.folder):
            raise Diverged("no way")
        plain_close(stage, *rest)

    def prepare(cell, *rest):
        if cell.method == "lora-r4":
            raise ValueError("broken\nfrom the start")
        return plain_prepare(cell, *rest)

    monkeypatch.setattr(Stage, "close_epoch", close)
    monkeypatch.setattr(together, "prepare", prepare)
    statuses, notes = run(joined, f"{EUROSAT}/lora-r[248]", f"{EUROSAT}/lora-r2+linear")
    named = {path.split("/")[3]: status for path, status in statuses.items()}
    assert named == {
        "lora-r2": "diverged",
        "lora-r4": "failed",
        "lora-r8": "ok",
        "lora-r2+linear": "failed",
    }
    assert notes == []
    assert record(joined, f"{EUROSAT}/lora-r4/0")["error"] == "ValueError: broken"
    assert record(joined, f"{EUROSAT}/lora-r2/0")["error"] == "Diverged: no way"
    assert "was not finished" in record(joined, f"{EUROSAT}/lora-r2+linear/0")["error"]
    monkeypatch.undo()
    statuses, _ = run(joined, f"{EUROSAT}/lora-r[248]", f"{EUROSAT}/lora-r2+linear")
    assert list(statuses.values()) == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    "problem", [torch.OutOfMemoryError("no room"), RuntimeError("a kernel that nobody has")]
)
def test_what_breaks_all_of_them_has_each_train_alone(joined, monkeypatch, problem):
    plain, epochs = SideBySide.train_epoch, []

    def break_later(self, epoch):
        epochs.append(epoch)
        if epoch:
            raise problem
        return plain(self, epoch)

    trained, plain_alone = [], Stage.train_epoch
    monkeypatch.setattr(SideBySide, "train_epoch", break_later)
    monkeypatch.setattr(
        Stage, "train_epoch", lambda self, epoch: trained.append(epoch) or plain_alone(self, epoch)
    )
    statuses, notes = run(joined, f"{EUROSAT}/lora-r[248]")
    assert set(statuses.values()) == {"ok"}
    assert len(statuses) == 3
    assert notes == [f"each alone instead of 3 side by side: {type(problem).__name__}: {problem}"]
    assert epochs == [0, 1]
    assert trained == [1, 1, 1], "the epoch that they had together is kept"
    assert "side_by_side" not in record(joined, f"{EUROSAT}/lora-r2/0")["cost"]


def test_a_limit_of_time_is_for_all_of_them(joined):
    limited = dataclasses.replace(joined, timeout_seconds=0.02)
    statuses, _ = run(limited, f"{EUROSAT}/lora-r[24]")
    assert list(statuses.values()) == ["timeout", "timeout"]


def test_stopping_them_writes_down_each_and_loses_no_epoch(joined, tmp_path, monkeypatch):
    joined = dataclasses.replace(joined, overrides=joined.overrides | {"stage1.epochs": 3})
    whole = dataclasses.replace(joined, results=tmp_path / "r2", work=tmp_path / "w2")
    run(whole, f"{EUROSAT}/lora-r[24]")
    plain, epochs = SideBySide.train_epoch, []

    def stop_in_the_third(self, epoch):
        epochs.append(epoch)
        if epochs == [0, 1, 2]:
            raise KeyboardInterrupt
        return plain(self, epoch)

    monkeypatch.setattr(SideBySide, "train_epoch", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(joined, f"{EUROSAT}/lora-r[24]")
    for rank in (2, 4):
        assert record(joined, f"{EUROSAT}/lora-r{rank}/0")["status"] == "cancelled"
    run(joined, f"{EUROSAT}/lora-r[24]")
    assert epochs[3:] == [2]
    for rank in (2, 4):
        path = f"{EUROSAT}/lora-r{rank}/0"
        assert record(joined, path)["run"]["attempt"] == 2
        for field in ("metrics", "curves", "redundancy"):
            assert record(joined, path)[field] == record(whole, path)[field]


@pytest.mark.slow
def test_after_kill_9_they_go_on_where_they_were(settings, paths, monkeypatch):
    chosen = f"{EUROSAT}/lora-r[248]"
    more = ["--set=stage1.epochs=12", "--set=stage1.evaluate_every=12", "--batch-cells=3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "run", chosen, *paths, *more],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 180
    while len(list(settings.work.rglob("last-epoch.pt"))) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert list(settings.store.files()) == []
    plain, epochs = SideBySide.train_epoch, []
    monkeypatch.setattr(
        SideBySide, "train_epoch", lambda self, epoch: epochs.append(epoch) or plain(self, epoch)
    )
    assert main(["run", chosen, *paths, *more]) == 0
    assert epochs[0] > 0
    assert epochs[-1] == 11
    for rank in (2, 4, 8):
        found = record(settings, f"{EUROSAT}/lora-r{rank}/0")
        assert len(found["curves"]["stage1"]["train_loss"]) == 12
        assert found["cost"]["side_by_side"] == 3
