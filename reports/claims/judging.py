"""How a claim is judged, in one place.

A claim has one part or several; each is a difference between two methods, paired by task and seed, with
the tables' 95 % interval (``reports/stats.py``): over the per-task differences, or, on a single task, over
its seeds. The part is supported if the interval lies above zero in the claimed direction, contradicted if
it lies below, and not distinguishable if it holds zero or if there is none. With any declared task missing
it was not run: a mean with a hole is a hole; with fewer seeds than declared it says how many pairs it rests
on. A claim is supported if all of its parts are, contradicted if any is, and was not run if no part is
contradicted or undecided and some part was not run. Of many parts one lies below zero by chance: of k parts
each is contradicted only if its interval at 1 - 0.05 / k lies below (Bonferroni). The numbers shown are the
95 % intervals in any case.

The comparison is the paper's: stage 2 with the penalty against stage 1. The fair one, against a second
stage without the penalty, stands beside it, since training on may gain or lose by itself; where it would
give another verdict, it says which. ``comparing.py`` has the kinds of comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from reports import stats
from reports.notes import LISTED
from reports.stats import Difference

if TYPE_CHECKING:
    from reports.records import Grid

ByTask = Mapping[str, Mapping[int, float]]
"""task -> seed -> value"""


BENCHMARK = "vtab1k"
"""What a claim is about unless it says otherwise."""


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
        missing: Cells that are declared and have no number, by method: how many of how many.
        is_lacking: Whether some part could not be judged, so that what is missing matters.
        command: What fills the missing cells: its options, and a selector for each method.
        is_draft: Whether it rests on records that are not final.
    """

    verdict: Verdict
    numbers: tuple[str, ...]
    n_pairs: int = 0
    missing: Mapping[str, tuple[int, int]]
    is_lacking: bool = False
    command: tuple[str, ...] = ()
    is_draft: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison of a claim; ``difference`` is positive in the claimed direction."""

    verdict: Verdict
    numbers: str
    methods: tuple[str, ...]
    difference: Difference | None = None
    n_pairs: int = 0


def joined(parts: Sequence[Part], grid: Grid) -> Judged:
    """Judge a claim from its parts."""
    methods = tuple(dict.fromkeys(method for part in parts for method in part.methods))
    missing = missing_cells(grid, methods)
    return Judged(
        verdict=_of_all([part.verdict for part in parts]),
        # What decides comes first; of what was not run, the missing cells say more.
        numbers=(
            *_tally(parts),
            *(part.numbers for v in DECISIVE for part in parts if part.verdict is v),
        ),
        n_pairs=sum(part.n_pairs for part in parts),
        missing=missing,
        is_lacking=any(part.verdict is Verdict.NOT_RUN for part in parts),
        command=filling(grid, missing),
        is_draft=any(found.caveat for method in methods for found in grid.of(method)),
    )


def _of_all(verdicts: Sequence[Verdict]) -> Verdict:
    for verdict in (Verdict.CONTRADICTED, Verdict.UNDECIDED, Verdict.NOT_RUN):
        if verdict in verdicts:
            return verdict
    return Verdict.SUPPORTED if verdicts else Verdict.NOT_RUN


def _tally(parts: Sequence[Part]) -> Iterable[str]:
    """Of more parts than are listed: how many go which way."""
    found = [part.difference for part in parts if part.difference]
    if len(found) <= LISTED:
        return
    ahead, behind = ([one for one in found if one.mean * sign > 0] for sign in (1, -1))
    surely = [sum(bool(one.excludes_zero) for one in side) for side in (ahead, behind)]
    yield (
        f"of {len(found)} parts {len(ahead)} go the claimed way, {surely[0]} of them with an interval "
        f"without zero; {len(behind)} go the other way, {surely[1]} of them so"
    )


def missing_cells(grid: Grid, methods: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The methods with declared cells that have no number: of how many how many."""
    found = {}
    for method in methods:
        cells = grid.of(method)
        if holes := sum(cell.record is None for cell in cells):
            found[method] = (holes, len(cells))
    return found


def filling(grid: Grid, methods: Iterable[str]) -> tuple[str, ...]:
    """The words of the command that fills these methods' cells; none if there are no methods."""
    selectors = [f"'{grid.benchmark.name}/{grid.backbone}/*/{method}'" for method in methods]
    settings = [f"--set {name}={value}" for name, value in grid.overrides.items()]
    return (*selectors, f"--scale {grid.scale.name}", *settings) if selectors else ()


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


def shown(found: Difference | None, digits: int = 2) -> str:
    """A difference with its interval."""
    if found is None:
        return "a hole"
    text = f"{found.mean:+.{digits}f}"
    if found.low is None or found.high is None:
        return f"{text} (no interval)"
    return f"{text} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def fewer(found: Difference | None, tasks: Sequence[str], grid: Grid) -> str:
    """How many pairs there are, if fewer than are declared."""
    declared = len(tasks) * len(grid.scale.seeds)
    if found is None or found.n_pairs >= declared:
        return ""
    return f" ({found.n_pairs} of {declared} pairs)"
