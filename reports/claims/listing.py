"""The claims as data, and what judges each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.harness.errors import unknown
from benchmarks.harness.registry import BENCHMARKS
from reports.claims import comparing, costs
from reports.claims.judging import Judged, Verdict, joined
from reports.grid import Grid, load_grid
from reports.published import FOLDER

BENCHMARK = "vtab1k"
"""What a claim is about unless it says otherwise."""

Grids = Mapping[str, Sequence[Grid]]
"""Benchmark -> its grids on the scale's networks, in order; none at a scale that it does not have."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim; ``how`` is what its kind needs to be judged (``published/claims.toml`` explains it)."""

    id: str
    place: str
    statement: str
    paper: str
    kind: str
    benchmark: str
    backbone: int
    how: Mapping[str, Any]


@cache
def load_claims() -> tuple[Claim, ...]:
    """Read ``published/claims.toml``."""
    raw = tomllib.loads((FOLDER / "claims.toml").read_text(encoding="utf-8"))
    return tuple(
        Claim(
            id=entry.pop("id"),
            place=entry.pop("place"),
            statement=entry.pop("statement"),
            paper=entry.pop("paper", ""),
            kind=entry.pop("kind"),
            benchmark=entry.pop("benchmark", BENCHMARK),
            backbone=entry.pop("backbone", 0),
            how=entry,
        )
        for entry in raw["claims"]
    )


def judge_all(
    results: Path,
    scale: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    drafts: bool | None = None,
) -> list[tuple[Claim, Judged]]:
    """Judge every claim from the records of a scale.

    Raises:
        UsageError: There is no such scale.
    """
    known = BENCHMARKS[BENCHMARK].scales
    if scale not in known:
        raise unknown("scale", scale, list(known), "python -m benchmarks ls")
    asked = {claim.benchmark for claim in load_claims()} & BENCHMARKS.keys()
    grids = {
        name: [
            load_grid(BENCHMARKS[name], declared, backbone, results, overrides, drafts=drafts)
            for backbone in declared.backbones
        ]
        for name in sorted(asked)
        if (declared := BENCHMARKS[name].scales.get(scale))
    }
    return [(claim, judge(claim, grids, results, drafts=drafts)) for claim in load_claims()]


def judge(claim: Claim, grids: Grids, results: Path, *, drafts: bool | None = None) -> Judged:
    """Judge one claim."""
    how = claim.how
    if claim.kind == "absent":
        lacking = how.get("why", f"{claim.benchmark} is not in the suite yet")
        return Judged(verdict=Verdict.NOT_RUN, numbers=(lacking,), missing={})
    if claim.kind == "cost":
        return costs.judge(results, how, drafts=drafts)
    if claim.benchmark not in grids:
        lacking = f"{claim.benchmark} is not measured at this scale"
        return Judged(verdict=Verdict.NOT_RUN, numbers=(lacking,), missing={})
    grid = grids[claim.benchmark][claim.backbone]
    values = partial(comparing.at_first_epoch, grid) if how.get("at") == "first" else grid.values
    parts = {
        "accuracy": lambda: comparing.accuracy(grid, how["pairs"], _tasks(claim, grid), values),
        "gain": lambda: comparing.gains(grid, how["quads"], _tasks(claim, grid), values),
        "growth": lambda: comparing.growth(grid, how["pairs"], how["from"], how["to"]),
        "redundancy": lambda: comparing.redundancy(grid, how["pairs"]),
        "floor": lambda: comparing.floor(grid, how["methods"], how["floor"]),
        "parameters": lambda: comparing.parameters(grid, how["pairs"]),
    }[claim.kind]()
    return joined(parts, grid)


def _tasks(claim: Claim, grid: Grid) -> dict[str, list[str]]:
    """The sets of tasks that a claim is about, by the name of each; one set of all has no name."""
    benchmark = grid.benchmark
    tasks = [t for t in benchmark.tasks if t.name in claim.how.get("tasks", [t.name])]
    over = claim.how.get("over", "all")
    if over == "tasks":
        return {task.label: [task.name] for task in tasks}
    if over == "groups":
        return {
            heading: [task.name for task in tasks if task.group == group]
            for group, heading in benchmark.groups.items()
        }
    return {"": [task.name for task in tasks]}
