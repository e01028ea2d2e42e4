"""The command line as a person uses it: exit codes, errors, what is printed."""

from __future__ import annotations

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.registry import BENCHMARKS

CELL = "vtab1k/vit_micro/eurosat/linear/0"


def test_ls_names_everything(capsys):
    assert main(["ls"]) == 0
    assert "vtab1k" in capsys.readouterr().out
    assert main(["ls", "vtab1k"]) == 0
    printed = capsys.readouterr().out
    benchmark = BENCHMARKS["vtab1k"]
    for name in (*benchmark.methods, *benchmark.scales, *(task.name for task in benchmark.tasks)):
        assert name in printed
    assert main(["ls", "vtab1k/vit_micro/eurosat/lora-r8*"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_run_show_status_verify(capsys, paths, settings):
    assert main(["run", CELL, *paths]) == 0
    assert main(["run", CELL, *paths]) == 0
    assert "1 cells chosen at scale smoke, 1 done before" in capsys.readouterr().out
    assert main(["show", CELL, paths[0]]) == 0
    printed = capsys.readouterr().out
    assert "status: ok" in printed
    assert "all selection rules" in printed
    assert main(["status", CELL, paths[0]]) == 3, (
        "its backbone was overridden: another configuration"
    )
    assert main(["verify", paths[0]]) == 0
    path = settings.store.path(Cell.parse(CELL))
    path.write_text(path.read_text()[:-20])
    assert main(["verify", paths[0]]) == 1
    assert f"{path}: not whole JSON" in capsys.readouterr().out


def test_failed_cell_gives_exit_code_1(capsys, paths):
    assert main(["run", CELL, *paths, "--timeout-seconds=0.01"]) == 1
    assert "1 of 1 cells failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "vtab1k/*/eurosatt"], "unknown task 'eurosatt'; did you mean 'eurosat'?"),
        (["show", "vtab1k/vit_micro/eurosat/linear"], "is not a cell"),
        (["ls", "vtab"], "unknown benchmark 'vtab'; did you mean 'vtab1k'?"),
        (["status", "--scale", "mikro"], "unknown scale 'mikro'; did you mean 'micro'?"),
        (["run", CELL, "--set", "stage1.learning_rat=1"], "did you mean 'stage1.learning_rate'?"),
        (
            ["run", "vtab1k/*/pets/linear", "--data", "/nowhere"],
            "python -m data_prep prepare vtab1k/pets",
        ),
        (
            ["run", "vtab1k/convnext_micro/*/prefix"],
            "prefix does not run on convnext_micro: it needs attention with keys and values",
        ),
        (
            ["run", "vtab1k/vit_micro/*/vpt-deep+linear"],
            "vpt-deep has no second stage with a penalty: it has no rank-1 subspaces",
        ),
        (["run", "vtab1k/*/pets/linear", "--scale", "paper"], "--source tfds"),
        (["run", "vtab1k/*/pets/linear", "--scale", "paper", "--dry-run"], "--source tfds"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_dry_run_writes_nothing(capsys, paths, settings):
    assert main(["run", "vtab1k/vit_micro/eurosat/lora-*", *paths, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("would run") == 18
    assert not settings.results.exists()
