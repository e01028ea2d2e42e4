"""Tables of the paper, or parts of them, that no benchmark feeds at a scale: every number of ours a hole.

A benchmark that joins the registry with a table of that name takes its part over.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterator, Sequence

from benchmarks.harness.registry import BENCHMARKS
from reports import sources
from reports.cost import blocks as cost
from reports.grid import CONTROL, control_of
from reports.layouts import Report
from reports.page import HOLE, NOTHING, Block, Column, Entry, Page
from reports.parts import printed
from reports.published.costs import load_costs
from reports.published.parts import Part, load_parts
from reports.retrieval import FIELDS

PARTED, COSTS = ("table1",), ("table6",)
TABLES = (*PARTED, *COSTS)


def reports(scale: str, fed: Container[str]) -> Iterator[Report]:
    """Report what the paper printed in the tables that are not ``fed``, beside holes."""
    for name in PARTED:
        parts = [part for part in load_parts(name).parts if part.benchmark not in BENCHMARKS]
        if parts:
            yield _parted(name, scale, parts)
    for name in COSTS:
        if name not in fed:
            yield _costs(name, scale)


def _parted(name: str, scale: str, parts: Sequence[Part]) -> Report:
    number = name.removeprefix("table")
    absent = " and ".join(part.benchmark for part in parts)
    what = "this benchmark is" if len(parts) == 1 else "these benchmarks are"
    return Report(
        name=name,
        data=None,
        page=Page(
            title=f"Table {number} · scale {scale}",
            warning=None,
            legend=(
                f"Rows of the paper's Table {number}. {absent}: {what} not in the suite yet, so every "
                "number of ours is a hole.",
                "Recalls at 1 and their sum over both directions and ranks 1, 5, 10 (Rsum), in %. Memory in "
                "GB, as the paper's training used it.",
                f"Δ: change of Rsum over the stage-1 method (base) and over stage 2 without the penalty "
                f"({CONTROL}). {HOLE} no record.",
            ),
            ours=tuple(map(_ours, parts)),
            paper=tuple(map(printed, parts)),
            notes=(),
        ),
        csv=_csv(name, scale, parts),
        sources=",".join(sources.FIELDS) + "\n",
        holes=(),
        absent=absent,
    )


def _ours(part: Part) -> Block:
    measured = [column for column in part.columns if column != "params_m"]
    titles = ["params\n(M)", *(part.columns[column] for column in measured)]
    columns = (*map(Column, titles), Column("Δ base"), Column("Δ control"), Column("paper\nRsum"))
    rows = []
    for method in _methods(part):
        paper_row = part.row(method)
        deltas = Entry(HOLE) if "+" in method else Entry(NOTHING)
        control = Entry(HOLE) if control_of(method) else Entry(NOTHING)
        paper = Entry(paper_row.cells["rsum"] if paper_row else NOTHING)
        rows.append((method, (*(Entry(HOLE),) * len(titles), deltas, control, paper)))
    return Block(
        title=f"Ours: {part.benchmark} on {part.backbone}",
        corner="method",
        columns=columns,
        rows=tuple(rows),
    )


def _methods(part: Part) -> list[str]:
    """The rows of a part, and the control beside each row with a penalty."""
    methods = [row.method for row in part.rows]
    controls = [found for method in methods if (found := control_of(method))]
    return [*methods, *controls]


def _csv(name: str, scale: str, parts: Sequence[Part]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    for part in parts:
        for method in _methods(part):
            paper_row = part.row(method)
            for column in part.columns:
                writer.writerow(
                    {
                        "table": name,
                        "scale": scale,
                        "benchmark": part.benchmark,
                        "backbone": part.backbone,
                        "method": method,
                        "quantity": column,
                        "n": 0,
                        "paper_printed": paper_row.cells[column] if paper_row else "",
                        "states": "not in the suite",
                    }
                )
    return text.getvalue()


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
