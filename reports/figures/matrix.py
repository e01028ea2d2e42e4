"""Figure 1 (a): how much the subspaces of one matrix overlap, without and with the penalty."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.record import Record
from reports.figures.style import STYLE, head, say_no_record
from reports.table import Part

TASK = "svhn"
PANELS = {
    "lora-r8": "LoRA (stage 1)",
    "lora-r8+control": "stage 2 without penalty",
    "lora-r8+linear": "stage 2 with $R_l$ (ReSoRA)",
}
"""The methods side by side, with their headings."""
QUERY = re.compile(r"\.q$|query|q_proj")


@mpl.rc_context(STYLE)
def redundancy_matrix(data: Part) -> Figure:
    """cos^2 between the subspaces of the last block's query matrix on SVHN, mean over seeds."""
    figure = Figure(figsize=(9.6, 3.7), layout="constrained")
    panels = figure.subplots(1, len(PANELS))
    seeds = {method: _pairs(data.grid.records(method)) for method in PANELS}
    found = {method: _mean(pairs) for method, pairs in seeds.items()}
    top = max((max(pairs) for pairs in found.values() if pairs), default=1.0)
    image = None
    for panel, (method, title) in zip(panels, PANELS.items(), strict=True):
        pairs = found[method]
        if not pairs:
            panel.set_title(title, fontsize=9)
            panel.set_xticks([])
            panel.set_yticks([])
            say_no_record(panel, "no record with pairs")
            continue
        image = _matrix(panel, _square(pairs), top)
        mean = math.fsum(pairs) / len(pairs)
        panel.set_title(f"{title}\nmean over pairs {mean:.3f}", fontsize=9)
        panel.set_xlabel(f"subspace (n = {len(seeds[method])})")
    if image is not None:
        figure.colorbar(image, ax=panels, label="cos² between activations", shrink=0.85)
    label = next((task.label for task in data.grid.benchmark.tasks if task.name == TASK), TASK)
    head(figure, data, f"Redundancy of the last block's query matrix on {label}: mean over seeds")
    return figure


def _pairs(records: Sequence[Record]) -> list[list[float]]:
    """cos^2 by pair, of each seed that has them."""
    seeds = []
    for record in records:
        if record["cell"]["task"] == TASK and record["redundancy"]:
            seeds.append(_of_query(record["redundancy"]["end"].get("pairs_in_last_block", {})))
    return [pairs for pairs in seeds if pairs]


def _mean(seeds: Sequence[Sequence[float]]) -> list[float]:
    """The mean over seeds of each pair; nothing without a seed."""
    return [math.fsum(values) / len(values) for values in zip(*seeds, strict=True)]


def _of_query(pairs: Mapping[str, list[float]]) -> list[float] | None:
    names = [name for name in pairs if QUERY.search(name)] or list(pairs)
    return pairs[names[0]] if names else None


def _square(pairs: Sequence[float]) -> npt.NDArray[np.float64]:
    """The symmetric matrix of pairs that are given row by row; a subspace with itself is left out."""
    rank = (1 + math.isqrt(1 + 8 * len(pairs))) // 2
    matrix = np.full((rank, rank), np.nan)
    matrix[np.triu_indices(rank, 1)] = pairs
    return np.where(np.isnan(matrix), matrix.T, matrix)


def _matrix(panel: Axes, matrix: npt.NDArray[np.float64], top: float) -> mpl.image.AxesImage:
    image = panel.imshow(matrix, cmap="cividis", vmin=0, vmax=top)
    rank = len(matrix)
    numbers = [str(number) for number in range(1, rank + 1)]
    panel.set_xticks(range(rank), numbers)
    panel.set_yticks(range(rank), numbers)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    for (y, x), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if value < 0.55 * top else "black"
            text = f"{value:.2f}".removeprefix("0")
            panel.text(x, y, text, ha="center", va="center", color=colour, fontsize=6.5)
    return image
