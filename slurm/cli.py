"""The command line: ``python -m slurm plan``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.harness.cli import assignment
from benchmarks.harness.cli_planning import check_overrides
from benchmarks.harness.errors import DONE, USAGE, UsageError, output_closed
from benchmarks.harness.execute import Settings
from benchmarks.harness.progress import duration
from benchmarks.harness.registry import select
from slurm.planning import ORDER, TABLES, Plan, by_records, plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _plan(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        return output_closed()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slurm",
        description="The missing cells as jobs for a cluster.",
        epilog="Exit codes: 0 done, 2 usage.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    planner = commands.add_parser(
        "plan",
        help="say what jobs the missing cells make, and how long they take",
        description="Reads records and checkpoints alone: runs anywhere, submits nothing.",
    )
    planner.add_argument("selectors", nargs="+", metavar="SELECTOR")
    planner.add_argument("--scale", default="paper", help="smoke, micro or paper (default)")
    for name, default in (("results", "results"), ("data", "data"), ("work", "work")):
        planner.add_argument(f"--{name}", type=Path, default=Path(default), help=f"root of {name}")
    planner.add_argument(
        "--set",
        type=assignment,
        action="append",
        metavar="NAME=VALUE",
        help="plan a run with this setting",
    )
    planner.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="where cells run that do not name a device (default: cuda)",
    )
    planner.add_argument(
        "--hours",
        type=_positive,
        default=4.0,
        help="length that jobs are filled up to (default: 4)",
    )
    planner.add_argument(
        "--parallel", type=_whole, default=8, metavar="N", help="jobs side by side (default: 8)"
    )
    planner.add_argument(
        "--seconds",
        type=_positive,
        metavar="S",
        help="seconds of a cell that no record speaks of (benchmarks run --dry-run measures them)",
    )
    planner.add_argument("--cells", action="store_true", help="list the cells of every job")
    return parser


def _plan(options: argparse.Namespace) -> int:
    settings = Settings(
        scale=options.scale,
        results=options.results,
        data=options.data,
        work=options.work,
        overrides=dict(options.set or []),
    )
    chosen = select(options.selectors, options.scale)
    check_overrides(chosen, settings)
    found = plan(
        chosen,
        settings,
        by_records(settings, options.seconds),
        hours=options.hours,
        device=options.device,
    )
    todo = len(chosen) - found.done
    print(f"{len(chosen)} cells chosen at scale {options.scale}, {found.done} done before")
    if not found.jobs:
        print("nothing to do")
        return DONE
    print(_table(found))
    if options.cells:
        print("\n".join(_cells(found)))
    for line in _totals(found, options.parallel, todo):
        print(line)
    return DONE


def _table(found: Plan) -> str:
    rows: list[list[object]] = []
    for array in ORDER:
        for device in dict.fromkeys(job.device for job in found.jobs):
            jobs = found.of(array, device)
            if jobs:
                known = [job.seconds for job in jobs if job.seconds is not None]
                longest = duration(max(known)) if len(known) == len(jobs) else "not known"
                cells = sum(len(job.cells) for job in jobs)
                rows.append([array, device, len(jobs), cells, longest])
    rows.append([TABLES, "cpu", 1, "", ""])
    return tabulate(rows, headers=["array, in order", "device", "jobs", "cells", "longest job"])


def _cells(found: Plan) -> list[str]:
    lines = []
    for number, job in enumerate(found.jobs, start=1):
        length = "length not known" if job.seconds is None else duration(job.seconds)
        lines.append(f"job {number}, {job.array}, {job.device}, {length}:")
        lines += [f"  {cell}" for cell in job.cells]
    return lines


def _totals(found: Plan, parallel: int, todo: int) -> list[str]:
    unknown = sorted(
        {
            f"{cell.method} on {cell.backbone}"
            for job in found.jobs
            if job.seconds is None
            for cell in job.cells
        }
    )
    jobs = len(found.jobs) + 1
    if unknown:
        some = ", ".join(unknown[:4]) + (
            f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        )
        return [
            f"{jobs} jobs for {todo} cells; how long they take is not known: no record of {some}",
            "--seconds S says how long such a cell takes; python -m benchmarks run SELECTOR --dry-run "
            "measures a few steps",
        ]
    gpu, wall = found.hours("cuda"), found.wall_hours(parallel)
    assert gpu is not None
    assert wall is not None
    return [
        f"{jobs} jobs for {todo} cells, {gpu:,.1f} GPU hours; with {parallel} jobs side by side about "
        f"{duration(3600 * wall)}, without waiting in a queue"
    ]


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
