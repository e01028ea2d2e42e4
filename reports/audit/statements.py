"""Numbers that the text states of its tables: section 4.2 of Table 2, section 5.3 of Table 6."""

from __future__ import annotations

from decimal import Decimal

from reports import published
from reports.audit.comparison import SUM, Delta, Place, hold, row_of
from reports.published import parse_printed

MEAN_GAIN = "0.7"
"""Section 4.2: of LoRA, for both averages of Table 2."""
GAINS = ("0.2", "0.4")
TIMES = ("14", "34")
MEMORY = "0.6"
"""Section 5.3: least and most gain, least and most time (%), most memory (GB) over the rows of Table 6."""

PENALISED = "lora-r8+linear"


def deltas() -> tuple[Delta, ...]:
    """Hold what the text states against the table that it states it of."""
    row = row_of(published.load("table2"), PENALISED)
    averages = {"average": row.average, "all_set_average": row.all_set_average}
    of_table2 = [
        hold(
            Place("section 4.2", PENALISED, what, ""),
            MEAN_GAIN,
            value,
            source=f"Table 2, {PENALISED}",
        )
        for what, value in averages.items()
    ]
    return (*of_table2, *_of_table6())


def _of_table6() -> list[Delta]:
    cells = published.load_costs("table6").cells
    penalised = [method for method in cells if "+" in method]
    gains = [parse_printed(cells[method]["accuracy"]) for method in penalised]
    times = [Decimal(cells[method]["time"]) for method in penalised]
    memory = [_memory(cells[method]) - _memory(cells[_base(method)]) for method in penalised]
    least, most = (f"{one} of {len(penalised)} rows" for one in ("least", "most"))
    return [
        hold(_place("accuracy", "least"), GAINS[0], min(gains), source=f"Table 6: {least}"),
        hold(_place("accuracy", "most"), GAINS[1], max(gains), source=f"Table 6: {most}"),
        hold(_place("time", "least"), TIMES[0], min(times), source=f"Table 6: {least}"),
        hold(_place("time", "most"), TIMES[1], max(times), source=f"Table 6: {most}"),
        hold(
            _place("memory_gb", "most"),
            MEMORY,
            max(memory),
            source=f"Table 6: {most}, over its base",
            tolerance=SUM,
        ),
    ]


def _place(what: str, which: str) -> Place:
    return Place("section 5.3", f"{which} of all", what, "")


def _base(method: str) -> str:
    return method.partition("+")[0]


def _memory(cells: dict[str, str]) -> Decimal:
    return Decimal(cells["memory_gb"])
