"""The statistics of the tables, in one place, so that each number has one definition.

Holes. A missing number is ``None`` and stays one: the mean of anything with a hole is a hole.

Spread. A cell is the mean over its seeds with the sample standard deviation (n - 1); one seed has
none.

Paired difference. Two methods are compared on the (task, seed) pairs that both have. The
difference of a task is the mean over its common seeds; the difference of a set of tasks is the
mean over tasks, every task with the same weight. Its 95 % interval is Student's t over the per-
task differences (n tasks, n - 1 degrees of freedom): it covers variation between tasks, and what
is left of the variation between seeds after averaging. For a single task the interval is Student's
t over the seeds' paired differences. With n = 1 there is no interval, and none is made up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
INTERVAL_METHOD = (
    "95 % interval in brackets: Student's t over the per-task differences, each the mean of its "
    "(task, seed) pairs"
)

Values = Mapping[int, float]
"""seed -> value"""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean and sample standard deviation of n values; ``std`` is None for n = 1."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference, its interval (None with fewer than two units), and its sizes."""

    mean: float
    low: float | None
    high: float | None
    n_tasks: int
    n_pairs: int

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the interval leaves zero out; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


def mean(values: Iterable[float | None]) -> float | None:
    """Arithmetic mean; a hole, or nothing at all, gives a hole."""
    present: list[float] = []
    for value in values:
        if value is None:
            return None
        present.append(value)
    return math.fsum(present) / len(present) if present else None


def sample_std(values: Sequence[float]) -> float | None:
    """Standard deviation with n - 1 in the denominator; None for fewer than two values."""
    if len(values) < 2:
        return None
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation over seeds; no values give a hole."""
    centre = mean(values)
    return None if centre is None else Spread(mean=centre, std=sample_std(values), n=len(values))


def group_means(
    by_task: Mapping[str, float | None], groups: Mapping[str, Sequence[str]]
) -> dict[str, float | None]:
    """The mean of each group's tasks; a task that is absent is a hole."""
    return {group: mean(by_task.get(task) for task in tasks) for group, tasks in groups.items()}


def mean_of_groups(
    by_task: Mapping[str, float | None], groups: Mapping[str, Sequence[str]]
) -> float | None:
    """The paper's "Average": the mean of the group means, every group with the same weight."""
    return mean(group_means(by_task, groups).values())


def mean_of_tasks(by_task: Mapping[str, float | None], tasks: Iterable[str]) -> float | None:
    """The paper's "All Set Average": the mean of all tasks, every task with the same weight."""
    return mean(by_task.get(task) for task in tasks)


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Student's t interval of the mean; None for fewer than two values."""
    std = sample_std(values)
    if std is None:
        return None
    centre = math.fsum(values) / len(values)
    half = _quantile(len(values) - 1, confidence) * std / math.sqrt(len(values))
    return centre - half, centre + half


QUANTILES = {
    1: 12.706204736174694,
    2: 4.302652729749462,
    4: 2.7764451051977934,
    18: 2.1009220402410382,
}
"""Student's t at 95 %, as scipy has it: of 2 and 3 seeds, 5 sets and 19 tasks."""


def _quantile(degrees: int, confidence: float) -> float:
    """Where Student's t leaves half of what the interval leaves out above."""
    if confidence == CONFIDENCE and degrees in QUANTILES:
        return QUANTILES[degrees]
    # Late: it takes as long to import as a table to compute.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))


def paired_difference(
    method: Mapping[str, Values],
    baseline: Mapping[str, Values],
    tasks: Sequence[str],
    confidence: float = CONFIDENCE,
) -> Difference | None:
    """``method`` minus ``baseline`` over ``tasks``, paired by task and seed.

    A task without a common seed makes the whole difference a hole.

    Args:
        method: task -> seed -> value.
        baseline: task -> seed -> value.
        tasks: every task that the mean is declared over.
        confidence: that of the interval.
    """
    per_task: list[list[float]] = []
    for task in tasks:
        ours, theirs = method.get(task, {}), baseline.get(task, {})
        seeds = sorted(set(ours) & set(theirs))
        if not seeds:
            return None
        per_task.append([ours[seed] - theirs[seed] for seed in seeds])
    if not per_task:
        return None
    per_task_means = [math.fsum(values) / len(values) for values in per_task]
    units = per_task[0] if len(per_task) == 1 else per_task_means
    bounds = interval(units, confidence)
    low, high = bounds if bounds is not None else (None, None)
    return Difference(
        mean=math.fsum(units) / len(units),
        low=low,
        high=high,
        n_tasks=len(per_task),
        n_pairs=sum(map(len, per_task)),
    )


def over_seeds(
    values: Mapping[str, Values],
    average: Callable[[Mapping[str, float | None]], float | None],
) -> Spread | None:
    """An average of the tasks' means over seeds, with the spread of the average between seeds.

    The spread needs the same seeds in every task; without them there is none, and n is the fewest.

    Args:
        values: task -> seed -> value.
        average: Of one number a task.
    """
    seed_sets = {frozenset(by_seed) for by_seed in values.values()}
    if frozenset() in seed_sets or not seed_sets:
        return None
    if len(seed_sets) == 1:
        seeds = sorted(seed_sets.pop())
        per_seed = [average({task: values[task][seed] for task in values}) for seed in seeds]
        return spread([value for value in per_seed if value is not None])
    centre = average({task: mean(by_seed.values()) for task, by_seed in values.items()})
    return None if centre is None else Spread(mean=centre, std=None, n=min(map(len, seed_sets)))
