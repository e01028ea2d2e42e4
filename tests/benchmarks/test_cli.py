"""The command line as a person uses it: exit codes, errors, what is printed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness import cli
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import lacking
from benchmarks.harness.options import settings_of
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
    assert len(capsys.readouterr().out.splitlines()) == 7


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


@pytest.mark.parametrize(
    ("scale", "dirty", "is_told"),
    [("micro", True, True), ("micro", False, False), ("smoke", True, False)],
)
def test_records_that_will_be_drafts_are_announced(
    capsys, paths, monkeypatch, scale, dirty, is_told
):
    monkeypatch.setattr(
        cli.provenance, "code", lambda: {"commit": "0", "dirty": dirty, "trees": {}}
    )
    monkeypatch.setattr(cli, "run_many", lambda *_, **__: None)
    assert main(["run", CELL, *paths, "--scale", scale]) == 0
    error = capsys.readouterr().err
    assert ("these records will be drafts" in error) == is_told


def test_failed_cell_gives_exit_code_1(capsys, paths):
    assert main(["run", CELL, *paths, "--timeout-seconds=0.01"]) == 1
    assert "1 of 1 cells failed" in capsys.readouterr().out


def test_a_defect_is_told_with_its_stack_once(capsys, paths, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr("benchmarks.training.two_stage.run", broken)
    cells = "vtab1k/vit_micro/eurosat/lora-r[24]"
    assert main(["run", cells, *paths]) == 1
    told = capsys.readouterr()
    assert told.out.count("failed: vtab1k") == 2
    assert told.err.count("in broken") == 1


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
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)  # where the default folders are
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_dry_run_writes_nothing(capsys, paths, settings):
    assert main(["run", "vtab1k/vit_micro/eurosat/lora-r8+[cl]*", *paths, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("would run") == 4
    assert not settings.results.exists()


def test_dry_run_lists_what_is_missing_and_measures_a_few_steps(capsys, settings):
    where = [f"--results={settings.results}", f"--work={settings.work}", "--data=/nowhere"]
    cells = "vtab1k/vit_micro/eurosat/lora-r8+linear"
    assert main(["run", cells, *where, "--device=cpu", "--jobs=1", "--dry-run"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "would run vtab1k/vit_micro/eurosat/lora-r8+linear/0 (missing)"
    assert lines[2].startswith("missing for 1 of them: the embedded data of vtab1k/eurosat are not")
    assert lines[3] == "before them, stage 1 runs without a stored checkpoint: 1"
    assert re.search(
        r"lora-r8 on vit_micro: \S+ s a step \(median of \d+\), \S+ ms an image", lines[4]
    )
    assert "lora-r8+linear on vit_micro: " in lines[5]
    assert "cells to run: 2, about" in lines[6]
    assert "measured from a few steps on this machine" in lines[6]
    assert not settings.work.exists()


def test_dry_run_names_weights_that_are_not_here(capsys, settings):
    cells = "vtab1k/vit_b16/pets/linear/0"
    missing = lacking(
        [Cell.parse(cells)], replace(settings, scale="paper", overrides={}), fetch=False
    )
    texts = list(missing)
    assert "python -m data_prep prepare vtab1k/pets --source tfds" in texts[0]
    assert "fetch https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz" in texts[1]
    assert str(settings.data / "weights" / "ViT-B_16.npz") in texts[1]


def test_cells_without_data_are_left_out_when_asked(capsys, paths):
    chosen = ["run", "vtab1k/vit_micro/[ep][ue][rt]*/linear", *paths]
    assert main(chosen) == 2
    assert "--skip-missing runs the other cells" in capsys.readouterr().err
    assert main([*chosen, "--skip-missing"]) == 0
    assert "left out: 1 of 2 cells, because data or weights are missing" in capsys.readouterr().out


def test_a_record_of_other_data_is_not_replaced_in_silence(capsys, paths, settings):
    assert main(["run", CELL, *paths]) == 0
    declared = [option for option in paths if not option.startswith("--set=")]
    assert main(["run", CELL, *declared]) == 2
    error = capsys.readouterr().err
    assert "is a record with backbone.weights random, this run has vit_micro" in error
    assert "use another folder (--results DIR)" in error
    assert main(["run", CELL, *declared, "--rerun=all"]) == 0


def test_weights_of_one_backbone_for_several_are_refused(capsys, paths, tmp_path):
    file = tmp_path / "some.pth"
    file.write_bytes(b"x")
    rest = [option for option in paths if not option.startswith("--set=")]
    assert main(["run", "vtab1k/*/eurosat/linear", *rest, "--weights", str(file)]) == 2
    assert "--weights are for one backbone, but the selector has" in capsys.readouterr().err
    assert main(["run", CELL, *rest, "--weights", str(file)]) == 2
    assert "vit_micro has its own weights" in capsys.readouterr().err
    assert main(["run", CELL, *rest, "--weights", "nowhere.npz"]) == 2
    assert "there is no file nowhere.npz" in capsys.readouterr().err


def test_status_counts_the_records_of_a_setting(capsys, paths):
    assert main(["run", CELL, *paths]) == 0
    assert main(["status", CELL, paths[0], "--set", "backbone.weights=random"]) == 0


def test_what_is_missing_for_many_tasks_is_said_once(settings):
    cells = [Cell("vtab1k", "vit_micro", task, "linear", 0) for task in ("pets", "dtd", "svhn")]
    ((text, lacking_cells),) = lacking(cells, replace(settings, data=Path("/nowhere"))).items()
    assert lacking_cells == cells
    assert text == (
        "the embedded data of vtab1k/pets, vtab1k/dtd, vtab1k/svhn are not prepared in /nowhere: "
        "python -m data_prep prepare vtab1k --source embedded --data /nowhere"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--plain", "--reference"),
        ("--side-by-side=2", "--batch-cells"),
        ("--on=x", "--device-name"),
    ],
)
def test_options_under_their_earlier_names_work_and_say_the_new_one(capsys, tmp_path, old, new):
    chosen = ["run", "vtab1k/vit_micro/pets/linear/0", "--dry-run", f"--results={tmp_path}"]
    assert main([*chosen, f"--data={tmp_path}", old]) in (0, 2, 3)
    said = capsys.readouterr().err.splitlines()[0]
    assert said == f"note: {old.partition('=')[0]} is now {new}"


def test_an_earlier_name_sets_what_the_new_one_sets():
    read = cli._parser().parse_args
    old = read(["run", "vtab1k", "--plain", "--side-by-side=2", "--on=x"])
    new = read(["run", "vtab1k", "--reference", "--batch-cells=2", "--device-name=x"])
    assert (old.plain, old.side_by_side, old.device_name) == (True, 2, "x")
    assert (new.plain, new.side_by_side, new.device_name) == (True, 2, "x")
    with pytest.raises(UsageError, match="--reference turns off all shortcuts"):
        settings_of(old)
