"""Few-shot cells: the draw of their seed, what is trained on, selection on validation images."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.fewshot import throughput
from benchmarks.fewshot.problem import FewShot
from benchmarks.fewshot.spec import FEWSHOT, METHODS, SETS, SHOTS, set_of
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import pending
from benchmarks.harness.registry import select
from benchmarks.harness.workers import run_many
from benchmarks.training.data import manifest_of


def run(settings, *selectors):
    events = []
    run_many(pending(select(selectors, settings.scale), settings), settings, 1, events.append)
    return {str(event.cell): event.status for event in events if event.status}


def record(settings, path):
    return settings.store.load(Cell.parse(path))


def problem(settings, path, **overrides):
    cell = Cell.parse(path)
    settings = dataclasses.replace(settings, overrides=settings.overrides | overrides)
    context = Context(
        data=settings.data, work=settings.work, device="cpu", on_epoch=lambda *_: None, weights=None
    )
    return FewShot(cell, settings.config(cell), context)


def test_the_declared_grid_is_the_papers():
    cells = list(FEWSHOT.cells(FEWSHOT.scales["paper"]))
    controls = [cell for cell in cells if cell.method.endswith("+control")]
    assert len(cells) - len(controls) == 600
    assert len(controls) == 150
    assert {set_of(cell.task) for cell in cells} == {(s[0], k) for s in SETS for k in SHOTS}


def test_released_learning_rates_are_those_of_set_and_shots():
    scale = FEWSHOT.scales["paper"]

    def rate(task, method):
        config = FEWSHOT.config(Cell("fewshot", "vit_b16", task, method, 0), scale)
        return [config[stage]["learning_rate"] for stage in ("stage1", "stage2") if stage in config]

    assert rate("flowers102-4shot", "dtl-plus+linear") == [8e-3, 8e-3]
    assert rate("cars-16shot", "dtl-plus") == [5e-3]
    assert rate("aircraft-1shot", "lora-r8+linear") == [1e-3, 1e-3]
    assert rate("pets-1shot", "noah") == [5e-3]
    assert all(len(set(rate(f"{s}-{k}shot", "dtl-plus"))) == 1 for s, *_ in SETS for k in SHOTS)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_cell_is_trained_on_the_draw_of_its_seed(settings, seed):
    found = problem(
        settings, f"fewshot/vit_micro/cars-2shot/lora-r8/{seed}", **{"data.limit_train": None}
    )
    folder = settings.data / "embedded" / "fewshot" / "cars"
    packed, draws = (load_file(folder / f"{name}.safetensors") for name in ("train", "draws"))
    index = draws[f"2shot_seed{seed}"]
    assert not torch.equal(index, draws[f"2shot_seed{1 - seed}"])
    assert torch.equal(found.train.pixels, packed["images"][index])
    assert torch.equal(found.train.labels, packed["labels"][index])
    assert found.train.labels.bincount().tolist() == [2] * 24
    assert found.steps == 3
    batches = list(found.batches(5))
    assert [len(labels) for _, labels in batches] == [16] * 3
    for one, other in zip(batches, found.batches(5), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert found.fingerprint()["draw"] == f"2shot_seed{seed}"
    assert found.fingerprint()["draws_sha256"] == manifest_of(folder)["draws"]["sha256"]


def test_doubled_lines_are_trained_on_twice_and_counted_once(settings):
    found = problem(
        settings, "fewshot/vit_micro/pets-1shot/lora-r8/0", **{"data.limit_train": None}
    )
    counts = found.counts()
    assert (counts["n_train"], counts["n_train_distinct"], found.steps) == (32, 16, 2)


def test_cells_run_select_on_validation_images_and_share_stage_1(settings):
    block = "fewshot/vit_micro/cars-1shot/lora-r8*"
    assert set(run(settings, block).values()) == {"ok"}
    second = record(settings, "fewshot/vit_micro/cars-1shot/lora-r8+linear/0")
    assert second["primary"] == {"metric": "top1_accuracy", "selection": "best_val"}
    rules = second["metrics"]["top1_accuracy"]
    assert rules.keys() == {"best_val", "last_epoch", "max_test"}
    assert None not in rules.values()
    assert second["data"]["draw"] == "1shot_seed0"
    assert second["stage1"]["cell"] == "fewshot/vit_micro/cars-1shot/lora-r8/0"
    assert second["config"]["augment"]["policy"] == "rand-m9-mstd0.5-inc1"
    assert second["counts"]["n_val"] == 64
    assert run(settings, block) == {}


@pytest.mark.parametrize("method", [m for m in METHODS if "+" not in m])
def test_every_method_runs(settings, method):
    assert set(run(settings, f"fewshot/vit_micro/pets-2shot/{method}").values()) == {"ok"}


def test_the_subnet_is_chosen_on_validation_images(settings):
    run(settings, "fewshot/vit_micro/pets-1shot/noah")
    search = record(settings, "fewshot/vit_micro/pets-1shot/noah/0")["protocol"]["search"]
    assert (search["train"], search["val"]) == ("train", "val")


def test_mixing_trains_and_an_odd_batch_is_refused(settings):
    mixing = {"augment.mixup": 0.8, "augment.cutmix": 1.0, "augment.smoothing": 0.1}
    path = "fewshot/vit_micro/cars-2shot/lora-r8/0"
    found = problem(settings, path, **mixing)
    _, labels = next(found.batches(0))
    assert labels.shape == (16, 24)
    assert torch.allclose(labels.sum(1), torch.ones(16))
    with pytest.raises(UsageError, match="even size, not of 15"):
        problem(settings, path, **mixing, **{"stage1.batch_size": 15})


def test_too_few_images_for_a_batch_are_told(settings):
    with pytest.raises(UsageError, match="24 training images do not fill one batch of 32"):
        problem(settings, "fewshot/vit_micro/cars-1shot/lora-r8/0", **{"stage1.batch_size": 32})


def test_a_set_that_is_not_prepared_gives_the_command(settings):
    cell = Cell.parse("fewshot/vit_micro/food101-1shot/lora-r8/0")
    with pytest.raises(
        UsageError, match=r"python -m data_prep prepare fewshot/food101 --source embedded"
    ):
        problem(settings, str(cell))


def test_a_damaged_draw_is_refused(settings, tmp_path):
    source = settings.data / "embedded" / "fewshot" / "cars"
    folder = tmp_path / "data" / "embedded" / "fewshot" / "cars"
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "draws.safetensors").write_bytes((folder / "draws.safetensors").read_bytes()[:-1])
    settings = dataclasses.replace(settings, data=tmp_path / "data")
    with pytest.raises(
        UsageError, match=r"draws\.safetensors is missing or differs from its manifest"
    ):
        problem(settings, "fewshot/vit_micro/cars-1shot/lora-r8/0")


@pytest.mark.slow
def test_throughput_prints_ratios(monkeypatch, capsys):
    """On a small network in the place of ViT-B/16, which takes a minute a step."""
    small = {"backbone.weights": "random", "data.image_size": 32, "data.train_size": 48}
    monkeypatch.setattr(
        throughput.Settings,
        "config",
        lambda self, cell: (
            FEWSHOT.config(
                dataclasses.replace(cell, backbone="vit_micro"), FEWSHOT.scales["smoke"], {}
            )
            | {
                "backbone": {"name": "vit_micro", "weights": "random", "drop_path": 0.0},
                "data": {
                    "variant": "embedded",
                    "normalisation": "half",
                    "image_size": small["data.image_size"],
                    "train_size": small["data.train_size"],
                },
            }
        ),
    )
    assert throughput.main(["fewshot/vit_b16/pets-2shot/lora-r8/0", "--rounds", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 32
    assert found["training"]["over_plain"]["augmented"]["median"] > 0


def test_a_plan_without_torch(tmp_path):
    """Listing and planning import no torch."""
    code = "import sys, benchmarks.fewshot.spec, reports.specs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
