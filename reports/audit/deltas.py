"""Numbers that the paper prints in two places, held against each other: Tables 2, 4, 5 and 6, and the rest.

Table 2 prints its rows with ReSoRA as changes, Tables 4 and 5 as accuracies, Table 6 as changes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction

from reports import published
from reports.audit.averages import GROUPS, OF_CELLS, mean, recompute
from reports.audit.check import VIT, Check, Listing, Notes, Section, row_of_table6
from reports.audit.comparison import (
    COPY,
    MEAN,
    RULE,
    SUM,
    Place,
    Verdict,
    found,
    hold,
    row_of,
)
from reports.published import (
    DOWN_ARROW,
    PARTED,
    UP_ARROW,
    Part,
    PartRow,
    PublishedRow,
    parse_printed,
)

LORA, PENALISED = "lora-r8", "lora-r8+linear"
RANKS = (2, 4, 8)
PENALTIES = {"euclidean": "R_e", "cosine": "R_c", "nonlinear": "R_n", "linear": "R_l"}
OF_DTL_PLUS = "this is the number of DTL+, where Table 6 says DTL"
# What the text states: the mean gain of Table 2 (section 4.2); the least and most gain, the least and most
# time (%), and the most memory (GB) over the rows of Table 6 (section 5.3).
MEAN_GAIN, GAINS, TIMES, MEMORY = "0.7", ("0.2", "0.4"), ("14", "34"), "0.6"

COLUMNS = {
    "params_m": "param (M)",
    "average": "Average",
    "all_set_average": "All Set Average",
    "accuracy": "Acc (%)",
    "natural": "Nat.",
    "specialized": "Spe.",
    "structured": "Str.",
}
"""Printed names of columns."""


def comparisons() -> dict[str, list[Check]]:
    """Everything that is printed more than once, held against itself."""
    return {
        "Table 2, LoRA, against Table 5, LoRA at r = 8": list(_table2_base()),
        "Table 5, r = 8 with R_l, against Table 2, LoRA and its change": list(_table5_penalised()),
        "Table 4, Feature-Based, against means of these cells of Table 2": list(_table4()),
        "Table 6, LoRA and its gains, against Table 5 at r = 2": gains_of_rank(2),
        "Table 6 against Table 2: Full, LoRA, DTL and their gains": list(_table6()),
        "Table 3, ReSoRA, against the rows beside it": list(_repeated_rows()),
        "Parameters of one method, printed more than once": list(_parameters()),
        "The text against Tables 2 and 6": list(_text()),
    }


def gains_of_rank(rank: int) -> list[Check]:
    """Hold Table 6's LoRA rows against those of one rank in Table 5: the base and four gains."""
    six, five = published.load_costs("table6"), published.load("table5")
    base, source = row_of(five, f"lora-r{rank}"), f"Table 5, r = {rank}"
    printed = six.cells["lora-r2"]["accuracy"]
    found = [hold(Place("table6", "lora", "accuracy"), printed, base.average, source=source)]
    for penalty in PENALTIES:
        row = row_of(five, f"lora-r{rank}+{penalty}")
        printed = six.cells[f"lora-r2+{penalty}"]["accuracy"]
        gain = recompute(five, row, "average") - recompute(five, base, "average")
        found.append(
            hold(
                Place("table6", f"lora+{penalty}", "accuracy"),
                printed,
                row.average - base.average,
                source=f"{source}: {_added(row.average, -base.average)}",
                tolerance=SUM,
                remark=_by_cells(printed, gain),
            )
        )
    return found


def fitting_ranks() -> list[int]:
    """The ranks whose five numbers in Table 5 are all those of Table 6."""
    agrees = Verdict.AGREES.value
    return [rank for rank in RANKS if all(one.verdict == agrees for one in gains_of_rank(rank))]


def _by_cells(printed: str, gain: Fraction) -> str:
    """A gain agrees with printed averages that do not follow from their cells: then neither does the gain."""
    if abs(Fraction(parse_printed(printed)) - gain) <= MEAN.exact:
        return ""
    return (
        f"so the printed averages say; by the cells beside them the gain is {float(gain):.2f} "
        "(see audit averages)"
    )


def _table2_base() -> Iterator[Check]:
    two, five = published.load("table2"), published.load("table5")
    ours, theirs = row_of(two, LORA), row_of(five, LORA)
    for what in (*two.tasks, *OF_CELLS):
        at, printed = Place("table2", LORA, what), str(_number(ours, what))
        yield hold(at, printed, _number(theirs, what), source="Table 5, r = 8")


