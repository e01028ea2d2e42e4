"""``python -m benchmarks ls | show | run | sweep | status | verify``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks.harness import beside, provenance
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli_planning import (
    check_overrides,
    foretell,
    only_at_hand,
    refuse_replacing,
    without,
)
from benchmarks.harness.cli_showing import show_one, show_several
from benchmarks.harness.cli_sweep import add_sweep
from benchmarks.harness.devices import require_device
from benchmarks.harness.errors import (
    DONE,
    INCOMPLETE,
    SOME_FAILED,
    USAGE,
    UsageError,
    output_closed,
    told,
    unknown,
)
from benchmarks.harness.execute import Settings, lacking, pending
from benchmarks.harness.kinds import OPTIONS
from benchmarks.harness.options import add, add_device_name, add_scale, add_set, settings_of
from benchmarks.harness.progress import Progress, default_jobs
from benchmarks.harness.record import InvalidRecord
from benchmarks.harness.registry import BENCHMARKS, cover, scale_named, select
from benchmarks.harness.spec import DRAFT_SCALES
from benchmarks.harness.store import State, require_room
from benchmarks.harness.workers import run_many
from data_prep.terminal import print_what_it_can

EPILOG = """a cell is benchmark/backbone/task/method/seed; a selector is that path with globs, and parts
left out at its end match everything:
  python -m benchmarks run 'vtab1k/vit_micro/dsprites_*/lora-r8*' --scale smoke
exit codes: 0 done, 1 some cells failed, 2 wrong usage, 3 incomplete"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    print_what_it_can()
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        return output_closed()
    except OSError as error:  # a full disk, a name that is too long, a folder that nobody may read
        print(f"error: {told(error)}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(
            "\nstopped; finished cells are kept, run the same command to continue", file=sys.stderr
        )
        return SOME_FAILED


def ls(options: argparse.Namespace) -> int:
    """List benchmarks, or what one of them declares, or the cells of a selector."""
    if not options.selector:
        rows = [[b.name, b.title, " ".join(b.scales), len(b.tasks)] for b in BENCHMARKS.values()]
        print(tabulate(rows, headers=["benchmark", "what", "scales", "tasks"]))
        print("\npython -m benchmarks ls BENCHMARK lists its backbones, tasks and methods")
    elif "/" in options.selector:
        print("\n".join(map(str, select([options.selector], options.scale))))
    else:
        _list_benchmark(options.selector, options.scale)
    return DONE


def show(options: argparse.Namespace) -> int:
    """Show what a cell is and came to; of several cells, what each came to."""
    settings = _settings(options)
    if not set(options.selector) & set("*?["):
        Cell.parse(options.selector)  # one cell is meant, and to be written out
    cells = select([options.selector], options.scale)
    if len(cells) == 1:
        return show_one(cells[0], settings)
    return show_several(cells, settings, done=options.done)


def run(options: argparse.Namespace) -> int:
    """Run the chosen cells that are not done."""
    settings = _settings(options)
    chosen = select(options.selectors, options.scale)
    chosen = cover(chosen) if options.cover else chosen
    check_overrides(chosen, settings)
    require_device(settings.device)
    cells = only_at_hand(chosen, settings)
    seen = settings.store.stamps(cells)
    todo = pending(cells, settings, options.rerun)
    print(
        f"{len(cells)} cells chosen at scale {options.scale}, {len(cells) - len(todo)} done before"
    )
    refuse_replacing(todo, settings, options.rerun)
    missing = lacking(todo, settings, fetch=not options.dry_run)
    jobs = options.jobs or default_jobs(settings.device)
    if options.dry_run:
        jobs = options.jobs or (1 if options.device_name else jobs)
        return foretell(todo, missing, settings, jobs, options.device_name)
    todo = without(todo, missing, skip=options.skip_missing)
    if not todo:
        return DONE
    print("".join(f"{line}\n" for line in beside.told(todo, settings)), end="")
    settings.store.require_room(todo)
    require_room(settings.work, "--work")
    settings.store.remove_leftovers()
    if options.scale not in DRAFT_SCALES and provenance.code()["dirty"]:
        print(
            f"warning: uncommitted changes: these records will be drafts, which tables at scale "
            f"{options.scale} leave out (python -m reports build --draft shows them)",
            file=sys.stderr,
        )
    with Progress(len(todo)) as progress:
        run_many(todo, settings, jobs, progress.tell, seen=seen)
    if progress.failed:
        print(f"{len(progress.failed)} of {len(todo)} cells failed; their records say why")
        return SOME_FAILED
    return DONE


def status(options: argparse.Namespace) -> int:
    """Count the declared cells by method and state."""
    settings = _settings(options)
    cells = select(options.selectors or ["*"], options.scale)
    check_overrides(cells, settings)
    settings.store.remove_leftovers()
    counts: dict[str, Counter[str]] = {}
    older = 0
    for cell in cells:
        state = settings.state(cell)
        counts.setdefault(f"{cell.benchmark}/{cell.backbone}/*/{cell.method}", Counter())[
            state.value
        ] += 1
        older += state is State.FRESH and _is_older_code(settings, cell)
    states = [state.value for state in State]
    rows = [[name, *(count[state] or "" for state in states)] for name, count in counts.items()]
    total = sum(counts.values(), Counter[str]())
    rows.append(["all", *(total[state] or "" for state in states)])
    print(tabulate(rows, headers=["cells", *states]))
    if older:
        print(f"{older} records come from older code than this checkout's")
    return DONE if total[State.FRESH.value] == len(cells) else INCOMPLETE


