"""``python -m benchmarks sweep``: choose a setting on the validation images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.harness.cell import Cell
from benchmarks.harness.cli_planning import check_overrides, estimated
from benchmarks.harness.devices import require_device
from benchmarks.harness.errors import DONE, INCOMPLETE, SOME_FAILED, UsageError
from benchmarks.harness.execute import Settings, lacking, stage1_runs
from benchmarks.harness.progress import Progress, default_jobs
from benchmarks.harness.registry import select
from benchmarks.harness.store import require_room
from benchmarks.harness.sweep import FINISHED, Sweep, Values, plan, words
from benchmarks.harness.sweep_choice import Comparison, compare, write
from benchmarks.harness.swept import ALL, folder_of
from benchmarks.harness.workers import run_many

EPILOG = """candidates are trained without the validation images and compared on them:
  python -m benchmarks sweep 'vtab1k/vit_micro/*/lora-r8+linear' --try stage2.weight=0.03,0.1,0.3 --seeds 0
exit codes: 0 done, 1 some trials failed (diverged ones do not count), 2 wrong usage, 3 incomplete"""


def sweep(options: argparse.Namespace, settings: Settings) -> int:
    """Run the missing trials, print the comparison of the candidates, and write the choice."""
    check_overrides(select(options.selectors, options.scale), settings)
    require_device(settings.device)
    planned = plan(options.selectors, _tries(options.tries), settings, options.seeds)
    todo = [(candidate, planned.todo(candidate)) for candidate in planned.candidates]
    left = sum(len(cells) for _, cells in todo)
    count = len(planned.candidates) * len(planned.cells)
    print(
        f"{len(planned.candidates)} candidates on {len(planned.cells)} cells at scale {options.scale}, "
        f"trained on {planned.train}, compared on {planned.split}: {count} trials, {count - left} done before"
    )
    jobs = options.jobs or default_jobs(settings.device)
    waiting = [cell for _, cells in todo for cell in cells]
    first = planned.settings_of(planned.candidates[0])
    missing = lacking(waiting, first, fetch=not options.dry_run)
    if options.dry_run:
        _foretell(planned, todo, list(missing), jobs)
        return INCOMPLETE if missing else DONE
    if missing:
        raise UsageError(next(iter(missing)))
    if left:
        require_room(settings.work, "--work")  # its records are there, too
        with Progress(left) as progress:
            for candidate, cells in todo:
                planned.forget_others(candidate, cells)
                run_many(cells, planned.settings_of(candidate), jobs, progress.tell)
    return _choose(planned, options.by, options.out or folder_of(planned.cells[0].benchmark))


def _choose(planned: Sweep, by: str, folder: Path) -> int:
    comparisons = list(compare(planned, by))
    for comparison in comparisons:
        _print(comparison, planned)
        if path := write(comparison, planned, folder):
            print(f"written: {path}")
    statuses = {status for comparison in comparisons for status in comparison.trials.status}
    if statuses - set(FINISHED) or not all(comparison.best() for comparison in comparisons):
        print(f"some trials failed: their records in {planned.settings.results} say why")
        return SOME_FAILED
    return DONE


def _print(comparison: Comparison, planned: Sweep) -> None:
    tasks = list(comparison.trials.task.unique())
    seeds = " ".join(map(str, sorted(comparison.trials.seed.unique())))
    what = f"{len(tasks)} tasks" if comparison.task == ALL else comparison.task
    print(f"\n{comparison.backbone}/{comparison.method}: {planned.split}, {what}, seeds {seeds}")
    best, best_on = comparison.best(), [comparison.best(task) for task in tasks]
    rows = []
    for index, accuracy in comparison.accuracies().items():
        failed = comparison.failed(index)
        note = "chosen" if best[:1] == [index] else ""
        if failed:
            kinds = ", ".join(dict.fromkeys(failed))
            cells = len(comparison.trials) // len(planned.candidates)
            note = f"not eligible: {len(failed)} of {cells} trials {kinds}"
        count = f"{sum(index in found for found in best_on)} of {len(tasks)}"
        shown = "-" if failed else f"{100 * accuracy:.1f}"
        rows.append([words(planned.candidates[index]), shown, count, note])
    headers = ["candidate", "accuracy, %", "best on", ""]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    if best:
        images, error = comparison.images(), 100 * comparison.standard_error(best[0])
        print(
            f"{images} validation images: the standard error of an accuracy is {error:.1f} points"
        )
    if len(best) > 1:
        print(f"{len(best)} candidates are tied: the first listed is chosen")
    if not best:
        print("nothing is chosen: no candidate finished all its trials")


def _foretell(
    planned: Sweep,
    todo: Sequence[tuple[Values, list[Cell]]],
    missing: Sequence[str],
    jobs: int,
) -> None:
    for candidate, cells in todo:
        for cell in cells:
            print(f"would run {cell} with {words(candidate)}")
    for text in missing:
        print(f"missing: {text}")
    settings = planned.settings_of(planned.candidates[0])
    cells = [cell for _, left in todo for cell in left]
    cells += stage1_runs(list(dict.fromkeys(cells)), settings)
    for line in estimated(cells, settings, jobs) if cells else ():
        print(line)


def _tries(given: Sequence[tuple[str, list[Any]]]) -> dict[str, list[Any]]:
    names = [name for name, _ in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--try {twice[0]} is given twice: list its values in one")
    return dict(given)


def _try(text: str) -> tuple[str, list[Any]]:
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=V1,V2")
    try:
        return name, json.loads(f"[{values}]")
    except json.JSONDecodeError:
        return name, [_value(part) for part in values.split(",")]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds, such as 0,1,2")
    return sorted({int(part) for part in parts})


def add_sweep(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    *,
    how_to_run: argparse.ArgumentParser,
    settings_of: Callable[[argparse.Namespace], Settings],
) -> None:
    """Add the command.

    Args:
        commands: What it is added to.
        how_to_run: Has the options of every command that trains.
        settings_of: Reads how to run from the options.
    """
    parser = commands.add_parser(
        "sweep",
        parents=[how_to_run],
        help="choose a setting on the validation images",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("selectors", nargs="+", metavar="SELECTOR")
    add("--try", dest="tries", type=_try, action="append", required=True, metavar="NAME=V1,V2",
        help="candidate values; several --try make a product")  # fmt: skip
    add("--by", choices=("all", "task"), default="all",
        help="one value for all chosen tasks (default), or one for each task")  # fmt: skip
    add("--seeds", type=_seeds, metavar="S1,S2", help="use only these seeds")
    add("--out", type=Path, metavar="DIR",
        help="folder for the choices (default: the one that runs read)")  # fmt: skip
    add("--scale", default="smoke", help="smoke (default), micro or paper")
    parser.set_defaults(command=lambda options: sweep(options, settings_of(options)))
