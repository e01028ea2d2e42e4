"""The measurement of speed: every way trains what the trainer trains, and the file says what was found."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings, run_cell
from benchmarks.harness.record import primary_value
from benchmarks.speed import floor, measure
from benchmarks.speed.cli import main, table
from benchmarks.speed.epochs import epochs_of
from benchmarks.speed.floor import step_flops
from benchmarks.speed.plain import loader_of, plain_epoch, write_files
from benchmarks.speed.spec import METRICS, SPEED
from benchmarks.speed.ways import EFFECTS, PLAIN, REFERENCE, WAYS, ways_on
from benchmarks.speed.world import Size, World

SIZE = Size(
    backbone="vit_micro",
    device="cpu",
    method="lora-r2",
    batch_size=4,
    images=16,
    steps=2,
    rounds=2,
    workers=0,
)


@pytest.fixture(autouse=True)
def _small_products(monkeypatch):
    """Most CPUs take minutes for large matrices in bfloat16."""
    monkeypatch.setitem(floor.SIDE, "cpu", 64)


@pytest.fixture(scope="module")
def world():
    return World(SIZE)


@pytest.mark.parametrize("name", [way.name for way in ways_on("cpu")])
def test_every_way_trains_all_its_cells(world, tmp_path, monkeypatch, name):
    way = next(way for way in WAYS if way.name == name)
    stages = []
    plain = World.stage
    monkeypatch.setattr(World, "stage", lambda *a, **k: stages.append(plain(*a, **k)) or stages[-1])
    with epochs_of(way, world, tmp_path) as epoch:
        heads = [stage.model.head.weight.detach().clone() for stage in stages]
        assert len(stages) == max(1, way.beside)
        assert epoch() == 2 * 4 * len(stages)
    for stage, before in zip(stages, heads, strict=True):
        assert not torch.equal(stage.model.head.weight, before)
        assert all(state["step"] == 2 for state in stage.optimizer.state.values())


def test_the_plain_loop_decodes_what_it_is_given(world, tmp_path):
    paths = write_files(tmp_path)
    loader = loader_of(replace(SIZE, workers=1), paths, trains=True)
    images = torch.cat([inputs for inputs, _ in loader])
    assert images.shape == (16, 3, 32, 32)
    assert -1 <= images.min() < -0.3
    assert 0.3 < images.max() <= 1
    assert plain_epoch(world, paths)() == 8


def test_flops_are_those_of_two_passes_through_frozen_layers(world, tmp_path):
    flops = step_flops(world, tmp_path)
    # Per token and block 12 d^2 weights, twice (multiply, add), forward, and once more for inputs' gradients.
    frozen = 4 * 17 * 6 * 12 * 160**2 * 2
    assert 2 * frozen < flops < 1.25 * 2 * frozen


@pytest.mark.slow
def test_the_file_has_all_ways_and_a_reason_for_those_it_has_not(tmp_path, monkeypatch, capsys):
    few = [way for way in WAYS if way.name in ("fp32", REFERENCE, "beside-2")]
    monkeypatch.setattr(measure, "ways_on", lambda device: few)

    def broken(*_):
        raise RuntimeError("no processes here\nat all")

    monkeypatch.setattr(measure, "images_per_second_of", broken)
    options = ["--backbone=vit_micro", "--device=cpu", "--batch=4", "--images=16", "--steps=2"]
    options += ["--rounds=2", "--workers=0", f"--out={tmp_path}", "--method=lora-r2"]
    assert main(options) == 3
    found = json.loads((tmp_path / measure.FILE).read_text())
    assert set(found["ways"]) == {PLAIN, "fp32", REFERENCE, "beside-2"}
    assert found["left_out"] == {measure.PROCESSES: "RuntimeError: no processes here"}
    for way in found["ways"].values():
        speed = way["images_per_second"]
        assert len(way["rounds"]) == 2
        assert 0 < speed["lower_quartile"] <= speed["median"] <= speed["upper_quartile"]
        assert way["step_seconds"] * speed["median"] == pytest.approx(4 * way["cells_at_once"])
        rate = found["matmul_flops_per_second"][way["precision"]]
        assert way["floor_share"] == pytest.approx(found["step_flops"] / 4 * speed["median"] / rate)
        hours = way["cells_per_hour"]
        assert hours["training"] == pytest.approx(3600 * speed["median"] / (100 * 31 * 32))
        assert 0 < hours["with_evaluation"] < hours["training"]
    printed = capsys.readouterr().out
    assert table(found) in printed
    assert "left out: processes-4" in printed
    assert main([*options, "--budget-seconds=0"]) == 3
    found = json.loads((tmp_path / measure.FILE).read_text())
    assert set(found["left_out"].values()) == {measure.OUT_OF_TIME}


@pytest.fixture
def cell_settings(tmp_path, monkeypatch):
    few = [way for way in WAYS if way.name in ("fp32", REFERENCE, "beside-2")]
    monkeypatch.setattr(measure, "ways_on", lambda device: few)
    monkeypatch.setattr(measure, "images_per_second_of", lambda count, size: 12.5)
    return Settings(scale="smoke", results=tmp_path / "r", work=tmp_path / "w", device="cpu")


def test_a_cell_is_the_measurement_as_a_record(cell_settings):
    told = []
    cell = Cell("speed", "vit_micro", "cpu", "all", 0)
    assert run_cell(cell, cell_settings, told.append) == "ok"
    assert [(event.epoch, event.epochs) for event in told[:-1]] == [(n, 5) for n in range(1, 6)]
    found = cell_settings.store.load(cell)
    names = {"fp32", PLAIN, REFERENCE, "beside-2", "processes-4"}
    assert set(found["cost"]["by_way"]) == set(found["curves"]["rounds"]) == names
    assert found["protocol"]["left_out"] == {}
    for name in names:
        way, speed = found["cost"]["by_way"][name], found["metrics"][f"images_per_second/{name}"]
        assert way["step_seconds"] * speed["median"] == pytest.approx(4 * way["cells_at_once"])
    assert found["metrics"]["images_per_second/processes-4"]["median"] == 12.5
    assert primary_value(found) == found["metrics"]["images_per_second/fp32"]["median"]
    assert found["counts"] == {"batch_size": 4, "steps": 2, "rounds": 2, "ways": 5}
    assert {f"images_per_second/{name}" for name in names} <= {metric.name for metric in METRICS}


def test_a_cell_fails_where_the_trainer_does(cell_settings, monkeypatch):
    def broken(*_):
        raise RuntimeError("no trainer")

    monkeypatch.setattr(measure, "epochs_of", broken)
    monkeypatch.setattr(measure, "plain_epoch", lambda *_: lambda: 8)
    cell = Cell("speed", "vit_micro", "cpu", "all", 0)
    assert run_cell(cell, cell_settings, lambda event: None) == "failed"
    assert "fp32: RuntimeError: no trainer" in cell_settings.store.load(cell)["error"]
    limited = replace(cell_settings, timeout_seconds=0.01)
    assert run_cell(cell, limited, lambda event: None) == "timeout"


def test_every_way_has_a_row_and_effects_name_ways():
    (declared,) = SPEED.tables
    assert set(declared.rows) == {way.name for way in WAYS} | {PLAIN, "processes-4"}
    assert {name for _, *pair in EFFECTS for name in pair} <= set(declared.rows)


def test_wrong_usage_is_refused(tmp_path, capsys):
    assert main([f"--out={tmp_path}", "--method=moslora-r8", "--device=cpu"]) == 2
    assert "not moslora-r8" in capsys.readouterr().err
    assert main([f"--out={tmp_path}", "--images=8", "--device=cpu"]) == 2
    assert main([f"--out={tmp_path}", "--backbone=vit_mikro", "--device=cpu"]) == 2
    assert "did you mean 'vit_micro'" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.parametrize("cells", [1, 3])
def test_captured_steps_train_as_eager_ones(tmp_path, cells):
    from benchmarks.speed.graph import WARM_UP, GraphedSteps
    from benchmarks.training.precision import FP32
    from benchmarks.training.side_by_side import SideBySide

    world = World(replace(SIZE, device="cuda", steps=4))
    eager = SideBySide([world.stage(tmp_path, s, FP32) for s in range(cells)], "head")
    graphed = SideBySide([world.stage(tmp_path, s, FP32) for s in range(cells)], "head")
    captured = GraphedSteps(graphed)
    # The warm-up's steps see the first image alone; so do these, at the same rate.
    zeros = torch.zeros(4, dtype=torch.long, device="cuda")
    eager.shared.train()
    for _ in range(WARM_UP):
        batch = world.problem.train.inputs(zeros), world.problem.train.labels[zeros]
        eager.update(*eager.losses([batch] * cells))
    expected = [loss for loss, _ in eager.train_epoch(3)]
    assert captured.train_epoch(3) == pytest.approx(expected, rel=1e-3)
    for one, other in zip(eager.stages, graphed.stages, strict=True):
        for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(q, p, rtol=1e-3, atol=1e-5)
