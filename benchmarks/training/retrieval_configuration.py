"""What the configurations of both retrieval benchmarks have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.methods import family_of
from benchmarks.harness.spec import Benchmark, Choice, Scale
from benchmarks.harness.swept import with_choices

PAPER = "paper, section 4.1"
OURS = "our choice"

Stage = Callable[[str, str, Mapping[str, Choice]], dict[str, Choice]]
"""Resolves a stage by its name, the method's family and the choices of its scale."""


def resolve(
    benchmark: Benchmark,
    cell: Cell,
    scale: Scale,
    common: Mapping[str, Choice],
    *,
    sections: Collection[str],
    shared: Collection[str],
    sample: str,
    stage: Stage,
) -> dict[str, Choice]:
    """Resolve a cell: every value that decides its numbers, with its source, by dotted name.

    Args:
        benchmark: The benchmark.
        cell: The cell.
        scale: Its scale, whose choices replace those in common.
        common: Choices of all scales.
        sections: Sections that are taken over as they are.
        shared: Names of the section ``training`` that are no stage's own.
        sample: What a sample of the penalty is, as a source.
        stage: Resolves a stage.
    """
    base, suffix, _ = parse_method(cell.method)
    family = family_of(base)
    choices: Mapping[str, Choice] = {**common, **scale.choices}
    resolved = {
        "task.name": Choice(cell.task, PAPER),
        "backbone.name": Choice(cell.backbone, OURS if scale.is_embedded else PAPER),
        "backbone.weights": choices[f"weights.{cell.backbone}"],
        "method.name": Choice(cell.method, PAPER),
    }
    resolved |= {key: v for key, v in choices.items() if key.partition(".")[0] in sections}
    resolved |= {key: choices[key] for key in shared}
    for key, choice in choices.items():
        if key.startswith(f"{family}."):
            resolved[f"method.{key.partition('.')[2]}"] = choice
    for name in ("stage1", "stage2") if suffix else ("stage1",):
        resolved |= stage(name, family, choices)
    if suffix == "control":
        resolved["stage2.penalty"] = Choice(None, PAPER)
    elif suffix:
        resolved["stage2.penalty"] = Choice(suffix, PAPER)
        resolved["stage2.weight"] = choices[f"weight.{suffix}"]
        resolved["stage2.sample"] = Choice("token", sample)
        resolved["stage2.options"] = Choice({}, OURS)
    return with_choices(resolved, cell, scale.name)
