"""Resolves the configuration of a two-stage cell of image classification from declared choices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.methods import family_of
from benchmarks.harness.spec import Benchmark, Choice, Scale
from benchmarks.harness.swept import with_choices
from benchmarks.training.released import released

PAPER = "paper, section 4.2"
OURS = "our choice"
SWEPT = "our choice, by a sweep on embedded val200 (benchmarks/vtab1k/README.md)"

# Which samples a penalty counts, and its own numbers; the paper leaves all of these open.
PENALTY_SAMPLE = {"linear": "token", "nonlinear": "image", "euclidean": "token", "cosine": "token"}
PENALTY_OPTIONS: dict[str, dict[str, Any]] = {"nonlinear": {"fraction": 0.5}}

SHARED = ("training.precision",)
"""Choices that hold for both stages."""

TRAINING = ("batch_size", "weight_decay", "warmup_epochs", "evaluate_every")


def resolve(
    benchmark: Benchmark,
    cell: Cell,
    scale: Scale,
    choices: Mapping[str, Choice],
    *,
    kind: str,
    folder: Path,
    sections: tuple[str, ...] = ("backbone", "data"),
    paper: str = PAPER,
) -> dict[str, Choice]:
    """Resolve a cell: every value that decides its numbers, with its source, by dotted name.

    Args:
        benchmark: The cell's benchmark.
        cell: The cell.
        scale: The cell's scale.
        choices: All choices that hold at this scale, by dotted name.
        kind: What kind of network the backbone is.
        folder: The files with the values that are released for each task; they count with real data only.
        sections: Sections that go into the configuration of every cell as they are.
        paper: Where the paper describes the benchmark.
    """
    base, suffix, target = parse_method(cell.method)
    family = family_of(base)
    resolved = {
        "task.name": Choice(cell.task, paper),
        "task.num_classes": Choice(benchmark.task(cell.task).num_classes, paper),
        "backbone.name": Choice(cell.backbone, OURS if scale.is_embedded else paper),
        "method.name": Choice(cell.method, paper),
    }
    resolved |= {key: v for key, v in choices.items() if key.partition(".")[0] in sections}
    resolved |= {key: choices[key] for key in SHARED}
    resolved["backbone.weights"] = choices[f"weights.{cell.backbone}"]
    resolved["data.normalisation"] = choices.get(
        f"normalisation.{cell.backbone}", choices["data.normalisation"]
    )
    for key, choice in choices.items():
        if key.startswith(f"{family}."):
            resolved[f"method.{key.partition('.')[2]}"] = choice
    for stage in ("stage1", "stage2") if suffix else ("stage1",):
        resolved |= _stage(stage, family, choices)
    if family == "noah":
        resolved |= {key: choice for key, choice in choices.items() if key.startswith("search.")}
    if suffix:
        resolved |= _penalty(suffix, target, choices, paper)
    if not scale.is_embedded:
        tasks = tuple(task.name for task in benchmark.tasks)
        values = released(folder, family, kind, cell.task, tasks)
        resolved |= {
            name: choice
            for name, choice in values.items()
            if suffix or not name.startswith("stage2.")
        }
    return with_choices(resolved, cell, scale.name)


def _stage(stage: str, family: str, choices: Mapping[str, Choice]) -> dict[str, Choice]:
    section = {f"{stage}.{name}": choices[f"training.{name}"] for name in TRAINING}
    section[f"{stage}.epochs"] = choices.get(f"epochs.{family}", choices["training.epochs"])
    section[f"{stage}.learning_rate"] = choices.get(
        f"learning_rate.{family}", choices["learning_rate.any"]
    )
    return section


def _penalty(
    suffix: str, target: str, choices: Mapping[str, Choice], paper: str
) -> dict[str, Choice]:
    if suffix == "control":
        return {"stage2.penalty": Choice(None, paper)}
    space = {"space": target} if target != "feature" else {}
    return {
        "stage2.penalty": Choice(suffix, paper),
        "stage2.weight": choices[f"weight.{suffix}"],
        "stage2.sample": Choice(PENALTY_SAMPLE[suffix], OURS),
        "stage2.options": Choice(PENALTY_OPTIONS.get(suffix, {}) | space, OURS),
    }
