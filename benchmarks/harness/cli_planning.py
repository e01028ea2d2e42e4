"""What is checked and printed before a run: refused settings, missing data, the estimated time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.harness import beside
from benchmarks.harness.cell import Cell
from benchmarks.harness.devices import at_hand, default_device, kind_of
from benchmarks.harness.errors import DONE, INCOMPLETE, UsageError
from benchmarks.harness.execute import (
    Settings,
    expected_seconds,
    stage1_runs,
)
from benchmarks.harness.forecast import STEPS, Expected, Forecast, by_table, estimate
from benchmarks.harness.kinds import nearest
from benchmarks.harness.registry import declared
from benchmarks.harness.store import State
from data_prep.progress import Bar


def only_at_hand(chosen: Sequence[Cell], settings: Settings) -> list[Cell]:
    """Return the cells whose device this machine has; print how many are left out."""
    cells, absent = at_hand(chosen, settings)
    for device, count in absent.items():
        text = f"{count} of {len(chosen)} cells need the device {device}, which is not available"
        if settings.device != "auto":
            text += f" with --device {settings.device}"
        if not cells:
            raise UsageError(f"nothing to run: {text}")
        print(f"left out: {text}")
    return cells


def check_overrides(cells: Sequence[Cell], settings: Settings) -> None:
    """Refuse settings that no chosen cell has, and weights of one backbone for several."""
    known: set[str] = set()
    for cell in {cell.method: cell for cell in cells}.values():
        benchmark, scale = declared(cell, settings.scale)
        known |= set(benchmark.configure(benchmark, cell, scale))
    for name in settings.overrides:
        if name not in known:
            raise nearest(name, known)
    backbones = sorted({cell.backbone for cell in cells})
    weights = settings.overrides.get("backbone.weights", "random")
    if weights != "random" and len(backbones) > 1:
        raise UsageError(
            f"--weights are for one backbone, but the selector has {', '.join(backbones)}"
        )


DATA_OR_WEIGHTS = ("data.variant", "backbone.weights")


def refuse_replacing(todo: Sequence[Cell], settings: Settings, rerun: str) -> None:
    """Refuse to replace good records of other data or weights, unless ``rerun`` is "all"."""
    if rerun == "all":
        return
    for cell in todo:
        if settings.state(cell) is not State.STALE:
            continue
        record = settings.store.load(cell)
        assert record is not None
        wanted = settings.config(cell)
        for name in DATA_OR_WEIGHTS:
            section, key = name.split(".")
            before = record["config"].get(section, {}).get(key)
            after = wanted.get(section, {}).get(key)
            if before != after:
                raise UsageError(
                    f"{settings.store.path(cell)} is a record with {name} {before}, this run has {after}: "
                    "use another folder (--results DIR), or replace it (--rerun all)"
                )


def foretell(
    todo: Sequence[Cell],
    missing: Mapping[str, Sequence[Cell]],
    settings: Settings,
    jobs: int,
    kind: str | None = None,
) -> int:
    """Print what would run, what is missing, and the estimated time.

    Args:
        todo: The cells that would run.
        missing: What is missing -> the cells that need it.
        settings: How they would run.
        jobs: Processes.
        kind: Name of the GPU or processor for the estimate; None: this machine's.
    """
    for cell in todo:
        print(f"would run {cell} ({settings.state(cell).value})")
    for text, cells in missing.items():
        print(f"missing for {len(cells)} of them: {text}")
    first = stage1_runs(todo, settings)
    if first:
        print(f"before them, stage 1 runs without a stored checkpoint: {len(first)}")
    for line in beside.told(todo, settings):
        print(line)
    for line in estimated([*first, *todo], settings, jobs, kind, tables=True):
        print(line)
    return INCOMPLETE if missing else DONE


def estimated(
    cells: Sequence[Cell],
    settings: Settings,
    jobs: int,
    kind: str | None = None,
    *,
    tables: bool = False,
) -> list[str]:
    """Estimate the time of cells; a method without measured speeds or records is timed here, under a bar.

    Args:
        cells: The cells.
        settings: How they run.
        jobs: Processes.
        kind: Name of another GPU or processor; None: this machine's.
        tables: Estimate the whole tables of their benchmarks, too.
    """
    here = kind_of(default_device(settings.device))
    told: dict[str, None] = {}
    chosen = {(cell.benchmark, cell.backbone, cell.method) for cell in cells}

    def measure(cell: Cell) -> Expected | None:
        kind_of_cell = (cell.benchmark, cell.backbone, cell.method)
        if kind_of_cell not in chosen:
            return None
        bar.set_postfix_str(f"{cell.method} on {cell.backbone}")
        found = expected_seconds(cell, settings)
        bar.update(kind_of_cell in unmeasured)
        unmeasured.discard(kind_of_cell)
        if found is None:
            return None
        seconds, pace = found
        told[f"measured on this machine ({here}): {pace}"] = None
        return Expected(seconds, STEPS)

    ask = measure if kind in (None, here) else lambda cell: None
    forecast = Forecast(settings, kind or here, otherwise=ask)
    unmeasured = {
        (cell.benchmark, cell.backbone, cell.method)
        for cell in cells
        if ask is measure and forecast.known(cell) is None
    }
    with Bar(total=len(unmeasured), unit="method", desc="measuring", leave=False) as bar:
        last = [estimate(cells, forecast, jobs)]
        if tables:
            names = list(dict.fromkeys(cell.benchmark for cell in cells))
            last += [by_table(names, forecast, jobs) or ""]
    by_speeds = [found for cell in cells if (found := forecast.known(cell)) and found.told]
    lines = list(dict.fromkeys(f"on {kind or here}: {found.told}" for found in by_speeds))
    if lines:
        where = dict.fromkeys(name for found in by_speeds for name in found.where)
        lines.append(f"measured there: {', '.join(where)}")
    return [*lines, *told, *last]


def without(todo: list[Cell], missing: Mapping[str, Sequence[Cell]], *, skip: bool) -> list[Cell]:
    """Return the cells whose data and weights exist; raise if some lack them and ``skip`` is False."""
    if not missing:
        return todo
    left_out = {cell for cells in missing.values() for cell in cells}
    left = [cell for cell in todo if cell not in left_out]
    first, more = next(iter(missing)), len(missing) - 1
    if skip and left:
        print(
            f"left out: {len(left_out)} of {len(todo)} cells, because data or weights are missing"
        )
        return left
    others = f" (and {more} more are missing: --dry-run lists them)" if more else ""
    hint = "; --skip-missing runs the other cells" if left and not skip else ""
    raise UsageError(f"{first}{others}{hint}")
