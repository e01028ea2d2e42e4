"""``run --cover``: the fewest cells that touch everything; ``show`` of several cells."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.harness.cli import main
from benchmarks.harness.registry import BENCHMARKS, cover, select

ROOT = Path(__file__).resolve().parents[2]


def test_each_backbone_has_each_base_and_each_suffix_once_and_all_on_one_task():
    grid = select(["*"], "smoke")
    chosen = cover(grid)
    assert len(chosen) == len(set(chosen)) <= 90
    assert set(chosen) <= set(grid)
    for part in ("base", "suffix"):
        assert {_touched(cell)[part] for cell in chosen} == {_touched(cell)[part] for cell in grid}
    for name in BENCHMARKS:
        assert len({cell.task for cell in chosen if cell.benchmark == name}) == 1
    # Stage 1 of each second stage is among them: nothing is trained that is not counted.
    assert {cell.base for cell in chosen} <= set(chosen)


def _touched(cell):
    base, _, suffix = cell.method.partition("+")
    where = (cell.benchmark, cell.backbone)
    return {"base": (*where, base), "suffix": (*where, suffix)}


def test_a_task_to_cover_is_one_that_is_declared():
    for benchmark in BENCHMARKS.values():
        if benchmark.cover_task is not None:
            assert benchmark.task(benchmark.cover_task)


def test_it_covers_what_is_chosen(capsys, tmp_path):
    places = [f"--{name}={tmp_path}" for name in ("results", "work", "data")]
    assert main(["run", "vtab1k/*/[de]*/lora-r8*", "--cover", "--device=cpu", *places]) == 2
    captured = capsys.readouterr()
    assert "13 cells chosen at scale smoke" in captured.out
    assert "python -m data_prep prepare vtab1k/dtd" in captured.err


def test_several_cells_are_shown_in_a_table(capsys):
    results = f"--results={ROOT / 'results'}"
    assert main(["show", "vtab1k/vit_micro/svhn/lora-r8*/0", "--scale=micro", results]) == 0
    lines = capsys.readouterr().out.splitlines()
    name = "vtab1k/vit_micro/svhn/lora-r8+linear/0"
    record = json.loads((ROOT / "results" / "micro" / f"{name}.json").read_text())
    (row,) = [line.split()[1:] for line in lines if line.startswith(f"{name} ")]
    both, seconds = record["redundancy"], record["cost"]["train_seconds"]
    assert row == [
        f"{100 * record['metrics']['top1_accuracy']['last_epoch']:.1f}",
        *(f"{both[when]['mean']:.3f}" for when in ("start", "end")),
        f"{1000 * seconds / (10 * 800 / 32):.0f}",
    ]
    assert max(map(len, lines)) <= 100


def test_a_table_says_what_is_missing(capsys, tmp_path):
    several = ["show", "vtab1k/vit_micro/svhn/lora-r8*/0", "--scale=micro", f"--results={tmp_path}"]
    assert main(several) == 3
    assert capsys.readouterr().out.count("missing") == 7