def verify(options: argparse.Namespace) -> int:
    """Check every record: complete, unaltered, at its own path, with possible numbers."""
    settings = _settings(options)
    wrong, count = 0, 0
    if not settings.store.root.exists():
        raise UsageError(f"there is no folder of records {settings.store.root}")
    for path, cell in settings.store.files():
        count += 1
        try:
            if cell is None:
                raise InvalidRecord("its path is not that of a cell")
            settings.store.load(cell)
        except InvalidRecord as error:
            wrong += 1
            print(f"{path}: {error}")
    print(f"{count} records at scale {options.scale}, {wrong} invalid")
    if wrong:
        print(f"python -m benchmarks run SELECTOR --scale {options.scale} replaces them")
    return SOME_FAILED if wrong else DONE


def _list_benchmark(name: str, scale_name: str) -> None:
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS, "python -m benchmarks ls")
    benchmark = BENCHMARKS[name]
    scale = scale_named(benchmark, scale_name)
    print(benchmark.title, end="\n\n")
    scales = [
        [s.name, " ".join(s.backbones), str(s.seeds), s.description]
        for s in benchmark.scales.values()
    ]
    print(tabulate(scales, headers=["scale", "backbones", "seeds", "what"]), end="\n\n")
    tasks = [[t.name, t.group, t.num_classes] for t in benchmark.tasks]
    print(tabulate(tasks, headers=["task", "group", "classes"]), end="\n\n")
    for backbone in scale.backbones:
        methods = benchmark.methods_on.get(backbone, benchmark.methods)
        print(f"methods on {backbone}:", " ".join(methods))
    count = sum(1 for _ in benchmark.cells(scale))
    print(
        f"{count} cells at scale {scale.name}: python -m benchmarks ls '{name}/*' --scale {scale.name}"
    )


def _is_older_code(settings: Settings, cell: Cell) -> bool:
    record = settings.store.load(cell)
    trees = {folder: provenance.tree_hash(folder) for folder in provenance.FOLDERS}
    return record is not None and record["code"].get("trees") != trees


def _settings(options: argparse.Namespace) -> Settings:
    if getattr(options, "jobs", None) is not None:
        OPTIONS["--jobs"].checked("--jobs", options.jobs)
    if not getattr(options, "weights", None):
        return settings_of(options)
    file, name = _weights(options.weights)
    return settings_of(options, weights=file, overrides={"backbone.weights": name})


def _weights(text: str) -> tuple[Path | None, str]:
    """Return the file that ``--weights`` names, if it is one, and its name in the configuration."""
    from benchmarks import weights  # it brings timm, which no other option needs

    file = Path(text)
    if file.suffix in weights.SUFFIXES or file.exists():
        return file.absolute(), weights.given_id(file)
    return None, text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="List, run and check the cells of the benchmarks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    add_scale(common, "smoke")
    add(common, "results")

    listing = commands.add_parser(
        "ls", parents=[common], help="list benchmarks, their tasks and methods, or cells"
    )
    listing.add_argument("selector", nargs="?", help="a benchmark, or a selector of cells")
    listing.set_defaults(command=ls)

    showing = commands.add_parser("show", parents=[common], help="show one cell and its record, or "
                                  "what several came to")  # fmt: skip
    showing.add_argument("selector", metavar="SELECTOR")
    showing.add_argument("--done", action="store_true", help="of several, only those with a record")
    showing.set_defaults(command=show)

    running = commands.add_parser(
        "run",
        parents=[common, _how_to_run()],
        help="run cells",
        epilog=EPILOG,
        formatter_class=parser.formatter_class,
    )
    running.add_argument("selectors", nargs="+", metavar="SELECTOR")
    running.add_argument("--cover", action="store_true", help="of these cells, run the fewest that touch "
                         "everything: each method of each backbone, on one task")  # fmt: skip
    running.add_argument("--rerun", choices=("missing", "failed", "all"), default="failed",
                         help="which cells run besides missing ones (default: failed and stale)")  # fmt: skip
    running.add_argument("--skip-missing", action="store_true",
                         help="leave out cells whose data or weights are missing")  # fmt: skip
    add_device_name(running, "with --dry-run: estimate the time on this GPU or processor, such as "
                    "'NVIDIA H200', from speeds measured on it")  # fmt: skip
    running.set_defaults(command=run)

    add_sweep(commands, how_to_run=_how_to_run(), settings_of=_settings)

    counting = commands.add_parser(
        "status", parents=[common], help="count finished, failed and missing cells"
    )
    counting.add_argument("selectors", nargs="*", metavar="SELECTOR")
    add_set(counting, "count records of a run with this setting")
    counting.add_argument(
        "--weights", metavar="FILE|NAME", help="count records of a run with these weights"
    )
    counting.set_defaults(command=status)

    verifying = commands.add_parser("verify", parents=[common], help="check all records")
    verifying.set_defaults(command=verify)
    return parser


def _how_to_run() -> argparse.ArgumentParser:
    """Return the options of every command that trains."""
    how = argparse.ArgumentParser(add_help=False)
    how.add_argument("--jobs", type=int, help="processes (default: one on a GPU, else one a core)")
    add(how, "threads", "device", "timeout_seconds", "data", "work")
    add_set(how, "replace a declared setting, such as stage1.learning_rate=0.1")
    how.add_argument("--weights", metavar="FILE|NAME", help="weights of the backbone: a file "
                     "(.safetensors, .pth, .npz) or timm's name of a checkpoint")  # fmt: skip
    add(how, "caching", "waits", "plain", "side_by_side")
    how.add_argument("--dry-run", action="store_true",
                     help="print what would run, what is missing and the estimated time")  # fmt: skip
    return how
