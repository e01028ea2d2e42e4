"""Cells of both retrieval benchmarks: they run, share stage 1, go on after a kill, and say what lacks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from benchmarks.flickr30k import runner as flickr30k_runner
from benchmarks.flickr30k.problem import ImageTextRetrieval
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.context import Context
from benchmarks.harness.execute import pending, run_cell, run_group
from benchmarks.harness.registry import BENCHMARKS, select
from benchmarks.msrvtt import runner as msrvtt_runner
from benchmarks.msrvtt.problem import VideoTextRetrieval
from benchmarks.training import checkpoint
from resora import ReSoRA

FLICKR30K = SimpleNamespace(
    cell="flickr30k/bert_micro/f30k",
    problem=ImageTextRetrieval,
    runner=flickr30k_runner,
    selection="best_val",
    ways=("i2t", "t2i"),
    counts={"n_test": 40, "n_test_images": 8},
    inputs="regions",
)
MSRVTT = SimpleNamespace(
    cell="msrvtt/clip_micro/1ka",
    problem=VideoTextRetrieval,
    runner=msrvtt_runner,
    selection="last_epoch",
    ways=("t2v", "v2t"),
    counts={"n_train_clips": 16, "n_train": 32, "n_val": 8, "n_test": 12, "n_test_clips": 12},
    inputs="tokens",
)
BASES = {
    name: [m for m in BENCHMARKS[name].methods if "+" not in m and m != "lora-r8"]
    for name in ("flickr30k", "msrvtt")
}


@pytest.fixture(params=[FLICKR30K, MSRVTT], ids=["flickr30k", "msrvtt"])
def of(request):
    return request.param


def settled(settings, **overrides):
    return dataclasses.replace(settings, overrides=settings.overrides | overrides)


def run(of, settings, *methods):
    cells = pending(select([f"{of.cell}/{method}" for method in methods], "smoke"), settings)
    torch.manual_seed(99)
    run_group(cells, settings, lambda event: None)
    return [settings.store.load(cell) for cell in cells]


def context_of(settings):
    return Context(
        data=settings.data, work=settings.work, device="cpu", on_epoch=lambda *_: None, weights=None
    )


def problem_of(of, settings, method):
    config = settings.config(Cell.parse(f"{of.cell}/{method}/0"))
    return of.problem(config, context_of(settings))


@pytest.mark.parametrize("method", BASES["flickr30k"])
def test_every_method_of_flickr30k_runs(settings, method):
    (record,) = run(FLICKR30K, settings, method)
    assert (record["status"], record["error"]) == ("ok", None)
    cost = record["cost"]
    assert cost["image_encoder_params"] > cost["head_params"] > 0
    assert (cost["trainable_params"] == 0) == (method == "partial")


@pytest.mark.parametrize("method", BASES["msrvtt"])
def test_every_method_of_msrvtt_runs(settings, method):
    (record,) = run(MSRVTT, settings, method)
    assert (record["status"], record["error"]) == ("ok", None)
    assert record["cost"]["trainable_params"] > 0
    assert record["cost"]["head_params"] == 0


def test_a_record_has_all_metrics_by_all_rules_and_stages_share_the_first(
    of, settings, monkeypatch
):
    masks, plain = [], ReSoRA.__call__
    monkeypatch.setattr(
        ReSoRA, "__call__", lambda self, *, mask=None: masks.append(mask) or plain(self, mask=mask)
    )
    first, second, control = run(of, settings, "lora-r8", "lora-r8+linear", "lora-r8+control")
    assert first["primary"] == {"metric": "rsum", "selection": of.selection}
    declared = BENCHMARKS[of.cell.split("/")[0]].metrics
    assert set(first["metrics"]) == {metric.name for metric in declared}
    for rules in first["metrics"].values():
        assert set(rules) == {"best_val", "last_epoch", "max_test"}
        assert None not in rules.values()
    curves = first["curves"]["stage1"]
    recalls = [curves[f"test_{way}_r{k}"][-1] for way in of.ways for k in (1, 5, 10)]
    assert curves["test_rsum"][-1] == pytest.approx(sum(recalls))
    assert of.counts.items() <= first["counts"].items()
    assert {f"ties_{way}" for way in of.ways} <= first["counts"].keys()
    for record in (second, control):
        assert record["status"] == "ok"
        assert record["stage1"]["config_hash"] == first["config_hash"]
    assert second["stage1"]["checkpoint_sha256"] == control["stage1"]["checkpoint_sha256"]
    assert second["redundancy"]["start"] == control["redundancy"]["start"]
    assert second["redundancy"]["start"]["mean"] == pytest.approx(
        first["redundancy"]["end"]["mean"]
    )
    if of is MSRVTT:
        towers = {name.split(".")[1] for name in second["redundancy"]["end"]["by_matrix"]}
        assert towers == {"vision_model", "text_model"}
    assert second["curves"]["stage2"]["penalty"][0] > 0
    assert masks
    assert all(mask is not None for mask in masks), "padding stays out of the penalty"
    assert control["curves"]["stage2"]["penalty"][0] is None
    assert run(of, settings, "lora-r8*") == []
    assert str(settings.data) not in json.dumps(first)


def test_all_methods_see_the_same_batches(of, settings):
    one, other = (problem_of(of, settings, method) for method in ("lora-r8", "full"))
    for first, second in zip(one.batches(5), other.batches(5), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    first, again = (getattr(next(one.batches(seed)), of.inputs) for seed in (5, 6))
    assert not torch.equal(first, again)


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_where_it_was(of, settings):
    settings = settled(settings, **{"stage1.epochs": 3, "stage1.evaluate_every": 1})
    (whole,) = run(of, settings, "lora-r8")
    cell = Cell.parse(f"{of.cell}/lora-r8/0")
    shutil.rmtree(settings.work)
    settings.store.path(cell).unlink()

    def stop(event):
        if event.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        run_cell(cell, settings, stop)
    (left,) = settings.work.rglob(checkpoint.LAST_EPOCH)
    state = torch.load(left, weights_only=True)
    assert state["progress"]["epoch"] == 2
    assert any("running_mean" in name for name in state["model"]) == (of is FLICKR30K)
    run_cell(cell, settings, lambda event: None)
    record = settings.store.load(cell)
    assert record["curves"] == whole["curves"]
    assert record["metrics"] == whole["metrics"]


def test_missing_data_give_the_command(of, tmp_path, capsys):
    options = ["--scale=smoke", f"--data={tmp_path}", f"--results={tmp_path}", "--device=cpu"]
    assert main(["run", f"{of.cell}/lora-r8/0", *options]) != 0
    text = "".join(capsys.readouterr())
    assert f"python -m data_prep prepare {of.cell.split('/')[0]} --source embedded" in text


def test_how_long_a_cell_takes(of, settings):
    cell = Cell.parse(f"{of.cell}/lora-r8+linear/0")
    seconds, text = of.runner.RUNNER.expected_seconds(
        cell, settings.config(cell), context_of(settings)
    )
    assert seconds > 0
    assert "s a step" in text
