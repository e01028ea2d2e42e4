"""How long cells will take: by measured speeds first, by records, by a few steps, and which it was."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.cost.spec import COST
from benchmarks.harness import cli_planning
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.execute import Settings
from benchmarks.harness.forecast import (
    RECORDS,
    SPEEDS,
    STEPS,
    Expected,
    Forecast,
    by_table,
    estimate,
)
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.registry import select
from benchmarks.harness.store import Store
from benchmarks.method_cost.spec import METHOD_COST
from benchmarks.speed import paces
from benchmarks.vtab1k.spec import VTAB1K
from slurm import planning

H200 = "NVIDIA H200"
FILE = json.loads((paces.NAMED / "h200.json").read_text())
BF16 = {"training.precision": "bf16"}
PETS = "vtab1k/vit_b16/pets"
STEPS_OF_A_STAGE, TESTED = 100 * 31, 10 * VTAB1K.task("pets").n_test


def write(results, benchmark, cell, scale="paper", *, gpu=H200, overrides=None, **measured):
    declared = benchmark.scales[scale]
    record = build_record(
        benchmark,
        declared,
        cell,
        benchmark.config(cell, declared, overrides),
        status="ok",
        error=None,
        outcome=Outcome(**measured),
        sources={},
        where={"code": {}, "environment": {}, "hardware": {"gpu": gpu, "cpu": "a CPU"}},
        run={"attempt": 1, "overrides": overrides or {}},
    )
    Store(results, scale).write(cell, record)


def ratios(names):
    found = {METHOD_COST.metrics[0].name: {"median": 1.0}, COST.metrics[0].name: {"median": 1.0}}
    return found | {f"step_ratio/{name}": {"median": value} for name, value in names.items()}


def write_costs(results, **more):
    flops = {"forward_flops": 1, "step_flops": 4}
    write(
        results,
        METHOD_COST,
        Cell("method_cost", "vit_b16", "cuda-bf16", "all", 0),
        metrics=ratios({"ssf": 1.5, "full": 2.0}),
        counts={"batch_size": 32},
        cost={
            "baseline_step_seconds": 0.04,
            "by_method": {"lora-r8": flops},
            "total_seconds": 60.0,
        },
        **more,
    )
    for method, ratio in (("lora-r2", 1.25), ("dtl-r2", 3.0)):
        write(
            results,
            COST,
            Cell("cost", "vit_b16", "cuda-bf16", method, 0),
            metrics=ratios({"closed-linear": ratio}),
            counts={"batch_size": 32},
            cost={"total_seconds": 60.0},
            **more,
        )


@pytest.fixture
def settings(tmp_path):
    return Settings(scale="paper", results=tmp_path, work=tmp_path / "work", overrides=BF16)


def seconds_of(settings, method, kind=H200, task="pets"):
    found = Forecast(settings, kind).known(Cell("vtab1k", "vit_b16", task, method, 0))
    return None if found is None else found.seconds


def test_a_lora_cell_takes_what_its_way_of_training_takes(settings):
    step, image = FILE["ways"]["bf16"]["step_seconds"], 1 / FILE["evaluated_per_second"]["bf16"]
    expected = STEPS_OF_A_STAGE * step + TESTED * image
    assert seconds_of(settings, "lora-r8") == pytest.approx(expected)
    full = dataclasses.replace(settings, overrides={})
    step, image = FILE["ways"]["fp32"]["step_seconds"], 1 / FILE["evaluated_per_second"]["fp32"]
    expected = STEPS_OF_A_STAGE * step + TESTED * image
    assert seconds_of(full, "lora-r2") == pytest.approx(expected)
    assert seconds_of(settings, "lora-r8", kind="NVIDIA H100") is None
    assert seconds_of(settings, "ssf") is None


@pytest.mark.parametrize(("asked", "way"), [(1, "bf16"), (3, "beside-2"), (9, "beside-8")])
def test_side_by_side_it_is_the_share_of_the_largest_measured_group(settings, asked, way):
    settings = dataclasses.replace(settings, side_by_side=asked)
    found = FILE["ways"][way]
    step, image = (
        found["step_seconds"] / found["cells_at_once"],
        1 / FILE["evaluated_per_second"]["bf16"],
    )
    expected = STEPS_OF_A_STAGE * step + TESTED * image
    assert seconds_of(settings, "lora-r8") == pytest.approx(expected)


def test_other_methods_and_penalties_are_by_their_costs(settings, tmp_path):
    write_costs(tmp_path)
    image = 1 / FILE["evaluated_per_second"]["bf16"]

    def step(method):
        return (seconds_of(settings, method) - TESTED * image) / STEPS_OF_A_STAGE

    base = FILE["ways"]["bf16"]["step_seconds"]
    assert step("ssf") == pytest.approx(1.5 * base)
    assert step("full") == pytest.approx(2 * base)
    assert step("lora-r4+linear") == pytest.approx(1.25 * base)
    assert step("lora-r4+control") == pytest.approx(base)
    # No ratio of this penalty was measured.
    assert step("lora-r4+cosine") == pytest.approx(base)
    assert seconds_of(settings, "dtl-plus+linear") is None, "nor of dtl-plus"
    found = Forecast(settings, H200).known(Cell.parse(f"{PETS}/ssf/0"))
    assert found.where == (
        "benchmarks/speed/measured/h200.json (bf16)",
        "method_cost/vit_b16/cuda-bf16/all/0",
    )


def test_without_a_measured_speed_the_costs_tell_alone(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(paces, "NAMED", tmp_path / "nowhere")
    write_costs(tmp_path)
    image = 0.04 / 4 / 32
    expected = STEPS_OF_A_STAGE * 1.5 * 0.04 + TESTED * image
    assert seconds_of(settings, "ssf") == pytest.approx(expected)
    other_batch = dataclasses.replace(settings, overrides=BF16 | {"stage1.batch_size": 64})
    assert seconds_of(other_batch, "ssf") is None
    assert seconds_of(dataclasses.replace(settings, overrides={}), "ssf") is None, "float32"


def test_what_was_measured_on_another_device_does_not_count(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(paces, "NAMED", tmp_path / "nowhere")
    write_costs(tmp_path, gpu="another")
    assert seconds_of(settings, "ssf") is None
    assert seconds_of(settings, "ssf", kind="another") is not None


def write_cell(results, method, seconds, **cost):
    cell = Cell("vtab1k", "vit_b16", "pets", method, 0)
    metrics = {"top1_accuracy": {"last_epoch": 0.5}}
    cost = {"total_seconds": seconds, **cost}
    write(results, VTAB1K, cell, metrics=metrics, cost=cost, overrides=BF16)


def test_speeds_come_before_records_and_these_before_steps(settings, tmp_path):
    for method in ("lora-r8", "ssf"):
        write_cell(tmp_path, method, 77.0)
    forecast = Forecast(settings, H200, otherwise=lambda cell: Expected(5.0, STEPS))
    sources = {
        method: forecast.expected(Cell.parse(f"{PETS}/{method}/0")).source
        for method in ("lora-r8", "ssf", "full")
    }
    assert sources == {"lora-r8": SPEEDS, "ssf": RECORDS, "full": STEPS}
    cells = [Cell.parse(f"{PETS}/{method}/0") for method in ("ssf", "full")]
    assert estimate(cells, forecast, 2) == (
        f"cells to run: 2, about 41 s in 2 processes, {RECORDS} and {STEPS}"
    )
    assert estimate([], forecast, 2) == "cells to run: 0"


def test_records_of_cells_side_by_side_speak_of_such_cells(settings, tmp_path):
    write_cell(tmp_path, "lora-r8", 10.0, side_by_side=4)
    write_cell(tmp_path, "linear", 3.0)
    beside = dataclasses.replace(settings, side_by_side=4)
    for asked, lora in ((beside, 10.0), (settings, None)):
        forecast = Forecast(asked, None, any_device=True)
        found = forecast.known(Cell.parse(f"{PETS}/lora-r8/0"))
        assert (found and found.seconds) == lora
        assert forecast.known(Cell.parse(f"{PETS}/linear/0")).seconds == 3.0


def test_whole_tables_and_what_is_missing_of_them(settings, tmp_path):
    write_cell(tmp_path, "lora-r8", 77.0)
    lines = by_table(["vtab1k"], Forecast(settings, H200), 1).splitlines()
    rows = {line.split()[0]: re.split(r"\s{2,}", line.strip()) for line in lines[2:]}
    cells = 19 * 3 * 18
    total = sum(
        seconds_of(settings, method, task=task.name) * 3
        for task in VTAB1K.tasks
        for method in ("lora-r8",) * 18
    )
    assert rows["table5"][1:4] == [str(cells), f"{total / 3600:,.0f} hours", str(cells - 1)]
    assert rows["table3"][2] == "not known"
    assert "of unknown time" in rows["table2"][-1]


def test_a_dry_run_of_a_machine_that_is_not_at_hand(settings, capsys, tmp_path):
    where = [f"--results={tmp_path}", f"--work={tmp_path}", f"--data={tmp_path}"]
    chosen = [
        "run",
        f"{PETS}/lora-r8",
        "--scale=paper",
        "--dry-run",
        f"--device-name={H200}",
        *where,
    ]
    assert main([*chosen, "--set=training.precision=bf16", "--batch-cells=8"]) == 3
    printed = capsys.readouterr().out
    assert f"on {H200}: lora-r8 on vit_b16: 0.00992 s a step" in printed
    assert "measured there: benchmarks/speed/measured/h200.json (beside-8)" in printed
    assert re.search(r"cells to run: 3, about 1\d\d s in 1 processes, by measured speeds", printed)
    assert re.search(r"table5 +1026 +\d+ hours +1026 +\d+ hours", printed)


def test_the_bar_of_a_dry_run_counts_the_methods_that_it_measures(tmp_path, monkeypatch):
    counted = []

    class Counting(cli_planning.Bar):
        def close(self):
            counted.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(cli_planning, "Bar", Counting)
    monkeypatch.setattr(cli_planning, "expected_seconds", lambda cell, settings: (2.0, "a pace"))
    cells = select(["vtab1k/vit_b16/pets/lora-r[28]", "vtab1k/vit_b16/svhn/ssf"], "paper")
    local = Settings(scale="paper", results=tmp_path, device="cpu")
    cli_planning.estimated(cells, local, 1, tables=True)
    assert counted[0] == (3, 3)


def test_a_plan_of_jobs_says_by_what_it_knows(settings):
    sources = Counter()
    seconds = planning.by_records(settings, lambda cell: 9.0, kind=H200, sources=sources)
    cells = select([f"{PETS}/lora-r8/*", f"{PETS}/ssf/0"], "paper")
    assert [seconds(cell) for cell in cells].count(9.0) == 1
    assert sources == {SPEEDS: 3, planning.OTHERWISE: 1}
    assert planning.by_records(settings)(cells[0]) is None, "where jobs run is not known"


def test_every_named_measurement_can_be_read():
    for path in Path(paces.NAMED).glob("*.json"):
        found = json.loads(path.read_text())
        kind = found["hardware"]["gpu"] or found["hardware"]["cpu"]
        (speed, *_) = paces.measured_on(Path("nowhere"), kind).speeds
        assert speed.batch_size == found["size"]["batch_size"]
