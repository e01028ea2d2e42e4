"""One HTML page with every table and figure of a scale; nothing is loaded from anywhere.

Without its script the page has all tables, numbers and figures; with it tables sort and filter.
"""

from __future__ import annotations

import math
import os
import statistics
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.record import primary_value
from benchmarks.harness.registry import BENCHMARKS
from reports.comparable import caveat
from reports.page import HOLE, Block, Column, Entry, Page, Row
from reports.records import Grid, Records
from reports.render import TEMPLATES, templates
from reports.rivals import CONTROL
from reports.scale import Scale
from reports.table import Part

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 740, 16, 370
NAME = 75
"""Width of a name, about."""
ROOM = 0.06
"""Kept free at each end of an axis, as a part of it."""


def render(
    scale: Scale,
    pages: Sequence[tuple[str, Page]],
    figures: Iterable[tuple[str, str, bytes]],
    folder: Path,
) -> str:
    """Lay out a scale.

    Args:
        scale: Its tables.
        pages: These and others, by name.
        figures: Name, caption and SVG.
        folder: Where the page will lie: its links to records start there.
    """
    part = scale.parts.get("table2")
    records = _records(scale)
    return (
        templates("html")
        .get_template("page.html.j2")
        .render(
            title=f"ReSoRA Bench: tables and figures at scale {scale.records.scale}",
            style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
            script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
            warnings=list(dict.fromkeys(page.warning for _, page in pages if page.warning)),
            holes=len(scale.holes),
            pages=pages,
            plots=[plot for plot in _plots(part) if plot] if part else [],
            figures=[
                {"name": name, "caption": caption, "svg": b64encode(svg).decode()}
                for name, caption, svg in figures
            ],
            groups=_headings(pages, lambda column: column.group),
            tasks=_headings(pages, lambda column: column.group and column.title.replace("\n", " ")),
            records=records,
            recorded={name for name, of in records for name in (name, *(place for place, _ in of))},
            root=Path(os.path.relpath(scale.records.results, folder)).as_posix(),
        )
    )


def _headings(pages: Sequence[tuple[str, Page]], of: Any) -> list[str]:
    columns = (c for _, page in pages for block in page.ours for c in block.columns)
    return list(dict.fromkeys(filter(None, map(of, columns))))


Seeds = list[dict[str, str]]


def _records(scale: Scale) -> list[tuple[str, list[tuple[str, Seeds]]]]:
    """The records behind the tables: by method, then by task, each seed's file and hash."""
    found: dict[str, dict[str, Seeds]] = {}
    seen = set()
    behind = [one for of in scale.tables.values() for part in of.parts for one in part.behind]
    for one in (*behind, *(one for of in scale.records.undeclared.values() for one in of)):
        if one.record is None or one.path in seen:
            continue
        seen.add(one.path)
        cell = one.cell
        method = f"{cell.benchmark}/{cell.backbone}//{cell.method}"
        seed = {"path": one.path, "sha256": one.record["record_sha256"]}
        found.setdefault(method, {}).setdefault(_place(cell), []).append(seed)
    return [(method, list(places.items())) for method, places in found.items()]


def _place(cell: Cell) -> str:
    return f"{cell.benchmark}/{cell.backbone}/{cell.task}/{cell.method}"


def undeclared(records: Records) -> Page | None:
    """The records that no benchmark declares, such as those of another rank; None if there are none."""
    rows = []
    for name, found in records.undeclared.items():
        metric = BENCHMARKS[name].metrics[0]
        for one in found:
            value, said = None, one.reason or ""
            if one.record:
                value, said = primary_value(one.record), caveat(one.record) or ""
            shown = HOLE if value is None else f"{metric.factor * value:.{metric.digits}f}"
            number = Entry(shown, value=value, cell=_place(one.cell))
            rows.append(Row(str(one.cell), (number, Entry(metric.label), Entry(said))))
    if not rows:
        return None
    columns = tuple(map(Column, ("value", "of", "remark")))
    block = Block(title="Each record", corner="cell", columns=columns, rows=tuple(rows))
    legend = "No table, figure or claim takes them, and they are no holes; reports.load() has them."
    title = f"Records that no benchmark declares · scale {records.scale}"
    return Page(title=title, legend=(legend,), ours=(block,))


# Accuracy over what it costs, with the Pareto front


