"""Figures from the same numbers as the tables, as PNG and SVG, with the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from reports.figures.curves import stage2
from reports.figures.few_shot import accuracy_over_shots, gain_over_shots
from reports.figures.gains import gains_by_task
from reports.figures.matrix import redundancy_matrix
from reports.figures.overview import accuracy_by_task, redundancy
from reports.figures.recall import recall_by_method
from reports.figures.style import COLOURS, STYLE, encode
from reports.figures.trade_off import cost_accuracy, redundancy_accuracy
from reports.table import Part

__all__ = ["COLOURS", "FIGURES", "STYLE", "Drawn", "draw"]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure that was drawn: its name, caption, and bytes by format."""

    name: str
    caption: str
    encoded: dict[str, bytes]


@dataclass(frozen=True)
class Declared:
    """A figure: its name, its caption, the tables whose numbers it draws, and how."""

    name: str
    caption: str
    tables: tuple[str, ...]
    draw: Callable[..., Figure]


FIGURES = (
    Declared(
        "figure1a",
        "Figure 1 (a): redundancy between the subspaces of the last block's query matrix on SVHN.",
        ("table2",),
        redundancy_matrix,
    ),
    Declared(
        "figure1b",
        "Figure 1 (b): gain of the penalty by task, over stage 1 and over stage 2 without the penalty.",
        ("table2",),
        gains_by_task,
    ),
    Declared(
        "figure3", "Figure 3: few-shot accuracy over shots.", ("few_shot",), accuracy_over_shots
    ),
    Declared(
        "figure4",
        "Figure 4: test accuracy over stage 2, with and without the penalty.",
        ("table2",),
        stage2,
    ),
    Declared("table1_flickr30k", "Recall on Flickr30K.", ("table1_flickr30k",), recall_by_method),
    Declared("table1_msrvtt", "Recall on MSR-VTT.", ("table1_msrvtt",), recall_by_method),
    Declared("few_shot_gain", "Gain of the penalty over shots.", ("few_shot",), gain_over_shots),
    Declared("accuracy_by_task", "Accuracy by method and task.", ("table2",), accuracy_by_task),
    Declared("redundancy", "Redundancy after training, by method.", ("table5",), redundancy),
    Declared("cost_accuracy", "Accuracy against trainable parameters.", ("table2",), cost_accuracy),
    Declared(
        "redundancy_accuracy",
        "Accuracy against redundancy after training.",
        ("table2", "table5"),
        redundancy_accuracy,
    ),
)


def draw(tables: Mapping[str, Part], formats: Iterable[str]) -> Iterator[Drawn]:
    """Draw every figure whose tables are there, in these formats."""
    for one in FIGURES:
        if all(name in tables for name in one.tables):
            figure = one.draw(*(tables[name] for name in one.tables))
            yield Drawn(name=one.name, caption=one.caption, encoded=encode(figure, formats))
