"""The time of a grid in three ways: each trains what it says, and the file says what was found."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.harness.registry import select
from benchmarks.speed import grid
from benchmarks.training import side_by_side
from benchmarks.training.trainer import Stage

PART = "vtab1k/vit_micro/eurosat/lora-r2*"


@pytest.fixture
def settings(settings):
    few = {"data.limit_train": 16, "data.limit_test": 8, "stage1.batch_size": 8}
    return dataclasses.replace(settings, overrides=settings.overrides | few)


@pytest.mark.slow
def test_each_way_trains_what_it_says(settings, monkeypatch):
    alone, joined = [], []
    plain, plain_joined = Stage.run, side_by_side.run
    monkeypatch.setattr(Stage, "run", lambda self: alone.append(self.is_first) or plain(self))
    monkeypatch.setattr(
        side_by_side,
        "run",
        lambda stages, head: joined.append(len(stages)) or plain_joined(stages, head),
    )
    cells = select([PART], "smoke")
    found = grid.measure(cells, settings, rounds=1, side_by_side=3)
    assert (alone.count(True), alone.count(False)) == (6 + 1 + 1, 5 + 5)
    assert joined == [2, 3]
    ways = found["ways"]
    assert [way["trainings"] for way in ways.values()] == [11, 6, 6]
    assert found["times_in_grid"] == 19 * 3, "tasks times ranks, with one seed"
    for way in ways.values():
        assert way["whole_grid_seconds"] == pytest.approx(57 * way["seconds"][0])
    assert ways[grid.OWN]["over_own_stage1"] == 1
    assert list(settings.store.files()) == []
    text = grid.table(found | {"table": "table5"})
    assert "3 side by side" in text


def test_a_cell_that_fails_is_no_measurement(settings, monkeypatch):
    def broken(self):
        raise RuntimeError("no")

    monkeypatch.setattr(Stage, "run", broken)
    with pytest.raises(grid.NotWhole, match="lora-r2/0: failed: RuntimeError: no"):
        grid.measure(select([PART], "smoke"), settings, rounds=1, side_by_side=2)


def test_the_command(settings, tmp_path, monkeypatch, capsys):
    ways = {
        "own": {
            "trainings": 2,
            "median_seconds": 1.0,
            "over_own_stage1": 1.0,
            "whole_grid_seconds": 57.0,
        }
    }
    monkeypatch.setattr(grid, "measure", lambda *_, **__: {"ways": ways})
    options = [f"--out={tmp_path}", f"--data={settings.data}", "--scale=smoke", "--device=cpu"]
    assert grid.main([PART, *options]) == 0
    assert json.loads((tmp_path / grid.FILE).read_text())["hardware"]["device"] == "cpu"
    assert "57 s" in capsys.readouterr().out
    assert grid.main(["vtab1k/vit_micro/eurosat/lora-r2", *options]) == 2
    assert "choose vtab1k/vit_micro/eurosat/lora-r2*/0" in capsys.readouterr().err
    assert grid.main(["fewshot/vit_micro/cars-4shot/lora-r8", *options]) == 2
    assert "has no table5" in capsys.readouterr().err
    assert grid.main(["vtab1k/vit_micro/pets/lora-r2*", *options]) == 2
    assert "python -m data_prep prepare" in capsys.readouterr().err
