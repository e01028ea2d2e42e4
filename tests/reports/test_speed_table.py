"""The table of speeds, from numbers worked out by hand."""

from __future__ import annotations

import csv
import io

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.store import Store
from benchmarks.speed.spec import LABELS, SPEED
from reports import render
from reports.scale import load_table

CELL = Cell("speed", "vit_micro", "cpu", "all", 0)


def speed(median, low=None, high=None):
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def way(share, hours, memory=None):
    return {
        "cells_at_once": 1,
        "step_seconds": 0.5,
        "floor_share": share,
        "cells_per_hour": {"training": hours, "with_evaluation": hours / 2},
        "peak_gpu_memory_bytes": memory,
    }


@pytest.fixture
def table(tmp_path):
    outcome = Outcome(
        metrics={
            "images_per_second/plain": speed(20.0, 19.0, 21.0),
            "images_per_second/fp32": speed(90.0, 80.0, 101.0),
            "images_per_second/bf16": speed(180.0),
        },
        counts={"batch_size": 4, "rounds": 2, "steps": 3, "ways": 3},
        cost={
            "by_way": {
                "fp32": way(0.4, 3.25),
                "plain": way(0.085, 0.7),
                "bf16": way(0.2, 6.5, 3 * 2**30),
            },
            "matmul_flops_per_second": {"fp32": 3e10, "bf16": 1.5e11},
        },
        protocol={"left_out": {"beside-8": "OutOfMemoryError: too large"}},
    )
    record = build_record(
        SPEED,
        SPEED.scales["smoke"],
        CELL,
        SPEED.config(CELL, SPEED.scales["smoke"]),
        status="ok",
        error=None,
        outcome=outcome,
        sources={},
        where={
            "code": {"commit": "0123456789abcdef", "dirty": False},
            "environment": {},
            "hardware": {"gpu": None, "cpu": "Some CPU", "threads": 1},
        },
        run={"attempt": 1},
    )
    Store(tmp_path, "smoke").write(CELL, record)
    (found,) = load_table(tmp_path, "smoke", "speed")
    return found


def test_ways_stand_over_the_plain_loop_in_the_declared_order(table):
    ways, effects, gpu = table.page.ours
    assert "matrix products in TFLOP/s: fp32 0.03, bf16 0.15" in ways.title
    rows = [(row.name, [entry.text for entry in row.cells]) for row in ways.rows]
    assert rows == [
        (LABELS["plain"], ["20", "19 - 21", "1.00", "0.7", "0.3", "8", ""]),
        (LABELS["fp32"], ["90", "80 - 101", "4.50", "3.2", "1.6", "40", ""]),
        (LABELS["bf16"], ["180", "", "9.00", "6.5", "3.2", "20", "3.0"]),
        (LABELS["beside-8"], ["--", "OutOfMemoryError: too large", "", "", "", "", ""]),
    ]
    found = {row.name: [entry.text for entry in row.cells] for row in effects.rows}
    assert found == {
        "packed images, fused AdamW, no waiting": ["20", "90", "4.50"],
        "bfloat16": ["90", "180", "2.00"],
    }
    assert gpu.title == "GPU · no record"
    assert [hole.cell.task for hole in table.holes] == ["cuda"]


def test_it_renders_everywhere(table):
    for write_out in (render.markdown, render.latex, render.terminal):
        assert "plain loop" in write_out(table.page)
    lines = list(csv.DictReader(io.StringIO(table.frame.to_csv(index=False))))
    (line,) = [
        one for one in lines if one["method"] == "fp32" and one["quantity"] == "images_per_second"
    ]
    assert (line["value"], line["low"], line["high"]) == ("90.0", "80.0", "101.0")
    assert {one["value"] for one in lines if one["quantity"] == "floor_share"} == {
        "0.4",
        "0.085",
        "0.2",
    }
