"""The command line of the audits: ``python -m reports audit params``."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.harness.errors import DONE
from reports.audit.layout import FORMATS
from reports.audit.params import TABLES, audit


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


def run(options: argparse.Namespace) -> int:
    """Run the audit that was asked for and print it."""
    return AUDITS[options.audit](options)


def _params(options: argparse.Namespace) -> int:
    tables = TABLES if options.table is None else (options.table,)
    print(FORMATS[options.format](audit(tables)))
    return DONE


AUDITS = {"params": _params}
