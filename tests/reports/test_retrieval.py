"""The halves of Table 1, from hand-made records with known recalls."""

from __future__ import annotations

import csv
import io

import pytest

from benchmarks.flickr30k.spec import FLICKR30K
from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.store import Store
from benchmarks.msrvtt.spec import MSRVTT
from reports import claims
from reports.figures.recall import recall_by_method
from reports.records import load_grid, read
from reports.scale import load_table
from reports.specs_retrieval import MEMORY_UNIT as UNIT
from reports.specs_retrieval import meter_of

(TABLE,) = FLICKR30K.tables
SCALE = FLICKR30K.scales["micro"]
# Rsum of each seed, in %
RSUMS = {
    "full": (300.0, 304.0, 308.0),
    "lora-r8": (290.0, 292.0, 294.0),
    "lora-r8+linear": (292.0, 294.1, 295.9),
    "lora-r8+control": (292.0, 293.0, 294.0),
}


def write(results, method, seed, rsum, cost, benchmark=FLICKR30K):
    """One record; the numbers by rules that are not the primary one are wrong."""
    scale = benchmark.scales["micro"]
    cell = Cell(benchmark.name, scale.backbones[0], benchmark.tasks[0].name, method, seed)
    metrics = {one.name: (0.25 if "_r" in one.name else 7.0) for one in benchmark.metrics}
    first, second = [one.name for one in benchmark.metrics if one.name.endswith("_r1")]
    metrics |= {"rsum": rsum / 100, first: rsum / 1000, second: rsum / 2000}
    primary = benchmark.selections[0]
    rules = {
        name: {rule: value if rule == primary else value / 2 for rule in benchmark.selections}
        for name, value in metrics.items()
    }
    record = build_record(
        benchmark,
        scale,
        cell,
        benchmark.config(cell, scale),
        status="ok",
        error=None,
        outcome=Outcome(metrics=rules, redundancy=None, cost=cost),
        sources={},
        where={"code": {"commit": "0" * 16, "dirty": False}, "environment": {}, "hardware": {}},
        run={"attempt": 1},
    )
    Store(results, "micro").write(cell, record)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval") / "results"
    for method, rsums in RSUMS.items():
        for seed, rsum in enumerate(rsums):
            params = 879_104 if method == "full" else 16_384
            cost = {"trainable_params": params, "head_params": 45_728}
            cost |= {"peak_gpu_memory_bytes": None, "peak_process_memory_bytes": 2 * UNIT}
            write(folder, method, seed, rsum, cost)
    return folder


@pytest.fixture(scope="module")
def grid(results):
    return load_grid(FLICKR30K, "bert_micro", Store(results, "micro"))


@pytest.fixture(scope="module")
def found(grid, laid_out):
    return laid_out(TABLE, grid)


def row(found, method):
    (block,) = found.page.ours
    return {title: entry.whole for title, entry in block.row(method).items()}


def test_ours_beside_the_papers(found):
    full = row(found, "full")
    assert full["params adapter"] == "0.8791"
    assert full["params total"] == "0.9248"
    assert full["memory"] == "2.000"
    assert full["Rsum"] == "304.0 ± 4.0"
    assert full["I-T"] == "30.4 ± 0.4"
    assert full["T-I"] == "15.2 ± 0.2"
    assert full["paper Rsum"] == "513.5"
    assert full["Δ base [95 %]"] == ""
    penalised = row(found, "lora-r8+linear")
    assert penalised["Δ base [95 %]"].startswith("+2.00 [")
    assert penalised["Δ base [95 %]"].endswith("↑")
    assert penalised["Δ control [95 %]"].startswith("+1.00 [")
    assert penalised["paper Rsum"] == "2.6 ↑"
    assert row(found, "ssf")["Rsum"] == "--"
    assert "resident memory of the CPU's process" in " ".join(found.page.legend)


def test_rows_are_the_papers_and_the_control(found):
    assert [row.name for row in found.page.ours[0].rows] == list(FLICKR30K.methods)
    assert len(found.page.paper[0].rows) == 12
    assert len(found.holes) == 9 * 3


