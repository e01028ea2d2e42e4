"""The command line of the audits: ``python -m reports audit [averages | deltas | params | flops]``."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from benchmarks.harness.errors import DONE, unknown

AUDITS = {
    "averages": "printed averages: recomputed from the cells beside them (Tables 2 to 5)",
    "deltas": "numbers printed in two places, and in the text: held against each other",
    "params": "trainable parameters: printed, counted on networks without weights, and as a formula",
    "flops": "Table 6's FLOPs: by arithmetic",
}
"""In the order in which they run; each is the module of its name."""


def add_to(commands: Any) -> None:
    """Add ``audit`` to the commands of a parser."""
    parser = commands.add_parser(
        "audit",
        help="hold the paper's numbers against arithmetic, and against each other",
        description=(
            "What in the paper's tables does not add up: without names all audits, and a summary, which is "
            "reports/AUDIT.md. A finding is no error (exit code 0). "
            + " ".join(f"{name}: {words}." for name, words in AUDITS.items())
        ),
    )
    parser.add_argument("audits", nargs="*", metavar="AUDIT", help=f"of: {', '.join(AUDITS)}")
    parser.add_argument(
        "--format",
        choices=("markdown", "csv"),
        default="markdown",
        help="default: markdown; csv has a line for each value that was looked at",
    )


def run(options: argparse.Namespace) -> int:
    """Run the audits that were asked for, or all, and print what they say."""
    # Late: pandas and more, which the parser of the other commands does not need.
    from reports.audit import check

    for name in options.audits:
        if name not in AUDITS:
            raise unknown("audit", name, AUDITS, "python -m reports audit --help")
    names = options.audits or list(AUDITS)
    listings = [import_module(f"reports.audit.{name}").listing() for name in names]
    checks = [one for listing in listings for one in listing.checks]
    if options.format == "csv":
        print(check.as_csv(checks))
    else:
        listings += [check.summary(checks)] if len(names) > 1 else []
        print("\n\n".join(map(check.markdown, listings)))
    return DONE
