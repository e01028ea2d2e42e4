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
from benchmarks.training.cuts import cut_of
from benchmarks.training.data import Images
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


ALL = ["train", "val", "test"]

CASES = [
    ("vtab1k/vit_micro/eurosat/linear/0", {}, ALL),
    ("vtab1k/vit_micro/eurosat/partial/0", {}, ALL),
    ("vtab1k/swin_micro/dmlab/linear/0", {}, ALL),
    ("vtab1k/convnext_micro/dmlab/linear/0", {}, ALL),
    ("vtab1k/vit_micro/eurosat/lst/0", {}, ALL),
    ("vtab1k/vit_micro/eurosat/unipt/0", {}, ALL),
    ("vtab1k/vit_micro/eurosat/dtl/0", {}, ALL),
    ("vtab1k/vit_micro/eurosat/dtl-plus/0", {}, ALL),
    ("vtab1k/swin_micro/dmlab/dtl-plus/0", {}, ALL),
    *(
        pytest.param(
            f"vtab1k/vit_micro/eurosat/{method}/0",
            {"training.precision": "bf16"},
            ALL,
            marks=[] if method == "partial" else [pytest.mark.slow],
        )
        for method in ("partial", "lst", "unipt", "dtl-plus")
    ),
    # Stochastic depth makes other features in each epoch, but not in evaluation.
    ("vtab1k/vit_micro/eurosat/linear/0", {"backbone.drop_path": 0.2}, ["val", "test"]),
    ("vtab1k/vit_micro/eurosat/lst/0", {"backbone.drop_path": 0.2}, ["val", "test"]),
    # Images that are augmented are never the same.
    ("fewshot/vit_micro/cars-1shot/lora-r8/0", {}, None),
    ("vtab1k/vit_micro/eurosat/lora-r2/0", {}, None),
]


@pytest.mark.parametrize(("path", "overrides", "splits"), CASES)
def test_numbers_are_the_same_to_the_bit(settings, tmp_path, path, overrides, splits):
    # 22 images do not fill the last batch of 8.
    more = {"data.limit_train": 22, "data.limit_test": 20, "stage1.epochs": 3}
    more["stage1.batch_size"] = 8
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
    path = "vtab1k/vit_micro/dmlab/partial/0"
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


def test_a_second_stage_is_the_same_with_its_penalty(settings, tmp_path):
    path = "vtab1k/vit_micro/eurosat/dtl-plus+linear/0"
    for where in (settings, dataclasses.replace(settings, work=tmp_path / "w2")):
        ran(dataclasses.replace(where, results=tmp_path / "r1"), path.replace("+linear", ""))
    kept, plain = both_ways(settings, tmp_path, path)
    assert kept["cost"]["cached_features"]["splits"] == ALL
    assert kept["curves"] == plain["curves"]
    assert min(kept["curves"]["stage2"]["penalty"]) > 0
    assert kept["redundancy"] == plain["redundancy"]


def is_the_same_by_its_cut(backbone, name, **options):
    """Whether a model's outputs are the same from what is kept; returns the cut too."""
    from benchmarks import backbones
    from resora.petl import make_method

    torch.manual_seed(0)
    model, _ = backbones.build({"name": backbone, "weights": "random", "drop_path": 0.0}, 10)
    method = make_method(name, **options)
    head = backbones.head_of(backbone)
    method.adapt(model, head)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    cut = cut_of(model, method, head)
    side = backbones.input_size(backbone)
    images = torch.randn(3, 3, side, side)
    features = caching.features_of(model, cut, Images(images, torch.zeros(3), lambda x: x), 3)
    with torch.no_grad():
        return torch.equal(cut.tail(features.inputs(slice(None))), model(images)), cut, model


@pytest.mark.parametrize("place", range(6))
def test_dtl_may_give_its_sum_back_anywhere(place):
    is_same, cut, model = is_the_same_by_its_cut("vit_micro", "dtl", given_back=(6 - place) / 6)
    assert is_same
    assert (model.side.first, len(cut.watched)) == (place, place + 2)
    assert model.side.carried is None


@pytest.mark.parametrize("blocks", range(6))
@pytest.mark.parametrize("backbone", ["vit_micro", "swin_micro", "convnext_micro"])
def test_any_number_of_last_blocks_may_be_trained(backbone, blocks):
    is_same, cut, _ = is_the_same_by_its_cut(backbone, "partial", blocks=blocks)
    assert is_same
    assert len(cut.watched) == 1


@pytest.mark.parametrize("given_back", [0.1, 0.5, 1.0])
def test_dtl_on_swin(given_back):
    is_same, cut, model = is_the_same_by_its_cut("swin_micro", "dtl-plus", given_back=given_back)
    assert is_same
    assert [int(index) for index in model.side.maps][: len(cut.watched) - 1] == [
        index for index in map(int, model.side.maps) if index <= model.side.first
    ]


def test_methods_that_change_features_have_no_cut():
    from benchmarks import backbones
    from resora.petl import make_method

    for name in ("lora-r4", "full", "bitfit", "vpt-shallow", "ssf", "adapter"):
        torch.manual_seed(0)
        model, _ = backbones.build({"name": "vit_micro", "weights": "random", "drop_path": 0.0}, 10)
        method = make_method(name)
        method.adapt(model, "head")
        assert cut_of(model, method, "head") is None
    model, _ = backbones.build({"name": "vit_micro", "weights": "random", "drop_path": 0.0}, 10)
    method = make_method("partial", blocks=6)
    method.adapt(model, "head")
    assert cut_of(model, method, "head") is None
