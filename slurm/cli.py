"""The command line: ``python -m slurm plan | submit | status | logs | cancel | resubmit``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import assignment
from benchmarks.harness.cli_planning import check_overrides
from benchmarks.harness.errors import (
    DONE,
    INCOMPLETE,
    SOME_FAILED,
    USAGE,
    UsageError,
    output_closed,
)
from benchmarks.harness.execute import Settings
from benchmarks.harness.registry import select
from slurm import following, local, options, scheduler, submission, submitting
from slurm.following import FAILED, LOST, Followed
from slurm.node import BuildTables
from slurm.planning import Plan, by_records, measured, plan
from slurm.showing import cells_of, table_of, totals_of

LISTED = 8
TAIL = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    given = _parser().parse_args(arguments)
    try:
        return COMMANDS[given.command](given)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        return output_closed()
    except KeyboardInterrupt:
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
        "plan", parents=[common, planning], help="say what jobs the missing cells make"
    )
    submitter = commands.add_parser(
        "submit", parents=[common, planning], help="submit the missing cells as arrays of jobs"
    )
    again = commands.add_parser(
        "resubmit", parents=[common, planning], help="submit again what failed or was lost"
    )
    for one in (planner, submitter):
        one.add_argument("selectors", nargs="+", metavar="SELECTOR")
    for one in (submitter, again):
        options.add_to(one)
        one.add_argument("--dry-run", action="store_true",
                         help="print the batch scripts and have Slurm check them")  # fmt: skip
        one.add_argument("--tables", type=Path, default=Path("reports/tables"),
                         help="where the last job writes tables")  # fmt: skip
    submitter.add_argument("--executor", choices=("slurm", "local"), default="slurm",
                           help="local: on this machine's GPUs, one process a GPU")  # fmt: skip
    submitter.add_argument("--workers", type=_whole, help="processes of a machine without a GPU")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("--failed", action="store_true", help="cells that failed, and lost ones")
    which.add_argument("--missing", action="store_true", help="cells that were lost alone")
    shower = commands.add_parser("status", parents=[common], help="what has become of the cells")
    shower.add_argument("--watch", type=_positive, nargs="?", const=10.0, metavar="SECONDS",
                        help="again every so many seconds until nothing runs or waits")  # fmt: skip
    shower.add_argument("--deadline-hours", type=_positive, default=168.0, metavar="H",
                        help="stop watching after so many hours (default: 168)")  # fmt: skip
    logger = commands.add_parser("logs", parents=[common], help="the end of a cell's log")
    logger.add_argument("cell")
    logger.add_argument("--all", action="store_true", help="all of it")
    commands.add_parser("cancel", parents=[common], help="cancel all jobs of a scale")
    return parser


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--scale", default="paper", help="smoke, micro or paper (default)")
    for name in ("results", "data", "work"):
        common.add_argument(f"--{name}", type=Path, default=Path(name), help=f"root of {name}")
    common.add_argument("--set", type=assignment, action="append", metavar="NAME=VALUE",
                        help="a run with this setting")  # fmt: skip
    return common


def _planning() -> argparse.ArgumentParser:
    planning = argparse.ArgumentParser(add_help=False)
    add = planning.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda",
        help="where cells run that do not name a device (default: cuda)")  # fmt: skip
    add(
        "--hours",
        type=_positive,
        default=4.0,
        help="length that jobs are filled up to (default: 4)",
    )
    add("--parallel", type=_whole, default=8, metavar="N", help="jobs side by side (default: 8)")
    add("--seconds", type=_positive, metavar="S",
        help="seconds of a cell that no record speaks of (run --dry-run measures them)")  # fmt: skip
    add("--measure", action="store_true",
        help="... or their benchmark's estimate: a few steps, timed on this machine")  # fmt: skip
    add("--cells", action="store_true", help="list the cells of every job")
    return planning


def _settings(given: argparse.Namespace) -> Settings:
    return Settings(
        scale=given.scale,
        results=given.results,
        data=given.data,
        work=given.work,
        overrides=dict(given.set or []),
    )


def _planned(given: argparse.Namespace, chosen: Sequence[Cell], settings: Settings) -> Plan:
    otherwise = measured(settings) if given.measure else lambda cell: given.seconds
    seconds = by_records(settings, otherwise)
    found = plan(chosen, settings, seconds, hours=given.hours, device=given.device)
    print(f"{len(chosen)} cells chosen at scale {given.scale}, {found.done} done before")
    if not found.jobs:
        print("nothing to do")
        return found
    print(table_of(found))
    if given.cells:
        print("\n".join(cells_of(found)))
    for line in totals_of(found, given.parallel, len(chosen) - found.done):
        print(line)
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
        return _run_here(given, _planned(given, chosen, settings), settings, asked)
    folder = submission.root(settings.work, settings.scale)
    with submission.locked(folder):
        active = submitting.active_cells(submission.load_all(folder))
        left = [cell for cell in chosen if cell not in active]
        if len(left) < len(chosen):
            print(f"left out: {len(chosen) - len(left)} cells that run or wait already")
        found = _planned(given, left, settings)
        if not found.jobs:
            return DONE
        if given.dry_run:
            for name, text, word in submitting.scripts(found, settings, asked):
                print(f"\n# {name}\n{text}\n# Slurm: {word}")
            return DONE
        made = submitting.submit(found, settings, asked, given.tables)
    jobs = ", ".join(dict.fromkeys(job.id.partition("_")[0] for job in made.jobs))
    print(f"submitted: jobs {jobs}; logs in {made.folder / 'logs'}")
    print(f"python -m slurm status --scale {given.scale} says what becomes of them")
    return DONE


def _run_here(
    given: argparse.Namespace, found: Plan, settings: Settings, asked: options.Options
) -> int:
    if given.dry_run or not found.jobs:
        return DONE
    tables = BuildTables(settings.scale, settings.results.absolute(), given.tables.absolute())
    failed = local.run(
        found.jobs,
        lambda job: submitting.task_of(job, settings, asked),
        tables,
        local.devices(given.workers),
        lambda text: print(text, flush=True),
    )
    return SOME_FAILED if failed else DONE


def _resubmit(given: argparse.Namespace) -> int:
    wanted = (FAILED, LOST) if given.failed else (LOST,)
    chosen = [one.cell for one in _followed(given) if one.state in wanted]
    if not chosen:
        print(f"no submitted cell at scale {given.scale} is {' or '.join(wanted)}")
        return DONE
    return _send(given, chosen)


def _followed(given: argparse.Namespace) -> list[Followed]:
    return following.follow(_submissions(given), _settings(given))


def _submissions(given: argparse.Namespace) -> list[submission.Submission]:
    return submission.load_all(submission.root(given.work, given.scale))


def _status(given: argparse.Namespace) -> int:
    deadline = time.monotonic() + 3600 * given.deadline_hours
    while True:
        submissions = _submissions(given)
        found = following.follow(submissions, _settings(given))
        counts = following.counted(found)
        rows = [
            [name, *(row.get(state, "") for state in following.STATES)]
            for name, row in counts.items()
        ]
        total = [sum(one.state == state for one in found) or "" for state in following.STATES]
        print(tabulate([*rows, ["all", *total]], headers=["cells", *following.STATES]))
        for state in (FAILED, LOST):
            told = [one for one in found if one.state == state]
            for one in told[:LISTED]:
                print(f"{state}: {one.cell}: {one.reason}")
            if len(told) > LISTED:
                print(f"... and {len(told) - LISTED} more {state}")
        print(following.tables(submissions))
        going = any(one.state in (following.RUNNING, following.WAITING) for one in found)
        if not given.watch or not going or time.monotonic() > deadline:
            break
        time.sleep(given.watch)
        print()
    if going:
        return INCOMPLETE
    if any(one.state in (FAILED, LOST) for one in found):
        print(f"python -m slurm resubmit --failed --scale {given.scale} submits them again")
        return SOME_FAILED
    return DONE


def _logs(given: argparse.Namespace) -> int:
    cell = Cell.parse(given.cell)
    found = next((one for one in _followed(given) if one.cell == cell), None)
    if found is None:
        raise UsageError(
            f"{cell} was not submitted at scale {given.scale}: python -m slurm status has all"
        )
    path = found.submission.log(found.job)
    print(f"{path} ({found.state}{': ' + found.reason if found.reason else ''})")
    if not path.exists():
        print("no log yet")
        return INCOMPLETE
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines if given.all else lines[-TAIL:]))
    return DONE


def _cancel(given: argparse.Namespace) -> int:
    jobs = [job.id for one in _submissions(given) for job in one.jobs]
    known = scheduler.states(jobs)
    active = [one for one in jobs if one in known and known[one].is_active]
    scheduler.cancel(active)
    print(f"cancelled: {len(active)} jobs")
    return DONE


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


COMMANDS = {
    "plan": _plan,
    "submit": _submit,
    "status": _status,
    "logs": _logs,
    "cancel": _cancel,
    "resubmit": _resubmit,
}
