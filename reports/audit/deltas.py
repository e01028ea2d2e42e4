"""Numbers that the paper prints in two places, held against each other: Tables 2, 4, 5 and 6, and the rest.

Table 2 prints its rows with ReSoRA as changes, Tables 4 and 5 as accuracies, Table 6 as changes again.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from reports import published
from reports.audit import copies, statements
from reports.audit.averages import GROUPS, mean, recompute
from reports.audit.check import row_of_table6
from reports.audit.comparison import (
    MEAN,
    SUM,
    Comparison,
    Delta,
    Place,
    added,
    all_agree,
    hold,
    row_of,
)
from reports.published import PublishedRow

LORA, PENALISED = "lora-r8", "lora-r8+linear"
RANKS = (2, 4, 8)
PENALTIES = {"euclidean": "R_e", "cosine": "R_c", "nonlinear": "R_n", "linear": "R_l"}
AVERAGES = ("average", "all_set_average")
OF_DTL_PLUS = "this is the number of DTL+, where Table 6 says DTL"


def audit() -> list[Comparison]:
    """Hold everything that is printed more than once against itself."""
    return [
        Comparison("Table 2, LoRA, against Table 5, LoRA at r = 8", _table2_base()),
        Comparison(
            "Table 5, r = 8 with R_l, against Table 2, LoRA and its change",
            _table5_penalised(),
        ),
        Comparison("Table 4, Feature-Based, against means of these cells of Table 2", _table4()),
        Comparison("Table 6, LoRA and its gains, against Table 5 at r = 2", gains_of_rank(2)),
        Comparison("Table 6 against Table 2: Full, LoRA, DTL and their gains", _table6()),
        Comparison("Table 3, ReSoRA, against the rows beside it", copies.repeated_rows()),
        Comparison("Parameters of one method, printed more than once", copies.parameters()),
        Comparison("The text against Tables 2 and 6", statements.deltas()),
    ]


def gains_of_rank(rank: int) -> tuple[Delta, ...]:
    """Hold Table 6's LoRA rows against those of one rank in Table 5: the base and four gains."""
    six, five = published.load_costs("table6"), published.load("table5")
    base = row_of(five, f"lora-r{rank}")
    deltas = [
        hold(
            Place("table6", "lora", "accuracy"),
            six.cells["lora-r2"]["accuracy"],
            base.average,
            source=f"Table 5, r = {rank}",
        )
    ]
    for penalty in PENALTIES:
        row = row_of(five, f"lora-r{rank}+{penalty}")
        printed = six.cells[f"lora-r2+{penalty}"]["accuracy"]
        gain = recompute(five, row, "average") - recompute(five, base, "average")
        deltas.append(
            hold(
                Place("table6", f"lora+{penalty}", "accuracy"),
                printed,
                row.average - base.average,
                source=f"Table 5, r = {rank}: {added(row.average, -base.average)}",
                tolerance=SUM,
                remark=_by_cells(printed, gain),
            )
        )
    return tuple(deltas)


def fitting_ranks() -> list[int]:
    """The ranks whose five numbers in Table 5 are all those of Table 6."""
    return [rank for rank in RANKS if all_agree(gains_of_rank(rank))]


def _by_cells(printed: str, gain: Fraction) -> str:
    """A gain agrees with printed averages that do not follow from their cells: then neither does the gain."""
    if abs(Fraction(published.parse_printed(printed)) - gain) <= MEAN.exact:
        return ""
    return (
        f"so the printed averages say; by the cells beside them the gain is {float(gain):.2f} "
        "(see audit averages)"
    )


def _table2_base() -> tuple[Delta, ...]:
    two, five = published.load("table2"), published.load("table5")
    ours, theirs = row_of(two, LORA), row_of(five, LORA)
    return tuple(
        hold(
            Place("table2", LORA, what),
            str(_number(ours, what)),
            _number(theirs, what),
            source="Table 5, r = 8",
        )
        for what in (*two.tasks, *AVERAGES)
    )


def _table5_penalised() -> tuple[Delta, ...]:
    two, five = published.load("table2"), published.load("table5")
    base, change, printed = row_of(two, LORA), row_of(two, PENALISED), row_of(five, PENALISED)
    deltas = []
    for what in (*five.tasks, *AVERAGES):
        terms = _number(base, what), _number(change, what)
        deltas.append(
            hold(
                Place("table5", PENALISED, what),
                str(_number(printed, what)),
                sum(terms, Decimal(0)),
                source=f"Table 2: {added(*terms)}",
                tolerance=SUM,
            )
        )
    return tuple(deltas)


def _table4() -> tuple[Delta, ...]:
    two = published.load("table2")
    base, change = row_of(two, LORA), row_of(two, PENALISED)
    cells = {task: base.cells[task] + change.cells[task] for task in two.tasks}
    (part,) = published.load_parts("table4").parts
    row = next(row for row in part.rows if row.method == PENALISED)
    means = {group: mean([Fraction(cells[task]) for task in two.groups[group]]) for group in GROUPS}
    sources = {group: f"Table 2: mean of {len(two.groups[group])} cells" for group in GROUPS}
    means["average"] = mean(list(means.values()))
    sources["average"] = "Table 2: mean of these three"
    return tuple(
        hold(
            Place("table4", PENALISED, what, part.name),
            row.cells[what],
            value,
            source=sources[what],
            tolerance=MEAN,
        )
        for what, value in means.items()
    )


def _table6() -> tuple[Delta, ...]:
    """Table 6 says DTL where Table 2 has DTL+ alone, and does not say the rank of its LoRA."""
    two, six = published.load("table2"), published.load_costs("table6")
    rows = {
        "full": "full",
        "lora-r2": LORA,
        "lora-r2+linear": PENALISED,
        "dtl": "dtl-plus",
        "dtl+linear": "dtl-plus+linear",
    }
    return tuple(
        hold(
            Place("table6", row_of_table6(method), "accuracy"),
            six.cells[method]["accuracy"],
            row_of(two, other).average,
            source=f"Table 2, {other}",
            remark=OF_DTL_PLUS if method.startswith("dtl") else "",
            reason=_of_rank() if method.startswith("lora") else "",
        )
        for method, other in rows.items()
    )


def _of_rank() -> str:
    if ranks := fitting_ranks():
        fit = " and of ".join(f"r = {rank}" for rank in ranks)
        return f"Table 6's LoRA rows have the numbers of {fit} in Table 5; section 4.2 sets r = 8"
    return "Table 6's LoRA rows have the numbers of no rank in Table 5"


def _number(row: PublishedRow, what: str) -> Decimal:
    if what in AVERAGES:
        number: Decimal = getattr(row, what)
        return number
    return row.cells[what]
