"""Sweeps: what is trained and looked at, what is chosen, what is refused, and what a kill leaves."""

from __future__ import annotations

import dataclasses

import pytest
from pandas import DataFrame

from benchmarks.harness import swept
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import Settings
from benchmarks.harness.spec import config_hash
from benchmarks.harness.sweep import plan, words
from benchmarks.harness.sweep_choice import Comparison, compare
from benchmarks.training import data, two_stage
from tests.benchmarks.packed import pack_task

LINEAR = "vtab1k/vit_micro/*/lora-r2+linear"
EUROSAT = "vtab1k/vit_micro/eurosat/lora-r2"
BOTH = ["vtab1k/vit_micro/eurosat/lora-r2+linear", "vtab1k/vit_micro/dmlab/lora-r2+linear"]
RANDOM = "--set=backbone.weights=random"


@pytest.fixture(scope="module")
def packed_data(tmp_path_factory):
    """More images than other tests have: on few, candidates are tied."""
    root = tmp_path_factory.mktemp("data")
    pack_task(root, "eurosat", 10)
    pack_task(root, "dmlab", 6)
    return root


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def options(settings, out):
    return [
        *(f"--work={settings.work}", f"--data={settings.data}", f"--out={out}"),
        *("--device=cpu", "--jobs=1", RANDOM),
    ]


@pytest.fixture
def trained(monkeypatch):
    """The cells that are trained, with what the first candidate's settings say."""
    cells = []
    plain = two_stage.run

    def run(cell, config, *rest):
        cells.append(f"{cell.task}/{cell.method}")
        return plain(cell, config, *rest)

    monkeypatch.setattr(two_stage, "run", run)
    return cells


def test_candidates_are_compared_on_validation_images_alone(
    options, out, settings, trained, monkeypatch, capsys
):
    read = set()
    plain = data.checked_file
    monkeypatch.setattr(
        data, "checked_file", lambda folder, split: read.add(split) or plain(folder, split)
    )
    command = ["sweep", *BOTH, *options, "--try=stage2.weight=0.03,10"]
    assert main(command) == 0
    assert read == {"train800", "val200"}
    assert sorted(trained) == sorted(
        ["eurosat/lora-r2", "dmlab/lora-r2"]
        + 2 * ["eurosat/lora-r2+linear", "dmlab/lora-r2+linear"]
    ), "stage 1 is trained once for all candidates"
    assert not settings.results.exists()

    planned = plan(BOTH, {"stage2.weight": [0.03, 10]}, with_work(settings))
    means = []
    for candidate in planned.candidates:
        records = [planned.record(candidate, cell) for cell in planned.cells]
        last = [record["curves"]["stage2"]["test_top1_accuracy"][-1] for record in records]
        means.append(sum(last) / 2)
        assert {record["protocol"]["test"] for record in records} == {"val200"}
    (path,) = out.iterdir()
    assert path.name == "lora-r2+linear.vit_micro.smoke.toml"
    tables = swept.read(path)
    assert tables["every_task"] == {"stage2.weight": [0.03, 10.0][means.index(max(means))]}
    source = tables["sources"]["stage2.weight"]["*"]
    assert source.startswith(
        "our choice, by a sweep on val200 of eurosat dmlab, seed 0: the best of "
    )
    assert f"0.03 ({100 * means[0]:.1f} %), 10.0 ({100 * means[1]:.1f} %)" in source
    assert '--set backbone.weights="random"' in source
    for fact in ("data of eurosat", "data of dmlab", "weights random", "commit"):
        assert fact in source
    assert capsys.readouterr().out.count("chosen") == 1

    trained.clear()
    assert main([*command[:-1], "--try=stage2.weight=10.0,0.03"]) == 0
    assert not trained
    assert "4 trials, 4 done before" in capsys.readouterr().out


def with_work(settings: Settings) -> Settings:
    return dataclasses.replace(settings, overrides={"backbone.weights": "random"})


def test_a_candidate_that_diverges_is_an_answer_and_is_not_trained_again(
    options, out, trained, capsys
):
    command = ["sweep", EUROSAT, *options, "--try=stage1.learning_rate=1e30,0.005"]
    assert main(command) == 0
    assert "not eligible: 1 of 1 trials diverged" in capsys.readouterr().out
    tables = swept.read(out / "lora-r2.vit_micro.smoke.toml")
    assert tables["every_task"] == {"stage1.learning_rate": 0.005}
    assert "1e+30 (diverged)" in tables["sources"]["stage1.learning_rate"]["*"]
    assert len(trained) == 2
    assert main([*command[:-1], "--try=stage1.learning_rate=1e30,0.005,0.001"]) == 0
    assert len(trained) == 3, "the new candidate alone"


