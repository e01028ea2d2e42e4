"""The command line of the audits: ``python -m reports audit params | averages``."""

from __future__ import annotations

import argparse
from typing import Any

from tabulate import tabulate

from benchmarks.harness.errors import DONE
from reports import published
from reports.audit.layout import FORMATS
from reports.audit.params import TABLES, audit
from reports.published.averages import check_averages


def add_to(commands: Any) -> None:
    """Add ``audit`` and what it can audit to the commands of a parser."""
    parser = commands.add_parser("audit", help="hold the paper's numbers against arithmetic")
    kinds = parser.add_subparsers(dest="audit", required=True)
    params = kinds.add_parser(
        "params",
        help="trainable parameters: printed, counted, and as a formula",
        description=(
            "Counts what every method of Tables 1, 2, 3 and 5 trains, on networks without weights, and says "
            "which printed counts follow. Nothing is downloaded; a finding is no error (exit code 0)."
        ),
    )
    params.add_argument("--table", type=int, choices=TABLES, help="one table alone (default: all)")
    params.add_argument("--format", choices=FORMATS, default="terminal", help="default: terminal")
    averages = kinds.add_parser(
        "averages",
        help="printed averages: recomputed from the cells beside them",
        description=(
            "Recomputes both averages of every row of Tables 2 and 5 and lists those that do not follow from "
            "the printed cells. A finding is no error (exit code 0)."
        ),
    )
    averages.add_argument("--all", action="store_true", help="also those that follow")


def run(options: argparse.Namespace) -> int:
    """Run the audit that was asked for and print it."""
    return AUDITS[options.audit](options)


def _params(options: argparse.Namespace) -> int:
    tables = TABLES if options.table is None else (options.table,)
    print(FORMATS[options.format](audit(tables)))
    return DONE


def _averages(options: argparse.Namespace) -> int:
    checks = [
        check for name in ("table2", "table5") for check in check_averages(published.load(name))
    ]
    wrong = [check for check in checks if not check.follows]
    rows = [
        [
            check.table,
            check.method,
            WHAT[check.average],
            str(check.printed),
            f"{float(check.recomputed):.3f}",
            check.verdict.value,
        ]
        for check in (checks if options.all else wrong)
    ]
    headers = ["table", "row", "average of", "printed", "recomputed", "verdict"]
    print(tabulate(rows, headers, disable_numparse=True))
    print(f"\n{len(wrong)} of {len(checks)} printed averages do not follow from their cells")
    return DONE


WHAT = {"average": "the group means", "all_set_average": "all tasks"}
AUDITS = {"params": _params, "averages": _averages}
