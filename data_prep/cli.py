"""Command line: list, prepare, verify and show data sets.

Exit codes: 0 done, 1 something failed or is wrong, 2 usage, 3 something is missing.
"""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep import cli_flickr30k, cli_msrvtt, pack
from data_prep.contents import Named, Source
from data_prep.sources import OF, SOURCES, make_source
from data_prep.terminal import print_what_it_can

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3
APART = {"flickr30k": cli_flickr30k, "msrvtt": cli_msrvtt}
"""Data sets without tasks, whose commands are their own."""
LIST = "'python -m data_prep ls' lists them"


class UsageError(Exception):
    """What was asked for does not exist or does not fit together."""


def select(selector: str, source: Source) -> list[Named]:
    """Return the tasks of ``data-set`` or ``data-set/task-glob``."""
    data_set, slash, pattern = selector.partition("/")
    tasks = source.tasks()
    if not slash:
        return list(tasks)
    matched = [task for task in tasks if fnmatch.fnmatchcase(task.name, pattern)]
    if not matched:
        names = [f"{data_set}/{task.name}" for task in tasks]
        raise UsageError(_unknown("task", f"{data_set}/{pattern}", names))
    return matched


def data_set_of(selector: str) -> str:
    """Return the data set of a selector."""
    data_set = selector.partition("/")[0]
    if data_set not in OF:
        raise UsageError(_unknown("data set", data_set, [*OF, *APART]))
    return data_set


def source_of(selector: str, name: str, **options: Any) -> Source:
    """Return a source of a selector's data set."""
    data_set = data_set_of(selector)
    if name not in OF[data_set]:
        raise UsageError(f"{data_set} has no source '{name}'; it has {', '.join(OF[data_set])}")
    return make_source(name, data_set, **options)


