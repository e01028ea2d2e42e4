"""Cells that train together in one forward pass: their groups, and the result of each cell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from math import ceil

from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import TimeLimit
from benchmarks.harness.execute import (
    Attempt,
    Event,
    Report,
    Seen,
    Settings,
    context_of,
    device_of,
    ended_elsewhere,
    has_stage1,
    is_end_of_job,
    prepare_process,
    run_cell,
    run_group,
    stage1_runs,
    without_end,
)
from benchmarks.harness.lock import held
from benchmarks.harness.runner import runner_of
from benchmarks.harness.time_limit import time_limit


def forward_key(cell: Cell, settings: Settings) -> str | None:
    """Return a key that is equal for all cells that can share a forward pass.

    None: the cell trains alone, because of its method or benchmark, or because ``--batch-cells`` is off.
    """
    if settings.side_by_side < 2:
        return None
    return runner_of(cell).forward_key(settings.config(cell))


def groups_of(cells: Sequence[Cell], settings: Settings) -> list[list[Cell]]:
    """Group the cells by the process that runs them.

    Cells of one base, task and seed share a group, for their stage 1. All cells of a task that can share a
    forward pass share a group, too.
    """
    groups: defaultdict[Hashable, list[Cell]] = defaultdict(list)
    for cell in cells:
        is_alone = forward_key(cell, settings) is None
        groups[cell.base if is_alone else cell.parts[:3]].append(cell)
    return list(groups.values())


def run(
    cells: Sequence[Cell], settings: Settings, report: Report, seen: Seen | None = None
) -> list[Cell]:
    """Run one of the groups of cells, stage 1 before what starts from it; as ``run_group`` does."""
    if forward_key(cells[0], settings) is None:
        return run_group(cells, settings, report, seen)
    prepare_process(settings)
    seen = settings.store.stamps(cells) if seen is None else seen
    kept = stage1_runs(cells, settings)
    bases = [cell for cell in cells if cell == cell.base]
    elsewhere: list[Cell] = []
    for joined in _joined([*kept, *bases], settings):
        elsewhere += _run_ours(joined, settings, report, seen, frozenset(kept))
    seconds = [cell for cell in cells if cell != cell.base]
    waiting = [c for c in seconds if c.base in elsewhere and not has_stage1(c, settings)]
    for joined in _joined([cell for cell in seconds if cell not in waiting], settings):
        elsewhere += _run_ours(joined, settings, report, seen, frozenset())
    return [cell for cell in elsewhere if cell not in kept] + waiting


def told(cells: Sequence[Cell], settings: Settings) -> list[str]:
    """Return lines that say how many cells share a forward pass, and which methods train alone."""
    if settings.side_by_side < 2:
        return []
    keys = [forward_key(cell, settings) for cell in cells]
    alone = Counter(cell.method for cell, key in zip(cells, keys, strict=True) if key is None)
    count = len(cells) - alone.total()
    lines = [
        f"in one forward pass, up to {settings.side_by_side} at once: {count} of {len(cells)} cells"
    ]
    if alone:
        some = ", ".join(list(alone)[:6]) + (
            f" and {len(alone) - 6} more" if len(alone) > 6 else ""
        )
        lines.append(
            f"alone, since only plain LoRA of image classification shares a forward pass: {some}"
        )
    return lines


def _joined(cells: Sequence[Cell], settings: Settings) -> list[list[Cell]]:
    """Return cells of one key together, in parts as equal as can be."""
    alike: defaultdict[str | None, list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[forward_key(cell, settings)].append(cell)
    parts = []
    for group in alike.values():
        count = ceil(len(group) / settings.side_by_side)
        bounds = [len(group) * index // count for index in range(count + 1)]
        parts += [group[a:b] for a, b in pairwise(bounds)]
    return parts


def _run_ours(
    cells: Sequence[Cell], settings: Settings, report: Report, seen: Seen, kept: frozenset[Cell]
) -> list[Cell]:
    """Run those of the cells together that no other run is at work on, or has come to an end of."""
    with ExitStack() as locks:
        ours = [c for c in cells if locks.enter_context(held(settings.lock_of(c)))]
        elsewhere = [cell for cell in cells if cell not in ours]
        left = [
            cell
            for cell in ours
            if cell in kept or ended_elsewhere(cell, settings, report, seen) is None
        ]
        if left:
            _run_joined(left, settings, report, kept)
    return elsewhere


def _run_joined(
    cells: Sequence[Cell], settings: Settings, report: Report, kept: frozenset[Cell]
) -> None:
    """Run cells in one forward pass. If all of them fail together, each continues alone.

    Args:
        cells: The cells.
        settings: How to run.
        report: Told of each epoch, and of the ends.
        kept: Cells that were not selected: they run for their checkpoints.
    """
    of = {cell: without_end(report) if cell in kept else report for cell in cells}
    left = {cell: Attempt(cell, settings, of[cell], keep_fresh=cell in kept) for cell in cells}
    seconds, why = settings.timeout_seconds, ""
    if len(cells) > 1:
        try:
            with time_limit(None if seconds is None else seconds * len(cells)):
                context = context_of(settings, device_of(cells[0], settings.device), report)
                members = [(cell, settings.config(cell)) for cell in cells]
                for cell, found in runner_of(cells[0]).run_side_by_side(members, context):
                    left[cell].end(found)
                    del left[cell]
        except (KeyboardInterrupt, SystemExit, TimeLimit) as stop:
            for attempt in left.values():
                attempt.end(stop)
            if not isinstance(stop, TimeLimit):
                raise
            return
        except Exception as problem:  # each cell gets its own failure below, if any
            if is_end_of_job(problem):
                raise
            why = f"{type(problem).__name__}: {problem}".splitlines()[0]
    if why:
        report(Event(cells[0], note=f"each alone instead of {len(cells)} side by side: {why}"))
    for cell in left:
        run_cell(cell, settings, of[cell], keep_fresh=cell in kept)
