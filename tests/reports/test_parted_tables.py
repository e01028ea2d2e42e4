"""Tables whose layout is their own: Tables 3 and 4, and the cost of methods, from hand-made records."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.store import Store
from benchmarks.method_cost.spec import BASELINE, METHOD_COST
from benchmarks.vtab1k import methods
from benchmarks.vtab1k.spec import VTAB1K
from reports import published, render
from reports.published import load_parts
from reports.scale import load_table

SCALE = VTAB1K.scales["smoke"]


def write(results, benchmark, cell, outcome):
    scale = benchmark.scales["smoke"]
    record = build_record(
        benchmark,
        scale,
        cell,
        benchmark.config(cell, scale),
        status="ok",
        error=None,
        outcome=outcome,
        sources={},
        where={
            "code": {},
            "environment": {},
            "hardware": {"gpu": None, "cpu": "a CPU", "threads": 1},
        },
        run={"attempt": 1},
    )
    Store(results, "smoke").write(cell, record)


def table(results, name):
    (found,) = load_table(results, "smoke", name)
    return found


def texts(block, method):
    return [entry.text for entry in block.row(method).values()]


@pytest.fixture
def table3(tmp_path):
    """Swin's `full` has 50 % on every task, ConvNeXt's `lora-r8` 60 %; all else is missing."""
    for backbone, method, value in (
        ("swin_micro", "full", 0.5),
        ("convnext_micro", "lora-r8", 0.6),
    ):
        for task in VTAB1K.tasks:
            cell = Cell("vtab1k", backbone, task.name, method, 0)
            outcome = Outcome(
                metrics={"top1_accuracy": {"last_epoch": value}}, cost={"trainable_params": 7}
            )
            write(tmp_path, VTAB1K, cell, outcome)
    return table(tmp_path, "table3")


def test_table3_has_a_part_for_each_backbone(table3):
    page = table3.page
    titles = [block.title for block in page.ours]
    assert [t for t in titles if t.startswith("Means")] == [
        "Means on swin_micro",
        "Means on convnext_micro",
    ]
    swin, _, convnext, _ = page.ours
    assert [row.name for row in swin.rows] == list(methods.TABLE3_SWIN)
    assert [row.name for row in convnext.rows] == list(methods.TABLE3_CONVNEXT)
    assert texts(swin, "full")[1:6] == ["50.0"] * 5
    assert texts(convnext, "lora-r8")[1:6] == ["60.0"] * 5
    assert texts(swin, "linear")[1] == "--"
    missing = (len(methods.TABLE3_SWIN) + len(methods.TABLE3_CONVNEXT) - 2) * len(VTAB1K.tasks)
    assert len(table3.holes) == missing


def test_table3_prints_the_paper_with_its_remarks(table3):
    printed = {block.title: block for block in table3.page.paper}
    swin = printed["The paper's Swin Transformer [41], as printed"]
    assert texts(swin, "fact-tk") == ["0.14", "83.4", "86.8", "61.3", "77.2"]
    assert any("Repeats the DTL+ row" in line for line in table3.page.legend)


def test_table3_renders_everywhere_and_its_csv_has_one_header(table3):
    for write_out in (render.markdown, render.latex, render.terminal):
        text = write_out(table3.page)
        assert "swin" in text
        assert "convnext" in text
    lines = list(csv.DictReader(io.StringIO(table3.frame.to_csv(index=False))))
    assert {line["backbone"] for line in lines} == {"swin_micro", "convnext_micro"}
    assert not [line for line in lines if line["table"] == "table"]


def test_cost_of_methods_from_numbers_worked_out_by_hand(tmp_path):
    counts = {
        BASELINE: (100, 300, 2**30, 3 * 2**30, 442_368, 7),
        "linear": (100, 100, 2**30, int(1.5 * 2**30), 0, 7),
    }
    names = "forward_flops step_flops resident_bytes peak_memory_bytes trainable_params head_params"
    by_method = {k: dict(zip(names.split(), v, strict=True)) for k, v in counts.items()}
    ratio = {"median": 0.333, "lower_quartile": 0.32, "upper_quartile": 0.35}
    outcome = Outcome(
        metrics={METHOD_COST.metrics[0].name: ratio, "step_ratio/linear": ratio},
        counts={"batch_size": 4, "rounds": 5},
        cost={"by_method": by_method},
    )
    write(tmp_path, METHOD_COST, Cell("method_cost", "vit_micro", "cpu-fp32", "all", 0), outcome)
    found = table(tmp_path, "methods")
    block = found.page.ours[0]
    assert texts(block, "linear") == [
        "0.000",
        "33",
        "32 - 35",
        "1536",
        "25",
        "33",
    ]
    assert texts(block, BASELINE) == ["0.442", "100", "", "3072", "100", "100"]
    assert texts(block, "full")[1] == "--"
    assert len(found.holes) == 2  # the GPU's cells
    assert set(found.frame["quantity"]) >= {"step_ratio", "peak_memory_bytes"}


def test_table4_has_the_penalty_on_features_and_on_weights(tmp_path):
    for method, value in (("lora-r8+linear", 0.75), ("lora-r8+linear@weight", 0.5)):
        for task in VTAB1K.tasks:
            outcome = Outcome(
                metrics={"top1_accuracy": {"last_epoch": value}}, cost={"trainable_params": 7}
            )
            write(tmp_path, VTAB1K, Cell("vtab1k", "vit_micro", task.name, method, 0), outcome)
    found = table(tmp_path, "table4")
    means = {row.name: [cell.text for cell in row.cells] for row in found.page.ours[0].rows}
    assert means["lora-r8+linear"][1:6] == ["75.0"] * 5
    assert means["lora-r8+linear@weight"][1:6] == ["50.0"] * 5
    assert not found.holes
    (printed,) = found.page.paper
    assert [cell.text for row in printed.rows for cell in row.cells] == (
        "0.44 82.3 86.3 62.9 77.2 0.44 82.2 86.1 62.5 76.9".split()
    )


def test_the_feature_row_of_table4_is_the_row_of_table5():
    (part,) = load_parts("table4").parts
    row = part.row("lora-r8+linear")
    five = published.load("table5")
    exact = {
        group: sum(five.row("lora-r8+linear").cells[task] for task in tasks) / len(tasks)
        for group, tasks in five.groups.items()
    }
    for group, mean in exact.items():
        assert abs(mean - Decimal(row.cells[group])) <= Decimal("0.05")
