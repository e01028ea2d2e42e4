"""Running cells for real, on a small world: sharing, determinism, kills, failures."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import pending
from benchmarks.harness.registry import select
from benchmarks.harness.workers import run_many
from benchmarks.training import two_stage
from benchmarks.training.trainer import Stage

ROOT = Path(__file__).resolve().parents[2]
BLOCK = "vtab1k/vit_micro/eurosat/lora-r2*"


def run(settings, *selectors, jobs=1):
    events = []
    run_many(pending(select(selectors, "smoke"), settings), settings, jobs, events.append)
    return {str(event.cell): event.status for event in events if event.status}


def record(settings, path):
    return settings.store.load(Cell.parse(path))


def numbers(record):
    return {key: record[key] for key in ("metrics", "curves", "redundancy", "stage1")}


def test_a_block_shares_stage_1_and_is_skipped_after(settings, monkeypatch):
    trained = []
    plain = two_stage.run
    monkeypatch.setattr(
        two_stage, "run", lambda cell, *rest: trained.append(cell.method) or plain(cell, *rest)
    )
    statuses = run(settings, BLOCK)
    assert set(statuses.values()) == {"ok"}
    assert len(statuses) == 6
    assert trained[0] == "lora-r2"
    assert trained.count("lora-r2") == 1
    base = record(settings, "vtab1k/vit_micro/eurosat/lora-r2/0")
    checkpoints = set()
    for suffix in ("linear", "nonlinear", "euclidean", "cosine", "control"):
        second = record(settings, f"vtab1k/vit_micro/eurosat/lora-r2+{suffix}/0")
        assert second["stage1"]["config_hash"] == base["config_hash"]
        checkpoints.add(second["stage1"]["checkpoint_sha256"])
        start = second["redundancy"]["start"]["mean"]
        assert start == base["redundancy"]["end"]["mean"], "stage 2 starts where stage 1 ended"
        of_block = second["redundancy"]["end"]["pairs_in_last_block"]
        assert set(of_block) == {f"blocks.5.attn.qkv.{one}" for one in "qkv"}
        for name, pairs in of_block.items():
            expected = second["redundancy"]["end"]["by_matrix"][name]
            assert sum(pairs) / len(pairs) == pytest.approx(expected, rel=1e-3)
        assert (second["curves"]["stage2"]["penalty"][0] is None) is (suffix == "control")
    assert len(checkpoints) == 1
    assert run(settings, BLOCK) == {}


def test_a_stage_1_of_another_configuration_is_trained_again(settings, tmp_path):
    run(settings, "vtab1k/vit_micro/eurosat/lora-r2")
    base = record(settings, "vtab1k/vit_micro/eurosat/lora-r2/0")
    overrides = settings.overrides | {"stage1.learning_rate": 1e-4}
    other = dataclasses.replace(settings, results=tmp_path / "r2", overrides=overrides)
    run(other, "vtab1k/vit_micro/eurosat/lora-r2+control")
    second = record(other, "vtab1k/vit_micro/eurosat/lora-r2+control/0")
    assert second["stage1"]["config_hash"] != base["config_hash"]
    assert second["redundancy"]["start"]["mean"] != base["redundancy"]["end"]["mean"]


def test_same_cell_twice_gives_the_same_numbers(settings, tmp_path):
    again = dataclasses.replace(settings, results=tmp_path / "r2", work=tmp_path / "w2")
    selectors = ["vtab1k/vit_micro/eurosat/lora-r2+linear", "vtab1k/vit_micro/dmlab/full"]
    run(settings, *selectors)
    run(again, *selectors, jobs=2)
    for path in ("eurosat/lora-r2+linear", "dmlab/full"):
        path = f"vtab1k/vit_micro/{path}/0"
        assert numbers(record(settings, path)) == numbers(record(again, path))


def test_training_learns_and_changes_only_what_it_says(settings):
    settings = dataclasses.replace(
        settings, overrides=settings.overrides | {"stage1.epochs": 8, "data.limit_train": None}
    )
    run(settings, "vtab1k/vit_micro/dmlab/lora-r2", "vtab1k/vit_micro/dmlab/linear")
    lora = record(settings, "vtab1k/vit_micro/dmlab/lora-r2/0")
    assert lora["curves"]["stage1"]["train_loss"][-1] < lora["curves"]["stage1"]["train_loss"][0]
    assert lora["metrics"]["top1_accuracy"]["last_epoch"] > 0.35  # chance is 0.17
    assert lora["cost"]["trainable_params"] == 6 * 3 * 2 * 160 * 2
    linear = record(settings, "vtab1k/vit_micro/dmlab/linear/0")
    assert linear["cost"]["trainable_params"] == 0
    assert linear["cost"]["head_params"] == 161 * 6
    assert linear["redundancy"] is None


def test_resumed_run_equals_an_uninterrupted_one(settings, tmp_path, monkeypatch):
    path = "vtab1k/vit_micro/eurosat/lora-r2+linear/0"
    settings = dataclasses.replace(settings, overrides=settings.overrides | {"stage2.epochs": 3})
    whole = dataclasses.replace(settings, results=tmp_path / "r2", work=tmp_path / "w2")
    run(whole, path)

    epochs = []
    plain = Stage.train_epoch

    def stop_in_the_third_epoch(stage, epoch):
        epochs.append(epoch)
        if epochs == [0, 1, 0, 1, 2]:
            raise KeyboardInterrupt
        return plain(stage, epoch)

    monkeypatch.setattr(Stage, "train_epoch", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        run(settings, path)
    assert record(settings, path)["status"] == "cancelled"
    run(settings, path)
    assert epochs[5:] == [2], "one epoch is lost, neither stage 1 nor the epochs before it"
    assert numbers(record(settings, path)) == numbers(record(whole, path))
    assert record(settings, path)["run"]["attempt"] == 2


def test_failures_are_records_and_the_run_goes_on(settings, monkeypatch):
    plain = two_stage.run

    def fail(cell, *rest):
        if cell.method == "full":
            raise torch.OutOfMemoryError("no room")
        if cell.method == "linear":
            raise RuntimeError("something broke\nwith details")
        return plain(cell, *rest)

    monkeypatch.setattr(two_stage, "run", fail)
    statuses = run(
        settings,
        "vtab1k/vit_micro/eurosat/full",
        "vtab1k/vit_micro/eurosat/linear",
        "vtab1k/vit_micro/eurosat/lora-r2",
    )
    assert list(statuses.values()) == ["oom", "failed", "ok"]
    failed = record(settings, "vtab1k/vit_micro/eurosat/linear/0")
    assert failed["error"] == "RuntimeError: something broke"
    assert failed["metrics"] == {}
    monkeypatch.setattr(two_stage, "run", plain)
    assert list(run(settings, "vtab1k/vit_micro/eurosat/linear").values()) == ["ok"]


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_absurd_learning_rate_diverges(settings, rate):
    settings = dataclasses.replace(
        settings, overrides=settings.overrides | {"stage1.learning_rate": rate}
    )
    statuses = run(
        settings, "vtab1k/vit_micro/eurosat/lora-r2", "vtab1k/vit_micro/eurosat/lora-r2+linear"
    )
    assert list(statuses.values()) == ["diverged", "failed"]
    second = record(settings, "vtab1k/vit_micro/eurosat/lora-r2+linear/0")
    assert "stage 1, vtab1k/vit_micro/eurosat/lora-r2/0, was not finished" in second["error"]


def test_time_limit(settings):
    settings = dataclasses.replace(settings, timeout_seconds=0.05)
    assert list(run(settings, "vtab1k/vit_micro/eurosat/full").values()) == ["timeout"]


def test_invalid_record_runs_again(settings):
    path = "vtab1k/vit_micro/eurosat/linear/0"
    run(settings, path)
    file = settings.store.path(Cell.parse(path))
    file.write_text(re.sub(r'"last_epoch": [0-9.]+', '"last_epoch": 0.99', file.read_text()))
    assert run(settings, path) == {path: "ok"}
    assert record(settings, path)["metrics"]["top1_accuracy"]["last_epoch"] != 0.99


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_run_loses_no_finished_cell(settings, paths, number):
    """Stop a run with two workers; its workers end with it, and the next run does the rest only."""
    paths = [path for path in paths if not path.startswith("--jobs")]
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "run",
        "vtab1k/vit_micro/eurosat/lora-r[24]*",
        *paths,
        "--jobs=2",
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 180
    while len(list(settings.store.files())) < 3:
        assert time.monotonic() < deadline, "no records after 180 s"
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait(timeout=30) == (1 if number == signal.SIGINT else -signal.SIGKILL)
    time.sleep(1.0)
    before = {path: path.stat().st_mtime_ns for path, _ in settings.store.files()}
    time.sleep(1.5)
    assert before == {path: path.stat().st_mtime_ns for path, _ in settings.store.files()}
    states = {path: settings.store.load(cell)["status"] for path, cell in settings.store.files()}
    finished = {path for path, status in states.items() if status == "ok"}
    assert set(states.values()) <= {"ok", "cancelled"}
    assert ("cancelled" in states.values()) is (number == signal.SIGINT)
    statuses = run(settings, "vtab1k/vit_micro/eurosat/lora-r[24]*")
    assert len(statuses) == 12 - len(finished)
    assert set(statuses.values()) == {"ok"}
    assert all(path.stat().st_mtime_ns == before[path] for path in finished)