def test_nothing_is_chosen_where_all_fail(options, out, capsys):
    command = ["sweep", EUROSAT, *options, "--try=stage1.learning_rate=0.001,0.005"]
    assert main([*command, "--timeout-seconds=0.01"]) == 1
    printed = capsys.readouterr().out
    assert "nothing is chosen" in printed
    assert "their records in" in printed
    assert not list(out.iterdir())
    assert main(command) == 0, "what failed for want of time is trained again"
    assert len(list(out.iterdir())) == 1


def test_a_stopped_sweep_writes_nothing_and_goes_on(options, out, trained, monkeypatch, tmp_path):
    command = ["sweep", EUROSAT, *options, "--try=stage1.learning_rate=0.001,0.005,0.01"]
    plain = two_stage.run

    def stop(cell, *rest):
        if len(trained) == 1:
            trained.append("stopped")
            raise KeyboardInterrupt
        return plain(cell, *rest)

    monkeypatch.setattr(two_stage, "run", stop)
    assert main(command) == 1
    assert not list(out.iterdir())
    monkeypatch.setattr(two_stage, "run", plain)
    assert main(command) == 0
    assert trained == ["eurosat/lora-r2", "stopped", *2 * ["eurosat/lora-r2"]]
    whole = tmp_path / "whole"
    whole.mkdir()
    again = [option for option in command if not option.startswith(("--work", "--out"))]
    assert main([*again, f"--work={tmp_path / 'other'}", f"--out={whole}"]) == 0
    name = "lora-r2.vit_micro.smoke.toml"
    assert (whole / name).read_text() == (out / name).read_text()


def test_trials_of_other_settings_do_not_count(options, settings):
    tries = {"stage1.learning_rate": [0.001, 0.005]}
    assert main(["sweep", EUROSAT, *options, "--try=stage1.learning_rate=0.001,0.005"]) == 0
    planned = plan([EUROSAT], tries, with_work(settings))
    candidate = planned.candidates[0]
    assert planned.todo(candidate) == []
    other = dataclasses.replace(
        settings, overrides={"backbone.weights": "random", "stage1.epochs": 1}
    )
    planned = plan([EUROSAT], tries, other)
    assert planned.todo(candidate) == list(planned.cells)
    path = planned.settings_of(candidate).store.path(planned.cells[0])
    assert path.exists()
    planned.forget_others(candidate, planned.cells)
    assert not path.exists()


def test_what_is_chosen_is_what_runs_have(options, out, settings, monkeypatch):
    for module in ("swept", "cli_sweep"):
        monkeypatch.setattr(f"benchmarks.harness.{module}.folder_of", lambda benchmark: out)
    command = [option for option in options if not option.startswith("--out")]
    tries = ["--try=stage1.learning_rate=1e30,0.004", "--try=stage1.weight_decay=0.0"]
    assert main(["sweep", EUROSAT, *command, *tries, "--by=task"]) == 0
    config = settings.config(Cell.parse(f"{EUROSAT}/0"))
    assert config["stage1"]["learning_rate"] == 0.004
    assert config["stage1"]["weight_decay"] == 0.0
    second = settings.config(Cell.parse(f"{EUROSAT}+linear/0"))
    assert config_hash(two_stage.stage1_config(second)) == config_hash(config)
    other = settings.config(Cell.parse("vtab1k/vit_micro/dmlab/lora-r2/0"))
    assert other["stage1"]["learning_rate"] == 0.005


