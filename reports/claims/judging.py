"""How a claim is judged, in one place.

A claim has one part or several; each is a difference between two methods, paired by task and seed, with
the tables' 95 % interval (``reports/stats.py``): over the per-task differences, or, on a single task, over
its seeds. The part is supported if the interval lies above zero in the claimed direction, contradicted if
it lies below, and not distinguishable if it holds zero or if there is none. With any declared task missing
it was not run: a mean with a hole is a hole. A claim is supported if all of its parts are, contradicted if
any is, and was not run if no part is contradicted or undecided and some part was not run. Of many parts
one lies below zero by chance: of k parts each is contradicted only if its interval at 1 - 0.05 / k lies
below (Bonferroni). The numbers shown are the 95 % intervals in any case.

The comparison is the paper's: stage 2 with the penalty against stage 1. The fair one, against a second
stage without the penalty, stands beside it, since training on may gain or lose by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.harness.record import Record
from reports import stats
from reports.grid import Grid, control_of
from reports.stats import Difference

ByTask = Mapping[str, Mapping[int, float]]
"""task -> seed -> value"""


class Verdict(Enum):
    """How a claim stands to the records."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "not distinguishable"
    NOT_RUN = "not run"


DECISIVE = (Verdict.CONTRADICTED, Verdict.UNDECIDED, Verdict.SUPPORTED)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim's verdict.

    Attributes:
        verdict: The verdict.
        numbers: What it rests on, one line a part.
        n_pairs: Pairs of task and seed that the parts compare.
        missing: Cells that are declared and have no number, by (network, method): how many of how many.
    """

    verdict: Verdict
    numbers: tuple[str, ...]
    n_pairs: int = 0
    missing: Mapping[tuple[str, str], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison of a claim."""

    verdict: Verdict
    numbers: str
    n_pairs: int = 0
    methods: tuple[str, ...] = ()


def joined(parts: Sequence[Part], grid: Grid) -> Judged:
    """Judge a claim from its parts."""
    not_run = [part for part in parts if part.verdict is Verdict.NOT_RUN]
    methods = dict.fromkeys(method for part in not_run for method in part.methods)
    return Judged(
        verdict=_of_all([part.verdict for part in parts]),
        # What decides comes first; of what was not run, the missing cells say more.
        numbers=tuple(part.numbers for v in DECISIVE for part in parts if part.verdict is v),
        n_pairs=sum(part.n_pairs for part in parts),
        missing={(grid.backbone, m): found for m in methods if (found := _missing(grid, m))},
    )


def _of_all(verdicts: Sequence[Verdict]) -> Verdict:
    for verdict in (Verdict.CONTRADICTED, Verdict.UNDECIDED, Verdict.NOT_RUN):
        if verdict in verdicts:
            return verdict
    return Verdict.SUPPORTED if verdicts else Verdict.NOT_RUN


def _missing(grid: Grid, method: str) -> tuple[int, int] | None:
    cells = [found for task in grid.benchmark.tasks for found in grid.at(method, task.name)]
    missing = sum(found.value is None for found in cells)
    return (missing, len(cells)) if missing else None


def compared(
    ours: ByTask, theirs: ByTask, tasks: Sequence[str], parts: int
) -> tuple[Difference | None, Verdict]:
    """Judge that ours is above theirs, as one of so many parts of a claim."""
    found = stats.paired_difference(ours, theirs, tasks)
    if found is None:
        return None, Verdict.NOT_RUN
    if found.excludes_zero and found.mean > 0:
        return found, Verdict.SUPPORTED
    strict = 1 - (1 - stats.CONFIDENCE) / parts
    surely = stats.paired_difference(ours, theirs, tasks, strict)
    is_below = surely is not None and surely.excludes_zero and found.mean < 0
    return found, Verdict.CONTRADICTED if is_below else Verdict.UNDECIDED


def shown(found: Difference, digits: int = 2) -> str:
    """A difference with its interval."""
    text = f"{found.mean:+.{digits}f}"
    if found.low is None or found.high is None:
        return f"{text} (no interval)"
    return f"{text} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def accuracy(
    pairs: Sequence[Sequence[str]],
    tasks: Mapping[str, Sequence[str]],
    values: Callable[[str], ByTask],
) -> list[Part]:
    """Judge that the first of each pair is more accurate, on each of these sets of tasks."""
    parts = []
    for method, rival in pairs:
        for name, members in tasks.items():
            found, verdict = compared(
                values(method), values(rival), members, len(pairs) * len(tasks)
            )
            numbers = f"{method} − {rival}{name and f' on {name}'}: {_or_hole(found)}"
            control = control_of(method)
            if found and control and rival == method.partition("+")[0] and name == "":
                fair = stats.paired_difference(values(method), values(control), members)
                numbers += f"; over the control {_or_hole(fair)}"
            n = found.n_pairs if found else 0
            methods = (method, rival)
            parts.append(Part(verdict=verdict, numbers=numbers, n_pairs=n, methods=methods))
    return parts


