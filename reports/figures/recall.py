"""Recall of every method of a half of Table 1: one line a method."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.harness.cell import parse_method
from reports.figures.style import GREY, STYLE, head, legend_below, say_no_record
from reports.figures.trade_off import KINDS, PENALISED
from reports.retrieval import spread_of
from reports.tables import TableData

METRIC = "rsum"


@mpl.rc_context(STYLE)
def recall_by_method(data: TableData) -> Figure:
    """Rsum of each method: mean over seeds, bars ± std, the seeds themselves as small dots."""
    rows = [row for row in data.rows if row.is_in_suite]
    figure = Figure(figsize=(7.2, 1.6 + 0.26 * max(1, len(rows))), layout="constrained")
    panel = figure.subplots()
    labelled: set[str] = set()
    for y, row in enumerate(rows):
        spread = spread_of(data, row.method, METRIC)
        if spread is None:
            continue
        kind = KINDS.get(parse_method(row.method).suffix or "", PENALISED)
        label = None if kind["label"] in labelled else kind["label"]
        labelled.add(kind["label"])
        panel.errorbar(spread.mean, y, xerr=spread.std or 0.0, lw=1, **(kind | {"label": label}))
        panel.plot(_seeds(data, row.method), [y] * spread.n, ".", color=GREY, ms=3, alpha=0.8)
        panel.annotate(
            f"{spread.mean:.1f}", (1, y), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    if not labelled:
        panel.set_xticks([])
        say_no_record(panel)
    else:
        panel.set_yticks(range(len(rows)), [row.method for row in rows])
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_xlabel("Rsum, %")
        panel.grid(axis="x", color="#eeeeee")
    legend_below(figure)
    head(
        figure, data, f"Rsum on {data.grid.benchmark.name}: mean over seeds, bars ± std where n > 1"
    )
    return figure


def _seeds(data: TableData, method: str) -> list[float]:
    benchmark = data.grid.benchmark
    factor = next(one.factor for one in benchmark.metrics if one.name == METRIC)
    rule = benchmark.selections[0]
    values = [record["metrics"][METRIC][rule] for record in data.grid.records(method)]
    return [factor * value for value in values if value is not None]