def _plots(part: Part) -> Iterable[dict[str, Any] | None]:
    sizes = {row: part.value(row, "params_m", "trainable_without_head") for row in part.in_suite}
    yield _plot(
        part,
        "pareto-params",
        "Accuracy over trainable parameters",
        {row: 1e3 * size for row, size in sizes.items() if size is not None},
        "trainable parameters without the head, thousands",
        "The dashed line is the Pareto front: no method has fewer parameters and a higher mean. "
        "Blue: stage 2 with a penalty; hollow: without.",
    )
    yield _plot(
        part,
        "pareto-seconds",
        "Accuracy over seconds a step",
        {row: seconds for row in part.in_suite if (seconds := step_seconds(part.grid, row))},
        "seconds a training step, median over the records",
        "As the cells ran, on the machine and with the shortcuts of their records (kept features, cells side "
        "by side): a rough measure; the tables of costs are the fair one.",
    )


def step_seconds(grid: Grid, method: str) -> float | None:
    """Seconds of a training step, median over a method's records; None if they do not say."""
    found = []
    for record in grid.records(method):
        counts, config = record["counts"], record["config"]
        stage = config.get("stage2") or config.get("stage1") or {}
        seconds, batch = record["cost"].get("train_seconds"), stage.get("batch_size")
        images, epochs = counts.get("n_seen_per_epoch"), counts.get("epochs")
        if seconds and batch and images and epochs:
            found.append(seconds / (epochs * math.ceil(images / batch)))
    return statistics.median(found) if found else None


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names that no other beats: none has both a lower x and a higher y. From left to right."""
    front: list[str] = []
    best = -math.inf
    for name, (_, y) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if y > best:
            front.append(name)
            best = y
    return front


def _plot(
    part: Part, name: str, title: str, costs: Mapping[str, float], x_label: str, caption: str
) -> dict[str, Any] | None:
    means = {row: part.at(row, "mean", "all_set_average") for row in costs}
    at = {
        row: (costs[row], found.value)
        for row, found in means.items()
        if found is not None and found.value is not None
    }
    if not at:
        return None
    least = min((x for x, _ in at.values() if x > 0), default=1.0)
    # A method without parameters stands left of all that have some.
    logs = {row: math.log10(x if x > 0 else least / 3) for row, (x, _) in at.items()}
    x_of = _axis(list(logs.values()), LEFT, RIGHT)
    y_of = _axis([y for _, y in at.values()], BOTTOM, TOP)
    front = pareto_front(at)
    named = _apart({row: x_of(logs[row]) for row in front})
    points = []
    for row, (x, y) in at.items():
        suffix = parse_method(row).suffix
        found = means[row]
        std = f" ± {found.std:.1f}" if found and found.std is not None else ""
        points.append(
            {
                "name": row,
                "x": round(x_of(logs[row]), 1),
                "y": round(y_of(y), 1),
                "kind": "control" if suffix == CONTROL else "penalty" if suffix else "base",
                "is_named": row in named,
                "text": f"{row}: {y:.1f}{std} at {x:.3g}",
            }
        )
    places = {point["name"]: (point["x"], point["y"]) for point in points}
    low, high = min(logs.values()), max(logs.values())
    powers = [10.0**p * m for p in range(-6, 9) for m in (1, 2, 5)]
    x_ticks = [
        (round(x_of(math.log10(v)), 1), f"{v:g}") for v in powers if low <= math.log10(v) <= high
    ]
    if any(x <= 0 for x, _ in at.values()):
        x_ticks.insert(0, (round(x_of(low), 1), "0"))
    heights = [y for _, y in at.values()]
    step = max(1, round((max(heights) - min(heights)) / 6))
    ys = range(math.ceil(min(heights)), math.floor(max(heights)) + 1, step)
    return {
        **{"id": name, "title": title, "caption": caption, "x_label": x_label, "points": points},
        **{"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT},
        **{"top": TOP, "bottom": BOTTOM, "y_label": "top-1, mean of all tasks, %"},
        "front": [places[row] for row in front],
        "x_ticks": x_ticks,
        "y_ticks": [(round(y_of(y), 1), f"{y:g}") for y in ys],
    }


def _apart(places: Mapping[str, float]) -> set[str]:
    """The names that have room to be written beside each other; all are under the pointer."""
    named: set[str] = set()
    last = -math.inf
    for name, x in places.items():
        if x - last >= NAME:
            named.add(name)
            last = x
    return named


def _axis(values: Sequence[float], start: float, end: float) -> Any:
    """Map values to places between two ends of a plot, with room at both."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    low, span = low - ROOM * span, span * (1 + 2 * ROOM)
    return lambda value: start + (end - start) * (value - low) / span