def test_a_dry_run_trains_nothing(options, out, settings, trained, capsys, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.harness.cli_planning.expected_seconds", lambda *rest: (60.0, "one a minute")
    )
    assert main(["sweep", *BOTH, *options, "--try=stage2.weight=0.03,0.1", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("would run") == 4
    assert "cells to run: 6, about 6 minutes" in printed, "two of them are stage 1"
    assert not trained
    assert not settings.work.exists()
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [LINEAR, "--try=stage1.learning_rate=1,2"],
            "decides stage 1, which all methods on lora-r2 share: sweep lora-r2 instead of lora-r2+",
        ),
        ([LINEAR, "--try=backbone.drop_path=0,0.1"], "sweep lora-r2 instead of lora-r2+linear"),
        ([LINEAR, "--try=method.scale=1,2"], "sweep lora-r2 instead of lora-r2+linear"),
        ([EUROSAT, "--try=stage1.learning_rat=1,2"], "did you mean 'stage1.learning_rate'?"),
        ([f"{EUROSAT}*", "--try=stage2.weight=1,2"], "lora-r2 has no setting stage2.weight"),
        ([EUROSAT, "--try=data.train=a,b"], "data.train cannot be swept"),
        ([EUROSAT, "--try=method.name=a,b"], "method.name cannot be swept"),
        ([EUROSAT, "--try=backbone.weights=a,b"], "backbone.weights cannot be swept"),
        ([EUROSAT, "--try=stage1.epochs=3"], "a sweep needs two or more candidates"),
        ([EUROSAT, "--try=stage1.learning_rate=1,1.0"], "learning_rate=1.0 is listed twice"),
        ([EUROSAT, "--try=stage1.learning_rate=0.1,.2"], "stage1.learning_rate is .2"),
        ([EUROSAT, "--try=stage1.epochs=1,2.5"], "stage1.epochs is 2.5"),
        ([EUROSAT, "--try=stage1.epochs=1,null"], "stage1.epochs is null"),
        ([EUROSAT, "--try=stage1.epochs=1,true"], "stage1.epochs is true"),
        ([EUROSAT, "--try=stage1.epochs=1,2", "--try=stage1.epochs=3,4"], "is given twice"),
        ([EUROSAT, "--try=stage1.epochs=1,2", "--set=stage1.epochs=1"], "is in both --try and --set"),
        ([EUROSAT, "--try=stage1.epochs=1,2", "--set=data.test=test"], "data.test is not for --set"),
        ([EUROSAT, "--try=stage1.epochs=1,2", "--set=stage1.epoch=1"], "unknown setting"),
        ([EUROSAT, "--try=stage1.epochs=1,2", "--seeds=0,7"], "no chosen cell has the seed 7"),
        ([f"{EUROSAT}x", "--try=stage1.epochs=1,2"], "unknown method"),
        (["*/*/pets/linear", "--try=stage1.epochs=1,2", "--data=/nowhere"], "data_prep prepare"),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_refused_in_one_line(capsys, out, tmp_path, arguments, message):
    assert main(["sweep", *arguments, f"--out={out}", f"--work={tmp_path / 'work'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(out.iterdir())


def test_benchmarks_that_hold_no_images_apart_are_refused(settings, monkeypatch):
    monkeypatch.setattr("benchmarks.harness.sweep.SWEPT", ("measure.",))
    with pytest.raises(UsageError, match="cost has no validation images to choose on"):
        plan(
            ["cost/*/cpu-fp32/lora-r8"],
            {"measure.rounds": [1, 2]},
            dataclasses.replace(settings, scale="paper", overrides={}),
        )


@pytest.mark.parametrize("split", ["train800+val200", "train800"])
def test_validation_images_are_taken_out_of_training(settings, split, monkeypatch):
    from benchmarks.vtab1k.spec import SCALES

    scale = SCALES["smoke"]
    changed = {**scale.choices, "data.train": scale.choices["data.train"]._replace(value=split)}
    monkeypatch.setitem(SCALES, "smoke", dataclasses.replace(scale, choices=changed))
    planned = plan([EUROSAT], {"stage1.epochs": [1, 2]}, settings)
    found = planned.settings_of(planned.candidates[1]).config(planned.cells[0])
    assert found["data"]["train"] == "train800"
    assert found["data"]["test"] == "val200"
    assert found["data"]["val"] is None
    assert found["stage1"]["epochs"] == 2


def test_several_settings_make_a_product_in_the_order_of_the_command(settings):
    tries = {"stage1.learning_rate": [1, 0.1], "stage1.epochs": [3, 4]}
    planned = plan([EUROSAT], tries, settings)
    assert [words(candidate) for candidate in planned.candidates] == [
        "stage1.learning_rate=1.0 stage1.epochs=3",
        "stage1.learning_rate=1.0 stage1.epochs=4",
        "stage1.learning_rate=0.1 stage1.epochs=3",
        "stage1.learning_rate=0.1 stage1.epochs=4",
    ]
    folders = {planned.settings_of(candidate).results.name for candidate in planned.candidates}
    assert len(folders) == 4
    long = planned.settings_of({"method.pool": "a/../b" * 90}).results
    assert long.parent == planned.settings.results
    assert len(long.name) < 140


def comparison(accuracies):
    """A comparison from accuracies by candidate and cell, on tasks a (two seeds) and b (one)."""
    cells = (("a", 0), ("a", 1), ("b", 0))
    rows = [
        {"candidate": index, "task": task, "seed": seed, "accuracy": value}
        | {"status": "diverged" if value is None else "ok"}
        for index, values in enumerate(accuracies)
        for (task, seed), value in zip(cells, values, strict=True)
    ]
    return Comparison("vit", "lora-r2", "*", DataFrame(rows).astype({"accuracy": float}))


def test_each_task_has_the_same_weight():
    found = comparison([[0.5, 0.7, 0.1], [0.4, 0.4, 0.4]])
    assert found.accuracies()[0] == pytest.approx((0.6 + 0.1) / 2)
    assert found.accuracies("a")[0] == pytest.approx(0.6)
    assert found.best() == [1]
    assert found.best("a") == [0]


def test_ties_are_told_and_the_last_bit_is_none():
    found = comparison([[0.1, 0.1, 0.3], [0.3, 0.3, 0.1], [0.1 + 1e-17, 0.1, 0.3 - 1e-16]])
    assert found.best() == [0, 1, 2]


def test_a_candidate_with_one_failed_trial_is_not_eligible():
    found = comparison([[0.9, None, 0.9], [0.1, 0.1, 0.1]])
    assert found.best() == [1]
    assert found.best("b") == [0]
    assert (found.failed(0), found.failed(1)) == (["diverged"], [])
    assert comparison([[None, 0.9, 0.9]]).best() == []


def test_a_comparison_by_task_is_of_its_cells_alone(settings):
    planned = plan(BOTH, {"stage2.weight": [0.03, 0.1]}, settings)
    by_task = [(one.task, list(one.trials.task)) for one in compare(planned, "task")]
    assert by_task == [("eurosat", 2 * ["eurosat"]), ("dmlab", 2 * ["dmlab"])]
    (together,) = compare(planned, "all")
    assert set(together.trials.task) == {"eurosat", "dmlab"}
    assert together.best() == []


def test_methods_and_backbones_are_chosen_for_one_by_one(settings):
    selectors = ["vtab1k/vit_micro/dmlab/lora-r[24]", "vtab1k/swin_micro/dmlab/lora-r8"]
    planned = plan(selectors, {"stage1.epochs": [1, 2]}, settings)
    found = {(one.backbone, one.method) for one in compare(planned, "all")}
    assert found == {("vit_micro", "lora-r2"), ("vit_micro", "lora-r4"), ("swin_micro", "lora-r8")}


def test_a_choice_for_all_tasks_takes_the_place_of_those_for_single_ones(options, out):
    command = ["sweep", *BOTH, *options, "--try=stage2.weight=0.03,10"]
    path = out / "lora-r2+linear.vit_micro.smoke.toml"
    assert main([*command, "--by=task"]) == 0
    single = swept.read(path)
    assert set(single["tasks"]) == {"eurosat", "dmlab"}
    assert set(single["sources"]["stage2.weight"]) == {"eurosat", "dmlab"}
    assert main(command) == 0
    together = swept.read(path)
    assert together["tasks"] == {}
    assert set(together["sources"]["stage2.weight"]) == {"*"}
    assert [file.name for file in out.iterdir()] == [path.name]


def test_a_file_that_cannot_be_written_is_an_error(options, tmp_path, capsys):
    gone = [f"--out={tmp_path / 'gone'}" if "--out" in option else option for option in options]
    assert main(["sweep", EUROSAT, *gone, "--try=stage1.learning_rate=0.001,0.005"]) == 2
    assert "lora-r2.vit_micro.smoke.toml cannot be written" in capsys.readouterr().err


def test_trials_on_different_data_are_not_compared(options, settings):
    tries = "--try=stage1.learning_rate=0.001,0.005"
    assert main(["sweep", EUROSAT, *options, tries]) == 0
    planned = plan([EUROSAT], {"stage1.learning_rate": [0.001, 0.005]}, with_work(settings))
    (found,) = compare(planned, "all")
    found.trials.record[0]["data"]["manifest_sha256"] = "another"
    with pytest.raises(UsageError, match="trials differ in the data of eurosat"):
        found.source(planned)
