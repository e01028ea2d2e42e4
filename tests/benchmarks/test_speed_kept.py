"""What keeping features is worth: whole cells both ways."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.speed import kept

CELL = "vtab1k/vit_micro/eurosat/unipt/0"


def test_a_cell_is_run_both_ways(settings, tmp_path, capsys):
    found = kept.measure(Cell.parse(CELL), settings, rounds=2)
    assert found["splits"] == ["train", "val", "test"]
    assert {way: len(seconds) for way, seconds in found["seconds"].items()} == {
        "kept": 2,
        "anew": 2,
    }
    assert found["kept_over_anew"]["median"] > 0
    assert found["largest_relative_difference_of_losses"] == 0
    assert not any(settings.results.rglob("*.json"))
    ratio = {"kept_over_anew": {"median": 0.254}}
    assert "0.25" in kept.table({CELL: found | ratio})


def test_a_cell_that_fails_says_so(settings):
    broken = dataclasses.replace(
        settings, overrides=settings.overrides | {"stage1.batch_size": 5000}
    )
    with pytest.raises(kept.NotWhole, match="do not fill one batch"):
        kept.measure(Cell.parse(CELL), broken, rounds=1)


def test_the_program_writes_what_it_found(settings, tmp_path, monkeypatch, capsys):
    out = tmp_path / "kept.json"
    asked = []
    measured = {
        "splits": [],
        "seconds": {"kept": [1.0], "anew": [2.0]},
        "kept_over_anew": {"median": 0.5},
        "largest_relative_difference_of_losses": 0.0,
    }
    monkeypatch.setattr(
        kept, "measure", lambda cell, settings, rounds: asked.append((cell, rounds)) or measured
    )
    options = [f"--out={out}", f"--data={settings.data}", "--scale=smoke", "--device=cpu"]
    assert kept.main([CELL, "vtab1k/vit_micro/eurosat/dtl+linear/0", *options]) == 0
    assert [(str(cell), rounds) for cell, rounds in asked] == [(CELL, 3)]  # stages 1 alone
    assert json.loads(out.read_text())["cells"] == {CELL: measured}
    assert "none" in capsys.readouterr().out
    assert kept.main(["vtab1k/vit_micro/eurosat/dtl+linear/0", *options]) == 2
    assert "none of these cells is a stage 1" in capsys.readouterr().err
    assert kept.main(["vtab1k/vit_micro/pets/lst/0", *options]) == 2
    assert "python -m data_prep prepare" in capsys.readouterr().err