def gains(
    quads: Sequence[Sequence[str]],
    tasks: Mapping[str, Sequence[str]],
    values: Callable[[str], ByTask],
) -> list[Part]:
    """Judge that the first gains more over the second than the third over the fourth."""
    parts = []
    for one, base, other, its_base in quads:
        first, second = _less(values(one), values(base)), _less(values(other), values(its_base))
        for name, members in tasks.items():
            found, verdict = compared(first, second, members, len(quads) * len(tasks))
            numbers = f"gain of {one} − gain of {other}{name and f' on {name}'}: {_or_hole(found)}"
            n = found.n_pairs if found else 0
            methods = (one, base, other, its_base)
            parts.append(Part(verdict=verdict, numbers=numbers, n_pairs=n, methods=methods))
    return parts


def redundancy(grid: Grid, pairs: Sequence[Sequence[str]]) -> list[Part]:
    """Judge that the layers of the first of each pair are less redundant."""
    tasks = [task.name for task in grid.benchmark.tasks]
    parts = []
    for method, rival in pairs:
        ours, theirs = redundancies(grid, method), redundancies(grid, rival)
        found, verdict = compared(theirs, ours, tasks, len(pairs))
        numbers = f"{method}: {_mean(ours, tasks)}, {rival}: {_mean(theirs, tasks)}"
        if found:
            numbers += f"; lower by {shown(found, 3).removeprefix('+')}"
        n = found.n_pairs if found else 0
        parts.append(Part(verdict=verdict, numbers=numbers, n_pairs=n, methods=(method, rival)))
    return parts


def floor(grid: Grid, methods: Sequence[str], least: float) -> list[Part]:
    """Judge that the redundancy of each method is above a floor."""
    tasks = [task.name for task in grid.benchmark.tasks]
    parts = []
    for method in methods:
        ours = redundancies(grid, method)
        at_floor = {task: dict.fromkeys(by_seed, least) for task, by_seed in ours.items()}
        found, verdict = compared(ours, at_floor, tasks, len(methods))
        numbers = f"{method}: {_mean(ours, tasks)}"
        if found and found.low is not None and found.high is not None:
            numbers += f" [{found.low + least:.3f}, {found.high + least:.3f}]"
        n = found.n_pairs if found else 0
        parts.append(Part(verdict=verdict, numbers=numbers, n_pairs=n, methods=(method,)))
    return parts


def parameters(grid: Grid, pairs: Iterable[Sequence[str]]) -> list[Part]:
    """Judge that both of each pair train, and hold, equally many parameters: exact, on every task."""
    parts = []
    for method, rival in pairs:
        ours, theirs = _counts(grid.records(method)), _counts(grid.records(rival))
        tasks = ours.keys() & theirs.keys()
        differing = sorted(task for task in tasks if ours[task] != theirs[task])
        verdict, text = Verdict.SUPPORTED, f"equal on all {len(tasks)} tasks"
        if differing:
            verdict, text = Verdict.CONTRADICTED, f"differ on {', '.join(differing)}"
        elif len(tasks) < len(grid.benchmark.tasks):
            verdict = Verdict.NOT_RUN
            text = f"equal on {len(tasks)} of {len(grid.benchmark.tasks)} tasks"
        numbers = f"{method} and {rival}: {text}"
        parts.append(
            Part(verdict=verdict, numbers=numbers, n_pairs=len(tasks), methods=(method, rival))
        )
    return parts


def redundancies(grid: Grid, method: str) -> ByTask:
    """Redundancy at the end of training."""
    by_task: dict[str, dict[int, float]] = {}
    for record in grid.records(method):
        if record["redundancy"]:
            cell = record["cell"]
            value = record["redundancy"]["end"]["mean"]
            by_task.setdefault(cell["task"], {})[cell["seed"]] = value
    return by_task


def at_first_epoch(grid: Grid, method: str) -> ByTask:
    """Accuracy in the tables' unit at the first epoch of stage 2 that was evaluated on the test split."""
    metric = grid.benchmark.metrics[0]
    by_task: dict[str, dict[int, float]] = {}
    for record in grid.records(method):
        curve = record["curves"].get("stage2", {}).get(f"test_{metric.name}", [])
        first = next((value for value in curve if value is not None), None)
        if first is not None:
            cell = record["cell"]
            by_task.setdefault(cell["task"], {})[cell["seed"]] = metric.factor * first
    return by_task


def _counts(records: Iterable[Record]) -> dict[str, set[tuple[int, int]]]:
    by_task: dict[str, set[tuple[int, int]]] = {}
    for record in records:
        cost = record["cost"]
        count = (cost["trainable_params"], cost.get("total_params", 0))
        by_task.setdefault(record["cell"]["task"], set()).add(count)
    return by_task


def _less(ours: ByTask, theirs: ByTask) -> ByTask:
    return {
        task: {s: by_seed[s] - theirs[task][s] for s in by_seed if s in theirs.get(task, {})}
        for task, by_seed in ours.items()
    }


def _mean(values: ByTask, tasks: Sequence[str]) -> str:
    found = stats.mean(stats.mean(values.get(task, {}).values()) for task in tasks)
    return "a hole" if found is None else f"{found:.3f}"


def _or_hole(found: Difference | None) -> str:
    return "a hole" if found is None else shown(found)