def _table5_penalised() -> Iterator[Check]:
    two, five = published.load("table2"), published.load("table5")
    base, change, printed = row_of(two, LORA), row_of(two, PENALISED), row_of(five, PENALISED)
    for what in (*five.tasks, *OF_CELLS):
        terms = _number(base, what), _number(change, what)
        yield hold(
            Place("table5", PENALISED, what),
            str(_number(printed, what)),
            sum(terms, Decimal(0)),
            source=f"Table 2: {_added(*terms)}",
            tolerance=SUM,
        )


def _table4() -> Iterator[Check]:
    two = published.load("table2")
    base, change = row_of(two, LORA), row_of(two, PENALISED)
    cells = {task: base.cells[task] + change.cells[task] for task in two.tasks}
    (part,) = published.load_parts("table4").parts
    row = next(row for row in part.rows if row.method == PENALISED)
    means = {group: mean([Fraction(cells[task]) for task in two.groups[group]]) for group in GROUPS}
    sources = {group: f"Table 2: mean of {len(two.groups[group])} cells" for group in GROUPS}
    means["average"] = mean(list(means.values()))
    sources["average"] = "Table 2: mean of these three"
    for what, value in means.items():
        at = Place("table4", PENALISED, what, part.name)
        yield hold(at, row.cells[what], value, source=sources[what], tolerance=MEAN)


def _table6() -> Iterator[Check]:
    """Table 6 says DTL where Table 2 has DTL+ alone, and does not say the rank of its LoRA."""
    two, six = published.load("table2"), published.load_costs("table6")
    rows = {
        "full": "full",
        "lora-r2": LORA,
        "lora-r2+linear": PENALISED,
        "dtl": "dtl-plus",
        "dtl+linear": "dtl-plus+linear",
    }
    for method, other in rows.items():
        yield hold(
            Place("table6", row_of_table6(method), "accuracy"),
            six.cells[method]["accuracy"],
            row_of(two, other).average,
            source=f"Table 2, {other}",
            remark=OF_DTL_PLUS if method.startswith("dtl") else "",
            reason=_of_rank() if method.startswith("lora") else "",
        )


def _of_rank() -> str:
    if ranks := fitting_ranks():
        fit = " and of ".join(f"r = {rank}" for rank in ranks)
        return f"Table 6's LoRA rows have the numbers of {fit} in Table 5; section 4.2 sets r = 8"
    return "Table 6's LoRA rows have the numbers of no rank in Table 5"


def _repeated_rows() -> Iterator[Check]:
    """Hold each row of Table 3 with a penalty against the rows without one beside it."""
    for part in published.load_parts("table3").parts:
        for row in part.rows:
            if "+" in row.method:
                yield from (_repeated(part, row, what) for what in (*GROUPS, "average"))


def _repeated(part: Part, row: PartRow, what: str) -> Check:
    """A number of such a row: it is another row's where all four are, else a rise or fall as its arrow says.

    As a change, "82.2 ↑" would lead above 100 %; so it is read as an accuracy.
    """
    base = part.row(row.method.partition("+")[0])
    assert base is not None
    before, after = base.number(what), row.number(what)
    arrow = "" if before == after else UP_ARROW if after > before else DOWN_ARROW
    moved = "nothing has changed"
    if arrow:
        way = "below" if after < before else "above"
        moved = f"{after} is {way} {_name(base)}'s {before}"
    wrong = "" if row.cells[what].partition(" ")[2] == arrow else f"the arrow is wrong: {moved}"
    rows = [one for one in part.rows if "+" not in one.method]
    other = next((one for one in rows if _numbers(one) == _numbers(row)), None)
    place = Place("table3", row.method, what, part.name)
    held, verdict = other or base, Verdict.DIFFERS if wrong else Verdict.AGREES
    if other is not None:
        verdict = Verdict.REPEATS
        wrong = f"all four numbers are those of {_name(other)}" + (wrong and f", and {wrong}")
    source = f"Table 3, {held.method}"
    return found(place, row.cells[what], held.cells[what], source, verdict, wrong)


def _numbers(row: PartRow) -> list[Decimal]:
    return [row.number(what) for what in (*GROUPS, "average")]


def _name(row: PartRow) -> str:
    return row.label.partition(" [")[0]


def _parameters() -> Iterator[Check]:
    """Hold parameters against those of the same method, in printed order: a penalty has none of its own."""
    first: dict[tuple[str, str], tuple[str, str, Decimal]] = {}
    for table, part, method, number in _printed_parameters():
        one = (f"Table {table.removeprefix('table')}", method, number)
        other = first.setdefault((part, method.partition("+")[0]), one)
        if other is not one:
            at, source = Place(table, method, "params_m", part), f"{other[0]}, {other[1]}"
            yield hold(at, str(number), other[2], source=source)


def _printed_parameters() -> Iterator[tuple[str, str, str, Decimal]]:
    for name in (f"table{number}" for number in range(1, 6)):
        if name in PARTED:
            for part in published.load_parts(name).parts:
                for row in part.rows:
                    yield name, part.name, row.method, row.params_m
        else:
            for entry in published.load(name).rows:
                yield name, VIT, entry.method, entry.params_m


