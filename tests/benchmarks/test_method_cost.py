"""The cost of methods: what is counted is what the methods are known for, and the steps are real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import run_cell
from benchmarks.harness.registry import declared
from benchmarks.method_cost.runner import _counts
from benchmarks.method_cost.spec import BASELINE, CONTROL, METRICS, measured
from benchmarks.method_cost.step import Bench, MethodStep

CELL = Cell("method_cost", "vit_micro", "cpu-fp32", "all", 0)
FEW = ["lora-r8", "linear", "lst", "dtl", "adalora-r8"]


@pytest.fixture(scope="module")
def bench():
    benchmark, scale = declared(CELL, "smoke")
    return Bench(CELL, benchmark.config(CELL, scale), "cpu")


def test_every_method_is_declared():
    names = measured()
    assert names[0] == BASELINE
    assert len(set(names)) == len(names)
    assert {"full", "linear", "lst", "unipt", "dtl", "noah"} <= set(names)
    assert f"step_ratio/{CONTROL}" == METRICS[0].name


def test_what_is_frozen_is_shared_and_what_is_trained_is_not(bench):
    one, other = MethodStep(bench, "lora-r8"), MethodStep(bench, "full")
    plain = {p.data_ptr() for p in bench.model.parameters()}
    for step in (one, other):
        for parameter in step.model.parameters():
            is_new = parameter.data_ptr() not in plain
            assert is_new == parameter.requires_grad
    before = [p.detach().clone() for p in bench.model.parameters()]
    other()
    assert all(map(torch.equal, before, bench.model.parameters()))


def test_side_networks_keep_less_than_lora(bench):
    counts = {name: _counts(MethodStep(bench, name)) for name in FEW}
    beyond = {n: c["peak_memory_bytes"] - c["resident_bytes"] for n, c in counts.items()}
    assert beyond["linear"] < beyond["lst"] < beyond["dtl"] < beyond["lora-r8"]
    assert counts["linear"]["trainable_params"] == 0
    assert counts["lora-r8"]["trainable_params"] == 46_080
    assert counts["lst"]["step_flops"] < counts["lora-r8"]["step_flops"]


def test_a_cell_measures_all_methods_side_by_side(settings):
    settings = replace(settings, overrides={"methods": FEW})
    assert run_cell(CELL, settings, lambda event: None) == "ok"
    record = settings.store.load(CELL)
    assert set(record["curves"]["rounds"]) == {*FEW, CONTROL}
    assert {len(times) for times in record["curves"]["rounds"].values()} == {2}
    assert set(record["cost"]["by_method"]) == set(FEW)
    assert record["metrics"]["step_ratio/linear"]["median"] < 1
