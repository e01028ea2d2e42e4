"""Claims about time and memory, judged from the cost benchmark at the published size, on a GPU.

They are of the rows of the paper's Table 6, LoRA at r = 2 and DTL, and of one form of the penalty
(``benchmarks/cost/spec.py``): which one a claim is judged by stands in the data, and the numbers of the
other forms beside it. On another device than a GPU the numbers are about another machine than the paper's,
and judge nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cost.spec import BASELINE, CONTROL, SYMBOLS
from benchmarks.harness.record import Record
from benchmarks.harness.registry import BENCHMARKS
from reports.claims.judging import Judged, Verdict, filling, missing_cells
from reports.records import Records, read

SCALE = "paper"
JUDGED = ("lora-r2", "dtl-r2")
"""The networks; DTL by one of its sizes, which a GPU has measured."""

GIB = 2**30
FORMS = {"closed": "closed form", "literal": "as printed", "maps": "by d × d maps"}


def judge(records: Records, how: Mapping[str, Any]) -> Judged:
    """Judge a claim on time, memory, or which penalty is the cheapest.

    Args:
        records: Those of any scale; the costs are read from beside them, if they are of another one.
        how: ``quantity``: ``time``, ``memory`` or ``cheapest``; ``most``: the limit of the first two;
            ``form``: the form of the penalty that is judged.
    """
    cost = BENCHMARKS["cost"]
    if records.scale != SCALE:
        only = {("cost", cost.scales[SCALE].backbones[0]): cost.methods}
        records = read(records.results, SCALE, only=only, drafts=records.drafts)
    grid = records.grid("cost")
    found = [record for method in JUDGED for record in grid.records(method)]
    on_gpu = [record for record in found if record["hardware"]["gpu"]]
    numbers = tuple(_line(record, how) for record in on_gpu or found)
    if found and not on_gpu:
        numbers += ("no record of a GPU, which the paper's numbers are of",)
    verdict, judged = verdict_of(on_gpu, how)
    missing = missing_cells(grid, JUDGED)
    return Judged(
        verdict=verdict,
        numbers=numbers,
        n_pairs=judged,
        missing=missing,
        is_lacking=verdict is Verdict.NOT_RUN,
        command=filling(grid, missing),
        is_draft=grid.has_drafts,
    )


def verdict_of(on_gpu: Sequence[Record], how: Mapping[str, Any]) -> tuple[Verdict, int]:
    """Judge the records of the networks that the paper has; not run if one of these is lacking."""
    found = [
        (record["cell"]["method"], _by_penalty(record, how["quantity"], how["form"]))
        for record in on_gpu
    ]
    whole = [
        (method, by_penalty) for method, by_penalty in found if len(by_penalty) == len(SYMBOLS)
    ]
    if {method for method, _ in whole} != set(JUDGED):
        return Verdict.NOT_RUN, len(whole)
    holds = all(_holds(by_penalty, how) for _, by_penalty in whole)
    return Verdict.SUPPORTED if holds else Verdict.CONTRADICTED, len(whole)


def _holds(by_penalty: Mapping[str, float], how: Mapping[str, Any]) -> bool:
    if how["quantity"] == "cheapest":
        return min(by_penalty, key=lambda name: by_penalty[name]) == "euclidean"
    return max(by_penalty.values()) <= float(how["most"])


def _line(record: Record, how: Mapping[str, Any]) -> str:
    cell, quantity = record["cell"], how["quantity"]
    digits = 2 if quantity == "memory" else 1
    forms = [how["form"]] if quantity == "cheapest" else FORMS
    shown = [
        f"{FORMS[form]} {', '.join(f'{SYMBOLS[name]} {v:+.{digits}f}' for name, v in found.items())}"
        for form in forms
        if (found := _by_penalty(record, quantity, form))
    ]
    again = _ratio(record, f"step_ratio/{CONTROL}")
    if quantity == "time" and again is not None:
        shown.append(f"the step without a penalty again {again:+.1f}")
    if quantity == "cheapest" and (own := _own(record)):
        shown.append(f"the closed form alone, % of a step: {own}")
    machine = record["hardware"]["gpu"] or record["hardware"]["cpu"]
    unit = "GB more" if quantity == "memory" else "% more time"
    return f"{cell['method']}, {cell['task']} on {machine}, {unit}: {'; '.join(shown)}"


def _by_penalty(record: Record, quantity: str, form: str) -> dict[str, float]:
    """What a step with each penalty takes beyond one without, in the unit of the claim."""
    if quantity != "memory":
        ratios = {name: _ratio(record, f"step_ratio/{form}-{name}") for name in SYMBOLS}
        return {name: value for name, value in ratios.items() if value is not None}
    counts = record["cost"]["by_variant"]
    base = counts[BASELINE]["peak_memory_bytes"]
    peaks = {name: counts.get(f"{form}-{name}", {}).get("peak_memory_bytes") for name in SYMBOLS}
    return {name: (peak - base) / GIB for name, peak in peaks.items() if peak is not None}


def _ratio(record: Record, name: str) -> float | None:
    """The percentage beyond 100; None where it was not measured."""
    median = (record["metrics"].get(name) or {}).get("median")
    return None if median is None else 100 * (float(median) - 1)


def _own(record: Record) -> str:
    found = {name: record["metrics"].get(f"own_share/closed-{name}") for name in SYMBOLS}
    return ", ".join(
        f"{SYMBOLS[name]} {100 * own['median']:.2f}"
        for name, own in found.items()
        if own and own["median"] is not None
    )
