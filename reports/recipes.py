"""What to expect of each recipe: run time, memory and score, from the records; for benchmarks/README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.harness.registry import BENCHMARKS

if TYPE_CHECKING:
    from reports.scale import Scale

COST = {"seconds": "total_seconds", "bytes": "peak_process_memory_bytes"}


def table(scale: Scale) -> str:
    """Return a Markdown table: a row for each benchmark, backbone and method with a record that counts.

    The score is the mean over tasks of the mean over seeds of the primary metric, by the primary rule.
    """
    frame = scale.records.frame
    trained = [name for name, one in BENCHMARKS.items() if not one.is_timed]
    frame = frame[frame.benchmark.isin(trained) & frame.declared & frame.value.notna()]
    rows = []
    for (benchmark, backbone, method), of in frame.groupby(
        ["benchmark", "backbone", "method"], observed=True
    ):
        declared = BENCHMARKS[benchmark]
        metric, rule = declared.metrics[0], declared.selections[0]
        scores = of[(of.quantity == metric.name) & (of.rule == rule)]
        if scores.empty:
            continue
        seconds, memory = (of[of.quantity == name].value for name in COST.values())
        score = scores.groupby("task", observed=True).value.mean().mean()
        rows.append(
            {
                "recipe": f"`{benchmark}/{backbone}/*/{method}`",
                "cells": str(len(scores)),
                "seconds a cell": f"{seconds.median():.0f}",
                "minutes in all": f"{seconds.sum() / 60:.0f}",
                "memory (MiB)": f"{memory.median() / 2**20:.0f}",
                "score": f"{score:.1f}",
                "of": f"{metric.label}, %, {rule.replace('_', ' ')}",
            }
        )
    if not rows:
        return ""
    shown = pd.DataFrame(rows)
    align = ["left", *["right"] * (len(shown.columns) - 2), "left"]
    text: str = shown.to_markdown(index=False, disable_numparse=True, colalign=align)
    return f"{text}\n\n"