def _text() -> Iterator[Check]:
    """Hold what the text states against the table that it states it of."""
    gained = row_of(published.load("table2"), PENALISED)
    for what in OF_CELLS:
        at, source = Place("section 4.2", PENALISED, what, ""), f"Table 2, {PENALISED}"
        yield hold(at, MEAN_GAIN, _number(gained, what), source=source)
    cells = published.load_costs("table6").cells
    rows = [method for method in cells if "+" in method]
    gains = [parse_printed(cells[method]["accuracy"]) for method in rows]
    times = [Decimal(cells[method]["time"]) for method in rows]
    memory = [
        Decimal(cells[method]["memory_gb"]) - Decimal(cells[method.partition("+")[0]]["memory_gb"])
        for method in rows
    ]
    for which, what, printed, value in (
        ("least", "accuracy", GAINS[0], min(gains)),
        ("most", "accuracy", GAINS[1], max(gains)),
        ("least", "time", TIMES[0], min(times)),
        ("most", "time", TIMES[1], max(times)),
        ("most", "memory_gb", MEMORY, max(memory)),
    ):
        is_difference = what == "memory_gb"
        yield hold(
            Place("section 5.3", f"{which} of all", what, ""),
            printed,
            value,
            source=f"Table 6: {which} of {len(rows)} rows" + ", over its base" * is_difference,
            tolerance=SUM if is_difference else COPY,
        )


def _number(row: PublishedRow, what: str) -> Decimal:
    number: Decimal = getattr(row, what) if what in OF_CELLS else row.cells[what]
    return number


def _added(base: Decimal, change: Decimal) -> str:
    """A sum as it is written: ``73.7 + 0.2``, ``94.1 - 0.2``."""
    return f"{base} {'-' if change < 0 else '+'} {abs(change)}"


def listing() -> Listing:
    """What was held against what; what does not agree, or needs a word."""
    compared = comparisons()
    checks = [one for of in compared.values() for one in of]
    wrong = [one for one in checks if not one.follows]
    told = [
        one for one in checks if one.follows and (one.reason or one.verdict != Verdict.AGREES.value)
    ]
    counts = ("numbers", "agree", "within rounding", "repeat", "differ")
    overview = Section(
        title="What was held against what",
        headings=("Printed, and what it is held against", *counts),
        right=counts,
        rows=[
            (title, str(len(of)), *(str(n or "") for n in _counted(of)))
            for title, of in compared.items()
        ],
        notes=[RULE],
    )
    return Listing(
        title="Numbers that the paper prints in two places",
        sections=[
            overview,
            _numbers_of("Numbers that do not agree", wrong),
            _numbers_of("Numbers that agree, with something to say about them", told),
            _ranks(),
        ],
        closing=f"{len(wrong)} of {len(checks)} numbers do not agree with what is printed elsewhere",
        checks=checks,
    )


def _counted(checks: Sequence[Check]) -> list[int]:
    counts = Counter(one.verdict for one in checks)
    return [counts[verdict.value] for verdict in Verdict]


def _numbers_of(title: str, checks: Sequence[Check]) -> Section:
    notes, rows = Notes(), []
    for one in checks:
        verdict = "repeats" if one.verdict == Verdict.REPEATS.value else one.verdict
        marked = f"{verdict} {notes.mark(one.reason)}" if one.reason else verdict
        table = f"Table {one.table.removeprefix('table')}" if "table" in one.table else one.table
        numbers = (one.printed, one.recomputed, one.recomputed_from, marked)
        rows.append((table, one.row, COLUMNS.get(one.what, one.what), *numbers))
    return Section(
        title=title,
        headings=("printed in", "row", "column", "printed", "recomputed", "from", "verdict"),
        right=("printed", "recomputed"),
        rows=rows,
        notes=notes.lines,
    )


def _ranks() -> Section:
    """Table 6 does not say the rank of its LoRA; Table 5 has three to choose from."""
    by_rank = {rank: gains_of_rank(rank) for rank in RANKS}
    rows = [("Table 6", *(one.printed for one in by_rank[RANKS[0]]), "")]
    for rank, gains in by_rank.items():
        agree, rounding, _, differ = _counted(gains)
        said = {"agree": agree, "agree within rounding": rounding, "differ": differ}
        words = ", ".join(f"{n} {words}" for words, n in said.items() if n)
        rows.append((f"Table 5, r = {rank}", *(one.recomputed for one in gains), words))
    right = ("no penalty", *(f"+ {symbol}" for symbol in PENALTIES.values()))
    return Section(
        title="The rank of Table 6's LoRA, which it does not say",
        headings=("LoRA", *right, "held against Table 6"),
        right=right,
        rows=rows,
    )
