"""The kinds of comparison that claims are made of: each returns the parts of a claim, judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.harness.record import Record
from reports import stats
from reports.claims.judging import ByTask, Part, Verdict, compared, fewer, shown
from reports.records import Grid
from reports.rivals import base_of, control_of
from reports.stats import Difference

Pairs = Sequence[Sequence[str]]
TaskSets = Mapping[str, Sequence[str]]
"""The tasks of a part by the name of the set; one set of all tasks has no name."""
Values = Callable[[str], ByTask]


def accuracy(grid: Grid, pairs: Pairs, tasks: TaskSets, values: Values) -> list[Part]:
    """Judge that the first of each pair is more accurate, on each of these sets of tasks."""
    parts, k = [], len(pairs) * len(tasks)
    for method, rival in pairs:
        for name, members in tasks.items():
            found, verdict = compared(values(method), values(rival), members, k)
            numbers = f"{method} − {rival}{_on(name)}: {shown(found)}{fewer(found, members, grid)}"
            control = control_of(method)
            if found and control and rival == base_of(method):
                fair, other = compared(values(method), values(control), members, k)
                numbers += f"; over the control {shown(fair)}"
                if fair and other is not verdict:
                    numbers += f": {other.value}"
            parts.append(_part(verdict, numbers, (method, rival), found))
    return parts


def gains(grid: Grid, quads: Pairs, tasks: TaskSets, values: Values) -> list[Part]:
    """Judge that the first gains more over the second than the third over the fourth."""
    parts = []
    for one, base, other, its_base in quads:
        first, second = _less(values(one), values(base)), _less(values(other), values(its_base))
        for name, members in tasks.items():
            found, verdict = compared(first, second, members, len(quads) * len(tasks))
            numbers = f"gain of {one} − gain of {other}{_on(name)}: {shown(found)}"
            numbers += fewer(found, members, grid)
            parts.append(_part(verdict, numbers, (one, base, other, its_base), found))
    return parts


def growth(grid: Grid, pairs: Pairs, first: str, last: str) -> list[Part]:
    """Judge that the first of each pair gains more over the second in one group of tasks than in another.

    Tasks of the two groups belong together by their label.
    """
    parts = []
    labels = [task.label for task in grid.benchmark.tasks if task.group == first]
    for method, rival in pairs:
        gain = _less(grid.values(method), grid.values(rival))
        before, after = (
            {task.label: gain[task.name] for task in grid.benchmark.tasks if task.group == group}
            for group in (first, last)
        )
        found, verdict = compared(after, before, labels, len(pairs))
        headings = [grid.benchmark.groups[group] for group in (last, first)]
        numbers = f"gain of {method} at {headings[0]} − at {headings[1]}: {shown(found)}"
        numbers += fewer(found, labels, grid)
        parts.append(_part(verdict, numbers, (method, rival), found))
    return parts


def redundancy(grid: Grid, pairs: Pairs) -> list[Part]:
    """Judge that the layers of the first of each pair are less redundant."""
    tasks = [task.name for task in grid.benchmark.tasks]
    parts = []
    for method, rival in pairs:
        ours, theirs = redundancies(grid, method), redundancies(grid, rival)
        found, verdict = compared(theirs, ours, tasks, len(pairs))
        numbers = f"{method}: {_mean(ours, tasks)}, {rival}: {_mean(theirs, tasks)}"
        if found:
            # Written as a change, with the sign that it has.
            change = stats.paired_difference(ours, theirs, tasks)
            numbers += f"; change {shown(change, 3)}{fewer(found, tasks, grid)}"
        parts.append(_part(verdict, numbers, (method, rival), found))
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
        parts.append(_part(verdict, numbers + fewer(found, tasks, grid), (method,), found))
    return parts


def parameters(grid: Grid, pairs: Pairs) -> list[Part]:
    """Judge that both of each pair train, and hold, equally many parameters: exact, on every task."""
    parts = []
    for method, rival in pairs:
        ours, theirs = _counts(grid.records(method)), _counts(grid.records(rival))
        tasks = ours.keys() & theirs.keys()
        differing = sorted(task for task in tasks if ours[task] != theirs[task])
        declared = len(grid.benchmark.tasks)
        if differing:
            verdict, trained = (
                Verdict.CONTRADICTED,
                f"{_trained(ours)} and {_trained(theirs)} trained",
            )
            text = f"{trained}; differ on {', '.join(differing)}"
        elif len(tasks) < declared:
            verdict, text = Verdict.NOT_RUN, f"equal on {len(tasks)} of {declared} tasks"
        else:
            verdict = Verdict.SUPPORTED
            text = f"equal on all {declared} tasks, {_trained(ours)} trained"
        numbers = f"{method} and {rival}: {text}"
        parts.append(
            Part(verdict=verdict, numbers=numbers, n_pairs=len(tasks), methods=(method, rival))
        )
    return parts


def redundancies(grid: Grid, method: str) -> ByTask:
    """Redundancy at the end of training."""
    found = grid.values(method, "redundancy_end")
    return {task: by_seed for task, by_seed in found.items() if by_seed}


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


def _part(
    verdict: Verdict, numbers: str, methods: tuple[str, ...], found: Difference | None
) -> Part:
    return Part(
        verdict=verdict,
        numbers=numbers,
        methods=methods,
        difference=found,
        n_pairs=found.n_pairs if found else 0,
    )


def _on(name: str) -> str:
    return f" on {name}" if name else ""


def _counts(records: Iterable[Record]) -> dict[str, set[tuple[int, int]]]:
    by_task: dict[str, set[tuple[int, int]]] = {}
    for record in records:
        cost = record["cost"]
        count = (cost["trainable_params"], cost.get("total_params", 0))
        by_task.setdefault(record["cell"]["task"], set()).add(count)
    return by_task


def _trained(counts: Mapping[str, set[tuple[int, int]]]) -> str:
    """Trainable parameters; some methods have a size for each task."""
    numbers = sorted({trained for found in counts.values() for trained, _ in found})
    return " to ".join(f"{number:,}" for number in dict.fromkeys((numbers[0], numbers[-1])))


def _less(ours: ByTask, theirs: ByTask) -> ByTask:
    return {
        task: {s: by_seed[s] - theirs[task][s] for s in by_seed if s in theirs.get(task, {})}
        for task, by_seed in ours.items()
    }


def _mean(values: ByTask, tasks: Sequence[str]) -> str:
    found = stats.mean(stats.mean(values.get(task, {}).values()) for task in tasks)
    return "a hole" if found is None else f"{found:.3f}"
