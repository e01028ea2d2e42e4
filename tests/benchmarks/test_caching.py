"""Features that are kept give the numbers of images to the bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import pending
from benchmarks.harness.registry import select
from benchmarks.harness.workers import run_many
from benchmarks.training import caching
from benchmarks.training.trainer import Stage

NUMBERS = ("status", "metrics", "curves", "counts", "config_hash")


def ran(settings, path, **overrides):
    settings = dataclasses.replace(settings, overrides=settings.overrides | overrides)
    run_many(pending(select([path], "smoke"), settings), settings, 1, lambda event: None)
    record = settings.store.load(Cell.parse(path))
    assert record["status"] == "ok", record["error"]
    return record


def both_ways(settings, tmp_path, path, **overrides):
    kept = ran(settings, path, **overrides)
    plain = dataclasses.replace(
        settings, results=tmp_path / "r2", work=tmp_path / "w2", caching=False
    )
    return kept, ran(plain, path, **overrides)


CASES = [
    ("vtab1k/vit_micro/eurosat/linear/0", {}, ["train", "val", "test"]),
    ("vtab1k/vit_micro/eurosat/partial/0", {}, ["train", "val", "test"]),
    ("vtab1k/swin_micro/dmlab/linear/0", {}, ["train", "val", "test"]),
    ("vtab1k/convnext_micro/dmlab/linear/0", {}, ["train", "val", "test"]),
    (
        "vtab1k/vit_micro/eurosat/partial/0",
        {"training.precision": "bf16"},
        ["train", "val", "test"],
    ),
    # Stochastic depth makes other features in each epoch, but not in evaluation.
    ("vtab1k/vit_micro/eurosat/linear/0", {"backbone.drop_path": 0.2}, ["val", "test"]),
    # Images that are augmented are never the same.
    ("fewshot/vit_micro/cars-1shot/lora-r8/0", {}, None),
    ("vtab1k/vit_micro/eurosat/lora-r2/0", {}, None),
]


@pytest.mark.parametrize(("path", "overrides", "splits"), CASES)
def test_numbers_are_the_same_to_the_bit(settings, tmp_path, path, overrides, splits):
    # 70 images do not fill the last batch; there are 96 others in each split.
    more = {"data.limit_train": 70, "data.limit_test": None, "stage1.epochs": 3}
    if path.startswith("fewshot"):
        more = {}
    more["stage1.evaluate_every"] = 1
    kept, plain = both_ways(settings, tmp_path, path, **more, **overrides)
    assert {name: kept[name] for name in NUMBERS} == {name: plain[name] for name in NUMBERS}
    assert plain["cost"]["cached_features"] is None
    found = kept["cost"]["cached_features"]
    assert (found and found["splits"]) == splits


def test_the_frozen_part_is_computed_once(settings, monkeypatch):
    calls = []
    plain = Stage.train_epoch

    def count(stage, epoch):
        if not calls:
            stage.model.blocks[0].register_forward_hook(lambda *_: calls.append("block"))
        calls.append("epoch")
        return plain(stage, epoch)

    monkeypatch.setattr(Stage, "train_epoch", count)
    ran(settings, "vtab1k/vit_micro/eurosat/linear/0")
    assert calls == ["epoch", "epoch"]


def test_what_is_too_large_is_computed_anew(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(caching, "MOST_BYTES", 80 * 17 * 160 * 4)
    path = "vtab1k/vit_micro/eurosat/partial/0"
    more = {"data.limit_train": 64, "data.limit_test": None}  # 96 images in the others
    kept, plain = both_ways(settings, tmp_path, path, **more)
    assert kept["cost"]["cached_features"]["splits"] == ["train"]
    assert kept["curves"] == plain["curves"]


def test_a_resumed_run_computes_them_again(settings, tmp_path, monkeypatch):
    path = "vtab1k/vit_micro/eurosat/partial/0"
    expected = ran(
        dataclasses.replace(settings, results=tmp_path / "r2", work=tmp_path / "w2"), path
    )
    plain = Stage.train_epoch

    def stop(stage, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return plain(stage, epoch)

    with monkeypatch.context() as patched:
        patched.setattr(Stage, "train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            ran(settings, path)
    assert ran(settings, path)["curves"] == expected["curves"]


def test_methods_that_change_features_have_no_cut():
    from benchmarks import backbones
    from resora.petl import make_method

    for name in ("lora-r4", "full", "bitfit", "vpt-shallow", "ssf", "dtl"):
        torch.manual_seed(0)
        model, _ = backbones.build({"name": "vit_micro", "weights": "random", "drop_path": 0.0}, 10)
        method = make_method(name)
        method.adapt(model, "head")
        assert caching.cut_of(model, method, "head") is None
    model, _ = backbones.build({"name": "vit_micro", "weights": "random", "drop_path": 0.0}, 10)
    method = make_method("partial", blocks=6)
    method.adapt(model, "head")
    assert caching.cut_of(model, method, "head") is None
