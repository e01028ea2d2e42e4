"""The command line of the reports: ``python -m reports build | show | claims | audit | check | ...``.

A command imports what it needs itself, so that none waits for what the others need.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.errors import (
    DONE,
    INCOMPLETE,
    SOME_FAILED,
    USAGE,
    UsageError,
    output_closed,
)
from benchmarks.harness.options import assignment
from benchmarks.harness.store import State
from data_prep.terminal import print_what_it_can
from reports.audit import cli as audit
from reports.notes import LISTED
from reports.records import recorded_scales, scales, table_names

if TYPE_CHECKING:
    from reports.scale import Scale

RESULTS = Path("results")
TABLES = Path("reports/tables")
README = Path("README.md")
PAGE = Path("reports/RESULTS.md")
RECIPES = Path("benchmarks/README.md")
CLAIM_FORMATS = ("terminal", "markdown", "csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    print_what_it_can()
    options = _parser().parse_args(arguments)
    try:
        return COMMANDS[options.command](options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        return output_closed()


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    common.add_argument("--scale", help=f"one of: {', '.join(scales())}")
    common.add_argument(
        "--draft",
        action="store_true",
        default=None,
        help="take records of uncommitted code and of partial runs too, and mark them",
    )
    common.add_argument(
        "--set",
        type=assignment,
        action="append",
        metavar="NAME=VALUE",
        help="take the records with this setting, such as data.variant=folder",
    )
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description="Tables and figures from the records, beside the paper's printed numbers.",
        epilog="Exit codes: 0 done, 1 tables differ, 2 usage, 3 the declared grid has holes.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser(
        "build",
        parents=[common],
        help="write all tables and figures",
        description="Without --scale: of every scale that has records, or of all if none has.",
    )
    builder.add_argument("--out", type=Path, default=TABLES, help="folder to write <scale>/ into")
    shower = commands.add_parser(
        "show", parents=[common], help="print a table in the terminal (default scale: smoke)"
    )
    shower.add_argument("table", help=f"one of: {', '.join(table_names())}")
    checker = commands.add_parser(
        "check", help="build anew and compare with the tables that are there"
    )
    checker.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    checker.add_argument("--out", type=Path, default=TABLES, help="folder of the tables")
    checker.add_argument(
        "--scale",
        help="one scale (default: all that have committed tables, README.md and RESULTS.md)",
    )
    writer = commands.add_parser(
        "readme", help="write the results into README.md and the pages of results"
    )
    for command in (checker, writer):
        command.add_argument("--readme", type=Path, default=README, help="page with six rows")
        command.add_argument("--page", type=Path, default=PAGE, help="page with all results")
        command.add_argument("--recipes", type=Path, default=RECIPES, help="page with run times")
    writer.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    claimer = commands.add_parser(
        "claims",
        parents=[common],
        help="the paper's claims, judged from the records (default scale: paper)",
    )
    claimer.add_argument("--format", choices=CLAIM_FORMATS, default="terminal")
    audit.add_to(commands)
    return parser


def _build(options: argparse.Namespace) -> int:
    chosen = [options.scale] if options.scale else recorded_scales(options.results)
    return max(_build_scale(options, scale) for scale in chosen)


def _load(options: argparse.Namespace, scale: str) -> Scale:
    from reports.scale import load_scale

    return load_scale(options.results, scale, dict(options.set or []), drafts=options.draft)


def _build_scale(options: argparse.Namespace, scale: str) -> int:
    from reports.build import build

    built = build(_load(options, scale), options.out)
    for path in built.files:
        print(path)
    unused = [one for one in built.holes if one.state is State.INVALID or one.is_refused]
    for found in unused[:LISTED]:
        kind = "refused" if found.is_refused else "invalid"
        print(f"not used, {kind}: {options.results / found.path}: {found.reason}", file=sys.stderr)
    if len(unused) > LISTED:
        print(f"... and {len(unused) - LISTED} more; the tables' notes say why", file=sys.stderr)
    if built.holes:
        print(
            f"declared cells without a number: {len(built.holes)}; "
            f"python -m benchmarks status --scale {scale} counts them by method",
            file=sys.stderr,
        )
    return INCOMPLETE if built.holes else DONE


def _check(options: argparse.Namespace) -> int:
    from reports import check, readme
    from reports.build import build
    from reports.scale import load_scale

    chosen = [options.scale] if options.scale else check.committed_scales(options.out)
    loaded = {name: load_scale(options.results, name) for name in chosen}
    found: list[str] = []
    for name, scale in loaded.items():
        with tempfile.TemporaryDirectory() as folder:
            built = build(scale, Path(folder), with_page=False).folder
            found += check.compared(built, options.out / name)
    if not options.scale:
        of_page = loaded.get(readme.SCALE) or load_scale(options.results, readme.SCALE)
        found += readme.differences(_pages(options), of_page)
    for line in found:
        print(line)
    print(f"{' '.join(chosen) or 'no scale'}: {len(found)} files differ from what the records give")
    if found:
        print("python -m reports build, and readme, write them anew", file=sys.stderr)
    return SOME_FAILED if found else DONE


def _pages(options: argparse.Namespace) -> dict[str, Path]:
    return {name: getattr(options, name) for name in ("readme", "page", "recipes")}


def _readme(options: argparse.Namespace) -> int:
    from reports import readme

    pages = _pages(options)
    changed = readme.write(pages, options.results)
    for path in pages.values():
        print(f"{path}: {'written' if path in changed else 'as it was'}")
    return DONE


def _show(options: argparse.Namespace) -> int:
    from reports import render
    from reports.scale import load_table

    tables = load_table(
        options.results,
        options.scale or "smoke",
        options.table,
        dict(options.set or []),
        drafts=options.draft,
    )
    for table in tables:
        print(render.terminal(table.page))
    return DONE


def _claims(options: argparse.Namespace) -> int:
    from reports import claims

    scale = options.scale or "paper"
    found = claims.judge_all(_load(options, scale).records)
    if options.format == "terminal":
        print(claims.render_terminal(found, scale, options.results))
    elif options.format == "markdown":
        print(claims.render_markdown(found, scale), end="")
    else:
        print(claims.render_csv(found, scale), end="")
    missing = any(judged.verdict is claims.Verdict.NOT_RUN for _, judged in found)
    return INCOMPLETE if missing else DONE


COMMANDS = {
    "build": _build,
    "check": _check,
    "show": _show,
    "readme": _readme,
    "claims": _claims,
    "audit": audit.run,
}
