"""What frozen towers come to is computed once, and trains as frames and captions do."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import pending, run_group
from benchmarks.harness.registry import select
from benchmarks.msrvtt import features
from benchmarks.training import caching
from benchmarks.training.trainer import Stage

CELL = "msrvtt/clip_micro/1ka"
ALL = ["train", "val", "test"]


def ran(settings, method, **overrides):
    settings = dataclasses.replace(settings, overrides=settings.overrides | overrides)
    cells = pending(select([f"{CELL}/{method}/0"], "smoke"), settings)
    run_group(cells, settings, lambda event: None)
    record = settings.store.load(Cell.parse(f"{CELL}/{method}/0"))
    assert record["status"] == "ok", record["error"]
    return record


def both_ways(settings, tmp_path, method, **overrides):
    kept = ran(settings, method, **overrides)
    plain = dataclasses.replace(
        settings, results=tmp_path / "r2", work=tmp_path / "w2", caching=False
    )
    return kept, ran(plain, method, **overrides)


@pytest.mark.parametrize(
    ("method", "overrides", "bound"),
    [
        ("partial", {}, 1e-5),
        ("lst", {}, 1e-5),
        ("partial", {"model.head": "seqLSTM"}, 1e-5),
        ("lst", {"training.chunk": 8}, 1e-5),
        *(
            pytest.param(name, {"training.precision": "bf16"}, 0.01, marks=pytest.mark.slow)
            for name in ("partial", "lst")
        ),
    ],
)
def test_losses_are_those_of_frames_and_captions(settings, tmp_path, method, overrides, bound):
    more = {"stage1.epochs": 3, "stage1.evaluate_every": 1}
    kept, plain = both_ways(settings, tmp_path, method, **more, **overrides)
    assert kept["cost"]["cached_features"]["splits"] == ALL
    assert plain["cost"]["cached_features"] is None
    ours, theirs = kept["curves"]["stage1"], plain["curves"]["stage1"]
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=bound)
    assert theirs["train_loss"][0] != theirs["train_loss"][-1]
    if bound < 0.01:
        for series in ("val_rsum", "test_rsum"):
            assert ours[series] == pytest.approx(theirs[series], abs=1e-6)
    assert kept["counts"] == plain["counts"]
    assert kept["config_hash"] == plain["config_hash"]


def test_towers_run_once(settings, monkeypatch):
    calls = []
    plain = Stage.train_epoch

    def count(stage, epoch):
        if not calls:
            for tower in (stage.model.clip.vision_model, stage.model.clip.text_model):
                tower.register_forward_hook(lambda *_: calls.append("tower"))
        calls.append("epoch")
        return plain(stage, epoch)

    monkeypatch.setattr(Stage, "train_epoch", count)
    ran(settings, "partial", **{"stage1.epochs": 2})
    assert calls == ["epoch", "epoch"]


@pytest.mark.parametrize("method", ["unipt", "lora-r8", "bitfit", "vpt-deep"])
def test_methods_that_change_towers_or_read_all_tokens_keep_nothing(settings, method):
    assert ran(settings, method)["cost"]["cached_features"] is None


def test_what_there_is_no_room_for_is_computed_anew(settings, tmp_path, monkeypatch):
    # The held-out part and the test set are smaller than what is trained on.
    monkeypatch.setattr(caching, "MOST_BYTES", 2 * 30_000)
    sizes = {"data.limit_train": None, "data.held_out": 20}
    kept, plain = both_ways(settings, tmp_path, "partial", **sizes)
    assert kept["cost"]["cached_features"]["splits"] == ["val", "test"]
    assert kept["curves"]["stage1"]["train_loss"] == plain["curves"]["stage1"]["train_loss"]


def test_frames_of_clips_are_found_in_any_order():
    counts = torch.tensor([2, 1, 3])
    frames = features.KeptFrames(torch.arange(6.0)[:, None, None], counts)
    taken, of = frames.take(torch.tensor([2, 0, 2, 1]))
    assert taken.flatten().tolist() == [3, 4, 5, 0, 1, 3, 4, 5, 2]
    assert of.tolist() == [3, 2, 3, 1]
