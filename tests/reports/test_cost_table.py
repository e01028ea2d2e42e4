"""The table of costs from hand-made records against numbers worked out by hand; holes; every format."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess

import pytest

from benchmarks.cost.spec import BASELINE, COST, VARIANTS
from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.store import Store
from reports import render
from reports.cli import main
from reports.page import FAILED, HOLE
from reports.published import load_costs
from reports.scale import load_table
from reports.specs import LAYOUTS

(TABLE,) = COST.tables
SCALE = COST.scales["paper"]

COUNTS = {
    BASELINE: (281e9, 534e9, 1000, 2 * 2**30),
    "closed-linear": (281e9, 534e9, 1065, 2.002 * 2**30),
    "maps-linear": (415.8e9, 924e9, 20_000, 6 * 2**30),
}
QUARTILES = {"median": 1.0025, "lower_quartile": 0.9812, "upper_quartile": 1.031}
SINGLE = {"median": 1.75, "lower_quartile": None, "upper_quartile": None}


def write(results, task, method, *, status="ok", gpu=None, left_out=None):
    cell = Cell("cost", "vit_b16", task, method, 0)
    names = ("forward_flops", "step_flops", "aten_ops", "peak_memory_bytes")
    metrics = {
        "step_ratio/closed-linear": QUARTILES,
        "own_share/closed-linear": {k: v - 0.98 for k, v in QUARTILES.items()},
        "step_ratio/maps-linear": SINGLE,
    }
    outcome = Outcome(
        metrics=metrics if status == "ok" else {},
        counts={"batch_size": 8, "tokens": 197, "matrices": 36, "rounds": 9, "literal_rounds": 3},
        cost={
            "baseline_step_seconds": 0.02134,
            "by_variant": {k: dict(zip(names, v, strict=True)) for k, v in COUNTS.items()},
        },
        protocol={"left_out": left_out or {}},
    )
    record = build_record(
        COST,
        SCALE,
        cell,
        COST.config(cell, SCALE),
        status=status,
        error=None if status == "ok" else "it went wrong",
        outcome=outcome,
        sources={},
        where={
            "code": {"commit": "0123456789abcdef", "dirty": False},
            "environment": {},
            "hardware": {"gpu": gpu, "cpu": "a CPU", "threads": 2},
        },
        run={"attempt": 1},
    )
    Store(results, "paper").write(cell, record)


def table(results):
    (found,) = load_table(results, "paper", "table6")
    return found


def row(page, block, label):
    (found,) = [b for b in page.ours if b.title.startswith(block)]
    return {title: cell.whole for title, cell in found.row(label).items()}


def test_texts_of_a_cpu_cell_by_hand(tmp_path):
    write(tmp_path, "cpu-fp32", "lora-r2")
    page = table(tmp_path).page
    assert page.warning is None
    title = next(block.title for block in page.ours if "lora-r2" in block.title)
    assert title == (
        "lora-r2 · CPU, float32 · batch 8 × 197 tokens, 36 matrices · "
        "rounds: 9, printed and maps 3 · a CPU, threads: 2"
    )
    assert row(page, "lora-r2 · CPU", "R_l closed, tokens") == {
        "step %": "100.2 [98.1, 103.1]",
        "own %": "2.25 [0.12, 5.10]",
        "memory %": "100.10",
        "FLOPs %": "100.00",
        # 281e9 / 2 x 32 / 8
        "fwd TMAC": "0.562",
        "ops +": "65",
        "paper time": "+34",
        "paper FLOPs": "0.83",
        "paper GB": "4.0",
    }
    maps = row(page, "lora-r2 · CPU", "R_l maps, images")
    assert (maps["step %"], maps["own %"], maps["fwd TMAC"]) == ("175.0", "", "0.832")
    base = row(page, "lora-r2 · CPU", "no penalty")
    assert (base["step %"], base["memory %"]) == ("100", "100 (2.00 GiB)")
    assert (base["paper time"], base["paper FLOPs"], base["paper GB"]) == ("100", "0.56", "3.4")


def test_a_row_a_method_as_the_paper_has_it_with_accuracies(tmp_path):
    write(tmp_path, "cpu-fp32", "lora-r2")
    vtab = BENCHMARKS["vtab1k"]
    scale = vtab.scales["paper"]
    store = Store(tmp_path, "paper")
    for position, task in enumerate(vtab.tasks):
        for method, more in (("lora-r2", 0.0), ("lora-r2+control", 0.01), ("lora-r2+linear", 0.03)):
            cell = Cell("vtab1k", "vit_b16", task.name, method, 0)
            rules = dict.fromkeys(vtab.selections, 0.5 + position / 100 + more)
            record = build_record(
                vtab,
                scale,
                cell,
                vtab.config(cell, scale),
                status="ok",
                error=None,
                outcome=Outcome(metrics={"top1_accuracy": rules}),
                sources={},
                where={"code": {"dirty": False}, "environment": {}, "hardware": {"gpu": None}},
                run={"attempt": 1},
            )
            store.write(cell, record)
    found = table(tmp_path)
    block = "As the paper's table · CPU, float32 · a CPU"
    assert row(found.page, block, "lora-r2+linear") == {
        "memory GiB": "2",
        "FLOPs T": "0.562",
        "time % closed": "100.2",
        "time % printed": HOLE,
        "memory GiB printed": HOLE,
        # 50 + the mean of 0 to 18, and 3 points
        "accuracy %": "62.0 (n=1)",
        "Δ base [95 %]": "+3.00 [+3.00, +3.00] ↑",
        "Δ control [95 %]": "+2.00 [+2.00, +2.00] ↑",
        "paper GB": "4.0",
        "paper FLOPs": "0.83",
        "paper time": "+34",
        "paper accuracy": "0.3 ↑",
    }
    base = row(found.page, block, "lora-r2")
    assert (base["memory GiB"], base["time % closed"], base["accuracy %"]) == (
        "2",
        "100",
        "59.0 (n=1)",
    )
    full = row(found.page, block, "full")
    assert (full["memory GiB"], full["accuracy %"], full["paper accuracy"]) == (HOLE, HOLE, "68.9")
    sources = found.sources
    assert len(sources) == 1 + 3 * len(vtab.tasks)
    numbers = {(one.method, one.quantity): one.value for one in found.parts[0].numbers}
    assert numbers["lora-r2+linear", "accuracy_over_control"] == pytest.approx(2)


def test_seconds_are_shown_for_a_gpu_alone(tmp_path):
    write(tmp_path, "cpu-fp32", "lora-r2")
    write(tmp_path, "cuda-bf16", "lora-r2", gpu="some GPU")
    page = table(tmp_path).page
    assert row(page, "lora-r2 · CUDA, bf", "no penalty")["step %"] == "100 (21.34 ms)"
    assert any("bfloat16" in block.title and "some GPU" in block.title for block in page.ours)
    assert not any(" ms" in row(page, "lora-r2 · CPU", v.label)["step %"] for v in VARIANTS)


def test_only_methods_of_the_papers_table_stand_beside_it(tmp_path):
    for method in ("lora-r8", "dtl-r2"):
        write(tmp_path, "cpu-fp32", method)
    page = table(tmp_path).page
    assert row(page, "lora-r8 · CPU", "R_l closed, tokens")["paper time"] == ""
    assert row(page, "dtl-r2 · CPU", "R_e printed, tokens")["paper time"] == "+14"
    assert row(page, "dtl-r2 · CPU", "no penalty, again (A/A)")["paper time"] == ""


def test_what_is_missing_is_a_hole(tmp_path):
    write(tmp_path, "cpu-fp32", "lora-r2", left_out={"literal-linear": "out of memory"})
    write(tmp_path, "cpu-fp32", "lora-r8", status="oom")
    found = table(tmp_path)
    assert len(found.holes) == 14
    assert "Declared cells without a number: 14 of 15." in found.page.legend
    missing = row(found.page, "dtl-r2 · CPU", f"all {len(VARIANTS)} variants")
    assert set(missing.values()) == {HOLE}
    failed = row(found.page, "lora-r8 · CPU", f"all {len(VARIANTS)} variants")
    assert failed["step %"] == FAILED
    assert "status oom: cost/vit_b16/cpu-fp32/lora-r8/0" in found.page.notes[0][1]
    assert row(found.page, "lora-r2 · CPU", "R_l printed, tokens")["step %"] == "out of memory"
    assert row(found.page, "lora-r2 · CPU", "R_e closed, tokens")["step %"] == HOLE


def test_csv_has_every_number_in_full(tmp_path):
    write(tmp_path, "cpu-fp32", "lora-r2")
    lines = list(csv.DictReader(io.StringIO(table(tmp_path).frame.to_csv(index=False))))
    costs = [line for line in lines if line["benchmark"] == "cost"]
    assert len(costs) == 3 * (4 * len(VARIANTS) + 2) * 6
    found = {(line["task"], line["method"], line["name"], line["quantity"]): line for line in lines}
    step = found["cpu-fp32", "lora-r2", "closed-linear", "step_ratio"]
    assert (step["value"], step["low"], step["paper_printed"]) == ("1.0025", "0.9812", "+34")
    assert found["cpu-fp32", "lora-r2", "maps-linear", "flops_ratio"]["value"] == repr(924 / 534)
    absent = found["cuda-fp32", "lora-r2", "closed-linear", "step_ratio"]
    assert (absent["value"], absent["states"], absent["paper_printed"]) == ("", "missing", "+34")


def test_every_format_has_every_variant_and_fits(tmp_path):
    write(tmp_path, "cpu-fp32", "lora-r2", gpu=None)
    page = table(tmp_path).page
    shown = render.terminal(page)
    assert max(map(len, shown.splitlines())) <= 140
    for text in (shown, render.markdown(page).replace("\\", ""), render.latex(page)):
        for variant in VARIANTS:
            assert variant.label in text.replace("\\_", "_")
    assert "0.4 ↑" in render.markdown(page)
    assert render.latex(page).isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(tmp_path):
    write(tmp_path, "cpu-fp32", "lora-r2")
    (tmp_path / "table.tex").write_text(render.latex(table(tmp_path).page))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_smallest_scale_says_what_it_is_not(tmp_path, capsys):
    assert main(["show", "table6", "--scale", "smoke", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "NOT a reproduction" in out
    assert "EMBEDDED" not in out


def test_the_declared_rows_are_the_published_ones_in_order():
    paper = load_costs("table6")
    assert tuple(paper.cells) == TABLE.rows
    assert paper.cells["full"] == {
        "memory_gb": "4.9",
        "flops_t": "0.54",
        "time": "-",
        "accuracy": "68.9",
    }


def test_every_declared_table_has_a_layout():
    assert {table.layout for b in BENCHMARKS.values() for table in b.tables} == set(LAYOUTS)


def test_a_column_of_one_gpu_takes_no_record_of_another(tmp_path):
    for method in COST.methods:
        gpu = "NVIDIA H200" if method == "lora-r8" else "NVIDIA H100"
        write(tmp_path, "cuda-bf16", method, gpu=gpu)
        write(tmp_path, "cuda-fp32", method, gpu="NVIDIA H200")
    found = table(tmp_path)
    (refused,) = [hole for hole in found.holes if hole.state.value == "ok"]
    assert str(refused.cell) == "cost/vit_b16/cuda-bf16/lora-r8/0"
    assert refused.reason == "other machine (NVIDIA H200) than most records (NVIDIA H100)"
    assert "Records refused: 1; the notes say which and why." in found.page.legend
    (note,) = found.page.notes
    assert note[1].startswith("not used, other machine (NVIDIA H200)")