def _unknown(what: str, name: str, valid: Sequence[str]) -> str:
    """Say that a name is unknown, which valid one is nearest and what lists them."""
    nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)[0]
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
            "--data", type=Path, default=Path("data"), help="folder of packed data (default: data)"
        )
        return sub

    command("ls", "List the data sets and tasks, and which sources of them are prepared.")
    prepare = command("prepare", "Get or generate data and pack it.")
    prepare.add_argument("selector", **selector)
    prepare.add_argument(
        "--source",
        choices=SOURCES,
        default="embedded",
        help="source of the data: generated here (embedded, default), tensorflow-datasets (tfds), or "
        "files with lists (folder); for few-shot sets also our own draw (folder-drawn, tfds-drawn)",
    )
    prepare.add_argument(
        "--root",
        type=Path,
        help="folder: the folder that has one folder a data set; tfds: TFDS's data folder (default: "
        "$TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )
    prepare.add_argument(
        "--size", type=int, help="height and width of packed real images (default: 224)"
    )
    prepare.add_argument(
        "--seed", type=int, default=0, help="seed of the generated data (default: 0)"
    )
    prepare.add_argument(
        "--jobs", type=int, default=_cores(), help="threads or processes (default: one a core)"
    )
    prepare.add_argument("--dry-run", action="store_true", help="print what would be done")
    prepare.add_argument("--force", action="store_true", help="prepare finished tasks again")
    for apart in APART.values():
        apart.add_options(prepare)
    for name, text in (
        ("verify", "Check packed data: hashes, shapes, counts, labels."),
        ("show", "Draw a contact sheet of images with their labels."),
    ):
        sub = command(name, text)
        sub.add_argument("selector", nargs="?", default="vtab1k", **selector)
        sub.add_argument(
            "--source", choices=SOURCES, help="default: all that are prepared, else embedded"
        )
        if name == "show":
            sub.add_argument("--out", type=Path, help="PNG file (default: work/sheets/...)")
            sub.add_argument("--seed", type=int, default=0, help="for tasks that are not prepared")
            sub.add_argument(
                "--by-class", action="store_true", help="one row a class instead of one row a task"
            )
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ls(args: argparse.Namespace) -> int:
    """List the tasks."""
    tasks = [
        (data_set, task) for data_set in OF for task in make_source("embedded", data_set).tasks()
    ]
    width = max(len(f"{data_set}/{task.name}") for data_set, task in tasks)
    print(f"{'data set/task':{width}}  {'group':12}  classes  {'prepared':20}  label")
    for data_set, task in tasks:
        sources = (make_source(name, data_set) for name in OF[data_set])
        prepared = " ".join(
            source.variant for source in sources if _is_prepared(args.data, source, task)
        )
        print(
            f"{data_set + '/' + task.name:{width}}  {task.group:12}  {task.num_classes:7}  "
            f"{prepared or 'no':20}  {task.label}"
        )
    for apart in APART.values():
        print(apart.line(args.data))
    return DONE


def _is_prepared(data: Path, source: Source, task: Named) -> bool:
    return (pack.task_folder(data, source, task) / pack.MANIFEST).is_file()


def _sources_at_hand(args: argparse.Namespace, **options: Any) -> list[Source]:
    """Return the source that was named, or each that has one of the tasks prepared."""
    if args.source:
        return [source_of(args.selector, args.source, **options)]
    data_set = data_set_of(args.selector)
    found = [
        source
        for source in (
            make_source(name, data_set, **options)
            for name in OF[data_set]
            if (args.data / name).is_dir()
        )
        if any(_is_prepared(args.data, source, t) for t in select(args.selector, source))
    ]
    return found or [make_source("embedded", data_set, **options)]


def _prepare(args: argparse.Namespace) -> int:
    """Pack what is not packed yet."""
    _check_options(args)
    size = None if args.source == "embedded" else args.size or 224
    source = source_of(args.selector, args.source, root=args.root, size=size, seed=args.seed)
    tasks = select(args.selector, source)
    todo = [t for t in tasks if args.force or not pack.check_task(args.data, source, t).ok]
    needed = sum(pack.packed_bytes(source, task) for task in todo)
    free = _free_bytes(args.data)
    if args.dry_run:
        for task in tasks:
            place = pack.task_folder(args.data, source, task)
            print(f"{'prepare' if task in todo else 'skip   '}  {place}")
        print(f"needed: {_gigabytes(needed)}; free in {args.data}: {_gigabytes(free)}")
        return DONE
    if needed > free:
        print(
            f"not enough space: {len(todo)} tasks need {_gigabytes(needed)} in {args.data}, "
            f"{_gigabytes(free)} are free; --data DIR packs elsewhere, "
            f"{source.benchmark}/TASK packs a part",
            file=sys.stderr,
        )
        return FAILED
    failed = _pack_all(todo, source, args.data, args.jobs) if todo else 0
    skipped, done = len(tasks) - len(todo), len(todo) - failed
    folder = args.data / source.variant / source.benchmark
    print(f"{folder}: {done} prepared, {skipped} already there, {failed} failed")
    return FAILED if failed else DONE


def _check_options(args: argparse.Namespace) -> None:
    if args.first is not None:
        raise UsageError("--first is for msrvtt")
    if args.source == "embedded":
        for name in ("root", "size"):
            if getattr(args, name) is not None:
                raise UsageError(f"--{name} is for --source tfds or folder; nothing is read here")
    elif args.source.startswith("folder") and args.root is None:
        raise UsageError(
            f"--source {args.source} needs --root: the folder with one folder a data set"
        )
    if args.size is not None and args.size < 1:
        raise UsageError(f"--size {args.size} is not a number of pixels")


def _free_bytes(folder: Path) -> int:
    """Return the free space where a folder is or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _pack_all(tasks: list[Named], source: Source, data: Path, jobs: int) -> int:
    """Pack tasks under a progress bar over their images; return the number that failed."""
    from data_prep.progress import Bar

    failed = 0
    total = sum(sum(source.counts(task).values()) for task in tasks)
    with Bar(total=total, unit="image", unit_scale=True) as bar:
        for task in tasks:
            before = bar.n

            def tick(split: str, count: int, name: str = task.name) -> None:
                bar.set_description(f"{name}/{split}", refresh=False)
                bar.update(count)

            try:
                bar.set_description(task.name)
                folder = pack.pack_task(data, source, task, jobs=jobs, tick=tick)
                for note in pack.read_manifest(folder).get("notes", ()):
                    bar.write(f"{task.name}: {note}", file=sys.stderr)
                # As many as there were: of draws and official splits only the most was known before.
                bar.total += bar.n - before - sum(source.counts(task).values())
            except Exception as error:  # noqa: BLE001 - one failure must not stop the others
                failed += 1
                kind = type(error).__name__
                text = str(error) if kind == "DataError" else f"{kind}: {error}"
                bar.write(f"{task.name}: {text}", file=sys.stderr)
                bar.n, bar.total = before, bar.total - sum(source.counts(task).values())
    return failed


def _verify(args: argparse.Namespace) -> int:
    """Check packed tasks and name what is wrong."""
    missing = wrong = 0
    for source in _sources_at_hand(args):
        tasks = select(args.selector, source)
        right = 0
        for task in tasks:
            findings = pack.check_task(args.data, source, task)
            for line in (*findings.wrong, *findings.missing):
                print(line)
            wrong += bool(findings.wrong)
            missing += bool(findings.missing)
            right += findings.ok
        print(f"{source.variant}: {right} of {len(tasks)} tasks are complete and correct")
        if right < len(tasks):
            option = "" if source.variant == "embedded" else f" --source {source.variant}"
            print(
                f"'python -m data_prep prepare {args.selector}{option}' makes the others",
                file=sys.stderr,
            )
    return FAILED if wrong else INCOMPLETE if missing else DONE


def _show(args: argparse.Namespace) -> int:
    """Draw a contact sheet."""
    from data_prep import sheet  # imports PIL, which the other commands do without

    code = DONE
    for source in _sources_at_hand(args, seed=args.seed):
        tasks = select(args.selector, source)
        prepared = [t for t in tasks if _is_prepared(args.data, source, t)]
        # Generated tasks can be drawn without being prepared.
        drawn = tasks if source.variant == "embedded" else prepared
        if not drawn:
            print(
                f"nothing of {args.selector} is prepared in {args.data / source.variant}: "
                f"python -m data_prep prepare {args.selector} --source {source.variant}",
                file=sys.stderr,
            )
            code = INCOMPLETE
            continue
        name = "".join(c if c.isalnum() or c in "_-" else "-" for c in args.selector).strip("-")
        ending = "-by-class" if args.by_class else ""
        ending += "" if source.variant == "embedded" else f"-{source.variant}"
        out: Path = args.out or Path("work/sheets") / f"{name}{ending}.png"
        draw = sheet.draw_classes if args.by_class else sheet.draw_sheet
        draw(drawn, args.data, source, out)
        print(out)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    print_what_it_can()
    args = _parser().parse_args(argv)
    command = {"ls": _ls, "prepare": _prepare, "verify": _verify, "show": _show}[args.command]
    if args.command != "ls" and (apart := APART.get(args.selector.partition("/")[0])):
        command = apart.run
    try:
        return command(args)
    except UsageError as error:
        print(error, file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # the reader, for instance `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        print(
            "\nstopped; finished splits are kept, run the same command to continue", file=sys.stderr
        )
        return FAILED
