"""The claims as data, and what judges each."""

from __future__ import annotations

import tomllib
from functools import cache, partial

from benchmarks.harness.errors import unknown
from benchmarks.harness.registry import BENCHMARKS
from reports.claims import comparing, costs
from reports.claims.judging import BENCHMARK, Claim, Judged, Verdict, joined
from reports.published import FOLDER
from reports.records import Grid, Records


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


def judge_all(records: Records) -> list[tuple[Claim, Judged]]:
    """Judge every claim from the records of a scale.

    Raises:
        UsageError: Claims are about a benchmark that does not have the scale.
    """
    known = BENCHMARKS[BENCHMARK].scales
    if records.scale not in known:
        raise unknown("scale", records.scale, list(known), "python -m benchmarks ls")
    return [(claim, judge(claim, records)) for claim in load_claims()]


def judge(claim: Claim, records: Records) -> Judged:
    """Judge one claim."""
    how = claim.how
    if claim.kind == "absent":
        lacking = how.get("why", f"{claim.benchmark} is not in the suite yet")
        return Judged(verdict=Verdict.NOT_RUN, numbers=(lacking,), missing={})
    if claim.kind == "cost" and "cost" in BENCHMARKS:
        return costs.judge(records, how)
    benchmark = BENCHMARKS.get("cost" if claim.kind == "cost" else claim.benchmark)
    scale = benchmark.scales.get(records.scale) if benchmark else None
    if scale is None or claim.backbone >= len(scale.backbones):
        lacking = f"{claim.benchmark} is not measured at this scale"
        return Judged(verdict=Verdict.NOT_RUN, numbers=(lacking,), missing={})
    grid = records.grid(claim.benchmark, claim.backbone)
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
