"""Recall of every method of a half of Table 1: one line a method."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.harness.cell import parse_method
from reports.figures.style import GREY, STYLE, head, legend_below, say_no_record
from reports.figures.trade_off import KINDS, PENALISED
from reports.table import Part

METRIC = "rsum"


@mpl.rc_context(STYLE)
def recall_by_method(data: Part) -> Figure:
    """Rsum of each method: mean over seeds, bars ± std, the seeds themselves as small dots."""
    rows = data.in_suite
    figure = Figure(figsize=(7.2, 1.6 + 0.26 * max(1, len(rows))), layout="constrained")
    panel = figure.subplots()
    labelled: set[str] = set()
    for y, row in enumerate(rows):
        found = data.at(row, METRIC)
        if found is None or found.value is None:
            continue
        kind = KINDS.get(parse_method(row).suffix or "", PENALISED)
        label = None if kind["label"] in labelled else kind["label"]
        labelled.add(kind["label"])
        panel.errorbar(found.value, y, xerr=found.std or 0.0, lw=1, **(kind | {"label": label}))
        seeds = list(data.grid.values(row)[data.grid.benchmark.tasks[0].name].values())
        panel.plot(seeds, [y] * len(seeds), ".", color=GREY, ms=3, alpha=0.8)
        panel.annotate(
            f"{found.value:.1f}", (1, y), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    if not labelled:
        panel.set_xticks([])
        say_no_record(panel)
    else:
        panel.set_yticks(range(len(rows)), rows)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_xlabel("Rsum, %")
        panel.grid(axis="x", color="#eeeeee")
    legend_below(figure)
    head(
        figure, data, f"Rsum on {data.grid.benchmark.name}: mean over seeds, bars ± std where n > 1"
    )
    return figure
