"""The tidy frame: declared rows, holes, refusals, and the snippets that reports/README.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest

from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import BENCHMARKS
from reports import load
from reports.frame import COLUMNS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def frame(only_world):
    return load(only_world.results, "micro")


def test_every_declared_cell_is_a_row_in_declared_order(frame, only_world):
    assert list(frame.columns) == list(COLUMNS)
    accuracy = frame[frame["quantity"] == "top1_accuracy"]
    assert len(accuracy) == 3 * 2 * 4
    assert list(frame["task"].cat.categories) == ["cifar100", "caltech101", "eurosat"]
    assert list(frame["method"].cat.categories) == list(only_world.benchmark.methods)
    one = accuracy[(accuracy["task"] == "eurosat") & (accuracy["method"] == "lora-r8+linear")]
    assert one["value"].tolist() == [83.0, 83.0]
    assert (one["base"] == "lora-r8").all()
    assert (one["suffix"] == "linear").all()
    assert one["declared"].all()
    assert one["sha256"].str.len().eq(64).all()
    assert set(frame["quantity"]) >= {"trainable_params", "redundancy_start", "redundancy_end"}


def test_a_hole_is_a_row_that_says_why(only_world):
    only_world.path("eurosat", "lora-r8", 0).unlink()
    only_world.write("eurosat", "lora-r8", 1, status="diverged")
    only_world.write("eurosat", "linear", 0, 0.4, code={"dirty": True})
    path = only_world.path("cifar100", "linear", 1)
    path.write_text(path.read_text()[:100])
    holes = load(only_world.results, "micro").query("value.isna()")
    found = {(row.task, row.method, row.seed): row for row in holes.itertuples()}
    assert {key: row.state for key, row in found.items()} == {
        ("eurosat", "lora-r8", 0): "missing",
        ("eurosat", "lora-r8", 1): "not ok",
        ("eurosat", "linear", 0): "ok",
        ("cifar100", "linear", 1): "invalid",
    }
    assert found["eurosat", "linear", 0].reason.endswith("a draft takes it")
    drafts = load(only_world.results, "micro", drafts=True)
    (row,) = drafts[drafts["caveat"] != ""].query("quantity == 'top1_accuracy'").itertuples()
    assert (row.value, row.caveat) == (40.0, "the code that ran had uncommitted changes")


def test_a_record_that_nobody_declares_comes_last_and_is_no_hole(only_world):
    source = only_world.path("eurosat", "lora-r8", 0)
    (source.parent / "7.json").write_text(source.read_text())
    frame = load(only_world.results, "micro")
    assert frame["declared"].tolist().count(False) == 1
    last = frame.iloc[-1]
    assert (last["seed"], last["state"]) == (7, "invalid")  # it is the record of seed 0
    assert "another cell" in last["reason"]


def test_an_empty_store_is_all_holes(tmp_path):
    frame = load(tmp_path, "paper")
    assert frame["value"].isna().all()
    assert (frame["state"] == "missing").all()
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        load(tmp_path, "papr")


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=list(BENCHMARKS))
def test_no_configuration_depends_on_the_seed(benchmark):
    """The frame resolves one configuration for all seeds of a method on a task."""
    for scale in benchmark.scales.values():
        cells = list(benchmark.cells(scale))
        for cell in cells[:: max(1, len(cells) // 20)]:
            other = type(cell)(*cell.parts[:-1], cell.seed + 1)
            assert benchmark.config(cell, scale) == benchmark.config(other, scale)


def test_the_snippets_of_the_readme_run(monkeypatch, capsys):
    mpl.use("Agg")
    monkeypatch.chdir(ROOT)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "reports/README.md").read_text(), re.S)
    assert len(snippets) == 3
    names: dict = {}
    for snippet in snippets:
        exec(snippet, names)
    said = capsys.readouterr().out
    assert "lora-r8+linear" in said
    assert isinstance(names["difference"], pd.Series)
    assert len(names["axes"].patches) == 7
