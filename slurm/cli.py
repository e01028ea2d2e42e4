"""The command line: ``python -m slurm plan | submit | status | logs | cancel | resubmit``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import options as run_options
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli_planning import check_overrides, without
from benchmarks.harness.errors import (
    DONE,
    INCOMPLETE,
    SOME_FAILED,
    USAGE,
    UsageError,
    output_closed,
    told,
)
from benchmarks.harness.execute import Settings, lacking, pending
from benchmarks.harness.registry import select
from data_prep.terminal import print_what_it_can
from slurm import cli_following, following, local, options, scheduler, submission, submitting
from slurm.cli_following import positive, whole
from slurm.following import FAILED, LOST
from slurm.node import BuildTables
from slurm.planning import Plan, by_records, measured, plan
from slurm.showing import cells_of, table_of, totals_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    print_what_it_can()
    given = _parser().parse_args(arguments)
    try:
        return COMMANDS[given.command](given)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        return output_closed()
    except OSError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("\nstopped; finished cells are kept, submitted jobs continue", file=sys.stderr)
        return SOME_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slurm",
        description="Run the missing cells on a cluster.",
        epilog="Exit codes: 0 done, 1 some cells failed or are lost, 2 usage, 3 incomplete.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    common, planning = _common(), _planning()
    planner = commands.add_parser(
        "plan",
        parents=[common, planning],
        help="show the jobs of the missing cells; submits nothing",
    )
    submitter = commands.add_parser(
        "submit", parents=[common, planning], help="submit the missing cells as arrays of jobs"
    )
    again = commands.add_parser(
        "resubmit", parents=[common, planning], help="submit failed or lost cells again"
    )
    for one in (planner, submitter):
        one.add_argument("selectors", nargs="+", metavar="SELECTOR")
    for one in (submitter, again):
        options.add_to(one)
        one.add_argument("--dry-run", action="store_true",
                         help="print the batch scripts and have Slurm check them")  # fmt: skip
        one.add_argument("--skip-missing", action="store_true",
                         help="leave out cells whose data or weights are missing")  # fmt: skip
        one.add_argument("--tables", type=Path, default=Path("reports/tables"),
                         help="folder into which the last job writes the tables")  # fmt: skip
    submitter.add_argument("--executor", choices=("slurm", "local"), default="slurm",
                           help="slurm (default), or local: on this machine, one process a GPU")  # fmt: skip
    submitter.add_argument(
        "--workers",
        type=whole,
        help="with --executor local, on a machine without a GPU: number of processes",
    )
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("--failed", action="store_true", help="failed and lost cells")
    which.add_argument("--missing", action="store_true", help="lost cells only")
    cli_following.add_to(commands, common)
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    run_options.add_scale(common, "paper")
    run_options.add(common, "results", "data", "work")
    run_options.add_set(common, "replace a declared setting, as in python -m benchmarks run")
    return common


def _planning() -> argparse.ArgumentParser:
    planning = argparse.ArgumentParser(add_help=False)
    add = planning.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda",
        help="device of cells that do not name one (default: cuda)")  # fmt: skip
    add(
        "--hours",
        type=positive,
        default=4.0,
        help="fill jobs with cells up to this length (default: 4)",
    )
    add(
        "--parallel",
        type=whole,
        default=8,
        metavar="N",
        help="number of jobs that run at the same time, for the estimate (default: 8)",
    )
    add("--seconds", type=positive, metavar="S",
        help="seconds of a cell if there is no record of its method")  # fmt: skip
    add("--measure", action="store_true",
        help="if there is no record, time a few steps on this machine")  # fmt: skip
    run_options.add_device_name(planning, "estimate with the speeds measured on this GPU or "
                                    "processor, such as 'NVIDIA H200'")  # fmt: skip
    add("--cells", action="store_true", help="list the cells of every job")
    run_options.add(planning, "side_by_side", "plain")
    return planning


def _settings(given: argparse.Namespace) -> Settings:
    # A job finds its own device; the option is about which jobs there are.
    return run_options.settings_of(given, device="auto")


def _planned(
    given: argparse.Namespace,
    chosen: Sequence[Cell],
    settings: Settings,
    elsewhere: Collection[Cell] = (),
) -> Plan:
    otherwise = measured(settings) if given.measure else lambda cell: given.seconds
    sources: Counter[str] = Counter()
    seconds = by_records(settings, otherwise, kind=given.device_name, sources=sources)
    found = plan(
        chosen, settings, seconds, hours=given.hours, device=given.device, elsewhere=elsewhere
    )
    print(f"{len(chosen)} cells chosen at scale {given.scale}, {found.done} done before")
    if not found.jobs:
        print("nothing to do")
        return found
    print(table_of(found))
    if given.cells:
        print("\n".join(cells_of(found)))
    for line in totals_of(found, given.parallel, len(chosen) - found.done):
        print(line)
    if sources:
        print(
            "time estimated from: "
            + ", ".join(f"{n} cells {source}" for source, n in sources.items())
        )
    return found


def _plan(given: argparse.Namespace) -> int:
    chosen = select(given.selectors, given.scale)
    check_overrides(chosen, _settings(given))
    _planned(given, chosen, _settings(given))
    return DONE


def _submit(given: argparse.Namespace) -> int:
    return _send(given, select(given.selectors, given.scale))


def _send(given: argparse.Namespace, chosen: Sequence[Cell]) -> int:
    settings, asked = _settings(given), options.read(given)
    check_overrides(chosen, settings)
    if getattr(given, "executor", "slurm") == "local":
        return _run_here(given, chosen, settings, asked)
    folder = submission.root(settings.work, settings.scale)
    with submission.locked(folder):
        active = submitting.active_cells(submission.load_all(folder), settings)
        left = [cell for cell in chosen if cell not in active]
        if len(left) < len(chosen):
            print(f"left out: {len(chosen) - len(left)} cells that already run or wait")
        left, lack = _with_data(given, left, settings)
        found = _planned(given, left, settings, active)
        if not found.jobs:
            return DONE
        if given.dry_run:
            for name, text, word in submitting.scripts(found, settings, asked):
                print(f"\n# {name}\n{text}\n# Slurm: {word}")
            return INCOMPLETE if lack else DONE
        bases = {cell.base for job in found.jobs for cell in job.cells}
        after = tuple(dict.fromkeys(active[cell] for cell in bases if cell in active))
        with scheduler.outside_of_a_job():
            for _ in submitting.scripts(found, settings, asked):
                pass  # a refusal comes before anything is submitted
            made = submitting.submit(found, settings, asked, given.tables, after)
    jobs = ", ".join(dict.fromkeys(job.id.partition("_")[0] for job in made.jobs))
    print(f"submitted: jobs {jobs}; logs in {made.folder / 'logs'}")
    print(f"python -m slurm status --scale {given.scale} shows their state")
    return DONE


def _with_data(
    given: argparse.Namespace, chosen: list[Cell], settings: Settings
) -> tuple[list[Cell], bool]:
    """Return the cells with data and weights, and whether some lack them; a dry run only reports those."""
    todo = pending(chosen, settings)
    missing = lacking(todo, settings, fetch=not given.dry_run)
    if given.dry_run:
        for text, cells in missing.items():
            print(f"missing for {len(cells)} of them: {text}")
        return chosen, bool(missing)
    kept = set(without(todo, missing, skip=given.skip_missing))
    wanting = set(todo) - kept
    return [cell for cell in chosen if cell not in wanting], bool(missing)


def _run_here(
    given: argparse.Namespace,
    chosen: Sequence[Cell],
    settings: Settings,
    asked: options.Options,
) -> int:
    folder = submission.root(settings.work, settings.scale)
    with submission.locked(folder, "local-lock", seconds=0):
        left, lack = _with_data(given, list(chosen), settings)
        found = _planned(given, left, settings)
        if given.dry_run or not found.jobs:
            return INCOMPLETE if lack and given.dry_run else DONE
        places = local.devices(given.workers)
        local.run(found.jobs, lambda job: submitting.task_of(job, settings, asked), places, _now)
        here = replace(settings, results=settings.results.absolute())
        tables = BuildTables(settings.scale, here.results, given.tables.absolute())
        try:
            tables()
        except RuntimeError as error:
            raise UsageError(f"the cells ran, but their tables were not built: {error}") from error
    cells = {cell for job in found.jobs for cell in job.cells}
    bad = pending(sorted(cells), settings)
    if bad:
        print(f"{len(bad)} of {len(cells)} cells failed or have no record, {bad[0]} among them;")
        print("run the same command again to repeat them")
    return SOME_FAILED if bad else DONE


def _now(text: str) -> None:
    print(text, flush=True)


def _resubmit(given: argparse.Namespace) -> int:
    wanted = (FAILED, LOST) if given.failed else (LOST,)
    submissions = submission.load_all(submission.root(given.work, given.scale))
    found = following.follow(submissions, _settings(given))
    chosen = [one.cell for one in found if one.state in wanted]
    if not chosen:
        print(f"no submitted cell at scale {given.scale} is {' or '.join(wanted)}")
        return DONE
    return _send(given, chosen)


COMMANDS = {
    "plan": _plan,
    "submit": _submit,
    "status": lambda given: cli_following.status(given, _settings(given)),
    "logs": lambda given: cli_following.logs(given, _settings(given)),
    "cancel": lambda given: cli_following.cancel(given, _settings(given)),
    "resubmit": _resubmit,
}