def test_memory_of_gpus_and_cpus_is_never_in_one_column(tmp_path, laid_out):
    write(
        tmp_path,
        "full",
        0,
        300.0,
        {"peak_gpu_memory_bytes": 5 * UNIT, "peak_process_memory_bytes": 1},
    )
    write(
        tmp_path, "ssf", 0, 300.0, {"peak_gpu_memory_bytes": None, "peak_process_memory_bytes": 1}
    )
    grid = load_grid(FLICKR30K, "bert_micro", Store(tmp_path, "micro"))
    assert meter_of(grid) == "peak_gpu_memory_bytes"
    half = laid_out(TABLE, grid)
    assert row(half, "full")["memory"] == "5.000"
    assert row(half, "ssf")["memory"] == "--"


def test_the_halves_stand_side_by_side(grid, found, laid_out, tmp_path):
    for method, rsums in RSUMS.items():
        for seed, rsum in enumerate(rsums):
            cost = {"trainable_params": 16_384, "head_params": 0}
            cost |= {"peak_gpu_memory_bytes": 3 * UNIT, "peak_process_memory_bytes": 2 * UNIT}
            write(tmp_path, method, seed, rsum / 2, cost, MSRVTT)
    (table,) = MSRVTT.tables
    other = load_grid(MSRVTT, "clip_micro", Store(tmp_path, "micro"))
    half = laid_out(table, other)
    assert row(half, "full")["Rsum"] == "152.0 ± 2.0"
    assert row(half, "full")["T-V"] == "15.2 ± 0.2"
    assert row(half, "full")["V-T"] == "7.6 ± 0.1"
    assert row(half, "full")["params total"] == "0.0164"
    assert row(half, "full")["memory"] == "3.000"
    assert row(half, "full")["paper Rsum"] == "389.2"
    assert row(half, "lora-r8+linear")["paper Rsum"] == "3.3 ↑"
    assert [row.name for row in half.page.ours[0].rows] == list(MSRVTT.methods)
    assert "msrvtt: of the last epoch." in " ".join(half.page.legend)
    assert "flickr30k: of the epoch with the best Rsum on dev." in " ".join(found.page.legend)
    both = laid_out(table, grid, other)
    assert both.page.title == "Table 1 · scale micro"
    assert [block.title for block in both.page.ours] == [
        "Ours: flickr30k on bert_micro",
        "Ours: msrvtt on clip_micro",
    ]
    lines = list(csv.DictReader(io.StringIO(both.frame.to_csv(index=False))))
    assert None not in lines[-1]
    mine = {
        (line["benchmark"], line["method"], line["quantity"], *filter(None, [line["name"]])): line
        for line in lines
    }
    assert mine["flickr30k", "lora-r8", "rsum"]["value"] == "292.0"
    assert mine["flickr30k", "lora-r8", "rsum"]["paper_printed"] == "508.2"
    assert mine["flickr30k", "lora-r8", "i2t_medr"]["value"] == "7.0"
    assert mine["flickr30k", "full", "params_m"]["paper_printed"] == "109.5"
    assert mine["flickr30k", "lora-r8+linear", "delta", "rsum_over_control"]["n"] == "3"
    assert mine["msrvtt", "lora-r8", "rsum"]["value"] == "146.0"
    assert mine["msrvtt", "lora-r8", "memory_gb"]["paper_printed"] == "10.2 * 4"
    assert mine["msrvtt", "vpt-deep", "rsum"]["states"] == "missing"


def test_it_is_built_and_its_claim_is_judged(results):
    (table,) = load_table(results, "micro", "table1")
    assert set(table.frame["benchmark"]) == {"flickr30k", "msrvtt"}
    judged = {claim.id: found for claim, found in claims.judge_all(read(results, "micro"))}
    assert judged["image-text"].verdict.value == "supported"
    assert "lora-r8+linear − lora-r8: +2.00" in judged["image-text"].numbers[0]
    assert judged["video-text"].verdict.value == "not run"


def test_the_figure_has_a_line_for_each_method_with_its_mean(found):
    figure = recall_by_method(found.parts[0])
    (panel,) = figure.axes
    said = [text.get_text() for text in panel.texts]
    assert said == ["304.0", "292.0", "294.0", "293.0"]
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names[0] == "full"
    assert names[-1] == "lora-r8+control"
    seeds = [list(line.get_xdata()) for line in panel.lines if line.get_marker() == "."]
    assert seeds[1] == list(RSUMS["lora-r8"])
    assert "EMBEDDED" in figure.get_suptitle()
