"""What all figures share: colours, encoding, the heading that says what the numbers are."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from textwrap import fill
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.record import Record
from reports.blocks import warning
from reports.tables import Row, TableData

# Okabe and Ito's colours, told apart with every common kind of colour blindness.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#888888")
BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GREY = COLOURS
STYLE: Any = {
    "svg.hashsalt": "resora",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
FORMATS: dict[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None}}
PENALTIES = ("linear", "nonlinear", "euclidean", "cosine")
NO_RECORD = "no record"


def encode(figure: Figure) -> dict[str, bytes]:
    """The figure's bytes by format; nothing in them depends on when they are made."""
    encoded = {}
    for suffix, metadata in FORMATS.items():
        target = io.BytesIO()
        with mpl.rc_context(STYLE):
            figure.savefig(target, format=suffix, metadata=metadata, dpi=150)
        encoded[suffix] = target.getvalue()
    return encoded


def head(figure: Figure, data: TableData, title: str) -> None:
    """Write above a figure what it shows, and what its numbers must not be taken for."""
    text = fill(
        f"{title} · scale {data.grid.scale.name}, {data.grid.backbone}", _characters(figure)
    )
    if caution := warning(data):
        text += "\n" + fill(caution, _characters(figure))
    if data.grid.has_drafts:
        text += "\nDRAFT: some of the records are not final."
    figure.suptitle(text, fontsize=9)


def _characters(figure: Figure) -> int:
    return int(figure.get_figwidth() * 14)


def say_no_record(panel: Axes, text: str = NO_RECORD) -> None:
    """Write in the middle of a panel that there is nothing to draw, and take its scale away."""
    panel.set_yticks([])
    panel.text(
        0.5, 0.5, text, ha="center", va="center", color=GREY, fontsize=8, transform=panel.transAxes
    )


def measured(rows: Iterable[Row]) -> list[Row]:
    """The rows that have any number."""
    return [row for row in rows if any(cell.spread for cell in row.cells.values())]


def redundancy_at_end(record: Record) -> float | None:
    """The redundancy over all adapted matrices at the end of the cell's training."""
    found = record["redundancy"]
    value: float | None = found["end"]["mean"] if found else None
    return value


def redundancy_of_tasks(records: Iterable[Record]) -> list[float]:
    """The mean over seeds of each task that has a record."""
    by_task: dict[str, list[float]] = {}
    for record in records:
        value = redundancy_at_end(record)
        if value is not None:
            by_task.setdefault(record["cell"]["task"], []).append(value)
    return [math.fsum(values) / len(values) for values in by_task.values()]
