"""The command line of the audits: ``python -m reports audit [averages | deltas | params | flops]``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks.harness.errors import DONE
from reports.audit import deltas, flops
from reports.audit.averages import check_all
from reports.audit.check import Check
from reports.audit.layout import FORMATS, RENDERERS, Listing, as_csv
from reports.audit.listings import averages as averages_listing
from reports.audit.listings import deltas as deltas_listing
from reports.audit.listings import flops as flops_listing
from reports.audit.listings import params as params_listing
from reports.audit.listings import summary
from reports.audit.params import TABLES
from reports.audit.params import audit as count_params

NO_ERROR = "A finding is no error (exit code 0)."


def add_to(commands: Any) -> None:
    """Add ``audit`` and what it can audit to the commands of a parser."""
    parser = commands.add_parser(
        "audit",
        help="hold the paper's numbers against arithmetic, and against each other",
        description=(
            "What in the paper's tables does not add up. Without a name: all audits in turn, and a summary. "
            + NO_ERROR
        ),
    )
    _add_options(parser, "terminal")
    kinds = parser.add_subparsers(dest="audit")
    averages = kinds.add_parser(
        "averages",
        help="printed averages: recomputed from the cells beside them",
        description=(
            "Recomputes every average of Tables 2, 3, 4 and 5 and lists those that do not follow from the "
            "printed cells, or group means. " + NO_ERROR
        ),
    )
    twice = kinds.add_parser(
        "deltas",
        help="numbers printed in two places: held against each other",
        description=(
            "Changes against accuracies (Table 2 against 4, 5 and 6), rows that repeat another one (Table "
            "3), parameters of one method, and what the text says of Tables 2 and 6. " + NO_ERROR
        ),
    )
    params = kinds.add_parser(
        "params",
        help="trainable parameters: printed, counted, and as a formula",
        description=(
            "Counts what every method of Tables 1, 2, 3 and 5 trains, on networks without weights, and says "
            "which printed counts follow. Nothing is downloaded. " + NO_ERROR
        ),
    )
    params.add_argument("--table", type=int, choices=TABLES, help="one table alone (default: all)")
    products = kinds.add_parser(
        "flops",
        help="Table 6's FLOPs: by arithmetic",
        description=(
            "Says what of ViT-B/16 and of a penalty has to be counted to print each number, and what R_l "
            "needs in closed form. " + NO_ERROR
        ),
    )
    for kind in (averages, twice, params, products):
        # Without a default of its own: it would replace what stands before the name.
        _add_options(kind, argparse.SUPPRESS, has_all=kind in (averages, twice))


def _add_options(parser: argparse.ArgumentParser, default: str, *, has_all: bool = True) -> None:
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=default,
        help="default: terminal; csv has a line for each value that was looked at",
    )
    if has_all:
        parser.add_argument(
            "--all",
            action="store_true",
            default=False if default != argparse.SUPPRESS else default,
            help="list the values that follow, too",
        )


def run(options: argparse.Namespace) -> int:
    """Run the audit that was asked for, or all, and print what they say."""
    names = [options.audit] if options.audit else list(AUDITS)
    is_csv = options.format == "csv"
    checks: list[Check] = []
    for name in names:
        listing = AUDITS[name](options)
        checks += listing.checks
        if not is_csv:
            print(RENDERERS[options.format](listing), end="\n\n" if len(names) > 1 else "\n")
    if is_csv:
        print(as_csv(checks, with_details=len(names) == 1))
    elif len(names) > 1:
        print(RENDERERS[options.format](summary.listing(checks)))
    return DONE


def _averages(options: argparse.Namespace) -> Listing:
    return averages_listing.listing(check_all(), with_all=options.all)


def _deltas(options: argparse.Namespace) -> Listing:
    return deltas_listing.listing(deltas.audit(), with_all=options.all)


def _params(options: argparse.Namespace) -> Listing:
    table = getattr(options, "table", None)
    return params_listing.listing(count_params(TABLES if table is None else (table,)))


def _flops(_: argparse.Namespace) -> Listing:
    return flops_listing.listing(flops.audit())


AUDITS: dict[str, Callable[[argparse.Namespace], Listing]] = {
    "averages": _averages,
    "deltas": _deltas,
    "params": _params,
    "flops": _flops,
}
"""In the order in which they run, those that take no time first."""
