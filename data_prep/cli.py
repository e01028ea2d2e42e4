"""Command line: list, prepare, verify and show data sets.

Exit codes: 0 done, 1 something failed or is wrong, 2 usage, 3 something is missing.
"""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep import pack
from data_prep.embedded.vtab1k import TASKS, Task

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3
DATA_SETS: dict[str, tuple[Task, ...]] = {pack.BENCHMARK: TASKS}
LIST = "'python -m data_prep ls' lists them"


class UnknownNameError(Exception):
    """A data set or a task that does not exist."""


def select(selector: str) -> list[Task]:
    """Return the tasks of ``data-set`` or ``data-set/task-glob``."""
    data_set, slash, pattern = selector.partition("/")
    if data_set not in DATA_SETS:
        raise UnknownNameError(_unknown("data set", data_set, DATA_SETS))
    tasks = DATA_SETS[data_set]
    if not slash:
        return list(tasks)
    matched = [task for task in tasks if fnmatch.fnmatchcase(task.name, pattern)]
    if not matched:
        names = [f"{data_set}/{task.name}" for task in tasks]
        raise UnknownNameError(_unknown("task", f"{data_set}/{pattern}", names))
    return matched


def _unknown(what: str, name: str, valid: Sequence[str] | dict[str, tuple[Task, ...]]) -> str:
    """Say that a name is unknown, which valid one is nearest and what lists them."""
    nearest = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.0)[0]
    return f"unknown {what} '{name}'; nearest: '{nearest}'; {LIST}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    selector: dict[str, Any] = {
        "metavar": "DATA-SET[/TASK]",
        "help": "for instance vtab1k or 'vtab1k/dsprites_*'",
    }

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--data", type=Path, default=Path("data"), help="data folder (default: data)"
        )
        return sub

    command("ls", "List the data sets and tasks, and whether they are prepared.")
    prepare = command("prepare", "Get or generate data and pack it.")
    prepare.add_argument("selector", **selector)
    prepare.add_argument(
        "--source",
        choices=("embedded", "tfds", "folder"),
        default="embedded",
        help="where the data comes from (default: embedded, generated here)",
    )
    prepare.add_argument(
        "--seed", type=int, default=0, help="seed of the generated data (default: 0)"
    )
    prepare.add_argument("--dry-run", action="store_true", help="say what would be done")
    prepare.add_argument("--force", action="store_true", help="prepare again what is prepared")
    verify = command("verify", "Check packed data: hashes, shapes, counts, labels.")
    verify.add_argument("selector", nargs="?", default=pack.BENCHMARK, **selector)
    show = command("show", "Draw a contact sheet of images with their labels.")
    show.add_argument("selector", nargs="?", default=pack.BENCHMARK, **selector)
    show.add_argument("--out", type=Path, help="PNG file (default: work/sheets/<selector>.png)")
    show.add_argument("--seed", type=int, default=0, help="seed, for tasks that are not prepared")
    return parser


def _ls(args: argparse.Namespace) -> int:
    """List the tasks."""
    name = max(len(task.name) for task in TASKS) + len(pack.BENCHMARK) + 1
    print(f"{'data set/task':{name}}  {'group':11}  classes  prepared  label")
    for data_set, tasks in DATA_SETS.items():
        for task in tasks:
            prepared = (pack.task_folder(args.data, task) / pack.MANIFEST).is_file()
            print(
                f"{data_set + '/' + task.name:{name}}  {task.group:11}  {task.num_classes:7}  "
                f"{'yes' if prepared else 'no':8}  {task.label}"
            )
    return DONE


def _prepare(args: argparse.Namespace) -> int:
    """Pack what is not packed yet."""
    tasks = select(args.selector)
    if args.source != "embedded":
        print(
            f"--source {args.source} is not in this version yet; "
            f"'python -m data_prep prepare {args.selector}' generates the embedded data",
            file=sys.stderr,
        )
        return USAGE
    todo = [t for t in tasks if args.force or not pack.check_task(args.data, t, args.seed).ok]
    folder = args.data / pack.VARIANT / pack.BENCHMARK
    if args.dry_run:
        for task in tasks:
            print(
                f"{'prepare' if task in todo else 'skip   '}  {pack.task_folder(args.data, task)}"
            )
        return DONE
    failed = _pack_all(todo, args.data, args.seed) if todo else 0
    skipped, done = len(tasks) - len(todo), len(todo) - failed
    print(f"{folder}: {done} prepared, {skipped} already there, {failed} failed")
    return FAILED if failed else DONE


def _pack_all(tasks: list[Task], data: Path, seed: int) -> int:
    """Pack tasks under a progress bar; return the number that failed."""
    from tqdm import tqdm

    failed = 0
    with tqdm(tasks, unit="task") as bar:
        for task in bar:
            bar.set_description(task.name)
            try:
                pack.pack_task(data, task, seed)
            except Exception as error:  # noqa: BLE001 - one failure must not stop the others
                failed += 1
                bar.write(f"{task.name}: {type(error).__name__}: {error}", file=sys.stderr)
    return failed


def _verify(args: argparse.Namespace) -> int:
    """Check packed tasks and name what is wrong."""
    tasks = select(args.selector)
    missing = wrong = right = 0
    for task in tasks:
        findings = pack.check_task(args.data, task)
        for line in (*findings.wrong, *findings.missing):
            print(line)
        wrong += bool(findings.wrong)
        missing += bool(findings.missing)
        right += findings.ok
    print(f"{right} of {len(tasks)} tasks are whole and right")
    if right < len(tasks):
        print(f"'python -m data_prep prepare {args.selector}' makes the others", file=sys.stderr)
    return FAILED if wrong else INCOMPLETE if missing else DONE


def _show(args: argparse.Namespace) -> int:
    """Draw a contact sheet."""
    from data_prep import sheet  # imports PIL, which the other commands do without

    tasks = select(args.selector)
    name = "".join(c if c.isalnum() or c in "_-" else "-" for c in args.selector).strip("-")
    out: Path = args.out or Path("work/sheets") / f"{name}.png"
    sheet.draw_sheet(tasks, args.data, args.seed, out)
    print(out)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    args = _parser().parse_args(argv)
    command = {"ls": _ls, "prepare": _prepare, "verify": _verify, "show": _show}[args.command]
    try:
        return command(args)
    except UnknownNameError as error:
        print(error, file=sys.stderr)
        return USAGE
