"""Tables of the paper that no benchmark feeds at a scale: what the paper printed, and nothing of ours."""

from __future__ import annotations

from collections.abc import Container, Iterator

from benchmarks.harness.registry import BENCHMARKS
from reports import sources
from reports.cost import blocks as cost
from reports.layouts import Report
from reports.page import Page
from reports.published.costs import load_costs
from reports.retrieval import FIELDS

COSTS = ("table6",)


def reports(scale: str, fed: Container[str]) -> Iterator[Report]:
    """Report what the paper printed in the tables that are not ``fed``."""
    for name in COSTS:
        if name not in fed:
            yield _costs(name, scale)


def _costs(name: str, scale: str) -> Report:
    benchmark = next(
        one for one in BENCHMARKS.values() if any(table.name == name for table in one.tables)
    )
    return Report(
        name=name,
        data=None,
        page=Page(
            title=f"Table {name.removeprefix('table')} · scale {scale}",
            warning=None,
            legend=(
                f"Ours: {benchmark.name} is measured at scale {' and '.join(benchmark.scales)}, not here.",
            ),
            ours=(),
            paper=(cost.printed(load_costs(name), name),),
            notes=(),
        ),
        csv=",".join(FIELDS) + "\n",
        sources=",".join(sources.FIELDS) + "\n",
        holes=(),
    )
