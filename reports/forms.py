"""How a number is written: each form turns a line of a table into the text of a cell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from reports.page import FAILED, HOLE, NOT_IN_SUITE, NOTHING, Entry
from reports.published import DOWN_ARROW, UP_ARROW

if TYPE_CHECKING:
    from reports.table import Number

Form: TypeAlias = Callable[["Number | None", int], Entry]
"""Of a line and the digits of the metric; without a line, there is nothing to say."""


def spread(found: Number | None, digits: int, *, with_std: bool = True) -> Entry:
    """Mean ± std over seeds, and n if it is less than declared."""
    if found is None:
        return Entry(NOTHING)
    # Beside an accuracy stands the paper's, also where that printed a change.
    beside = found.paper or found.paper_printed
    if found.n_declared == 0:
        return Entry(NOT_IN_SUITE, paper=beside)
    if found.value is None:
        text = FAILED if found.has_failed else HOLE
        return Entry(text, marks=found.marks, paper=beside, cell=found.cell)
    std = f"± {found.std:.{digits}f}" if with_std and found.std is not None else ""
    fewer = f"(n={found.n})" if (found.n or 0) < (found.n_declared or 0) else ""
    return Entry(
        f"{found.value:.{digits}f}",
        f"{std} {fewer}".strip(),
        found.marks,
        found.value,
        beside,
        found.cell,
    )


mean = partial(spread, with_std=False)
"""A mean without its spread, where that would make the row too wide to read."""


def change(found: Number | None, digits: int) -> Entry:
    """A difference with its interval, and an arrow where that leaves zero out."""
    if found is None:
        return Entry(NOTHING)
    if found.n_declared == 0:
        return Entry(NOT_IN_SUITE)
    if found.value is None:
        return Entry(HOLE, cell=found.cell)
    text = signed(found.value, digits + 1)
    if found.low is not None and found.high is not None:
        text += f" [{signed(found.low, digits + 1)}, {signed(found.high, digits + 1)}]"
        if found.low > 0 or found.high < 0:
            text += f" {UP_ARROW if found.value > 0 else DOWN_ARROW}"
    return Entry(text, value=found.value, paper=found.paper, cell=found.cell)


def signed(value: float, digits: int) -> str:
    """A number with its sign."""
    text = f"{value:+.{digits}f}"
    # A difference that rounds to zero has no sign to show.
    return text[1:] if float(text) == 0 else text


def fixed(places: int, factor: float = 1.0) -> Form:
    """A number with so many digits behind the point."""

    def form(found: Number | None, digits: int) -> Entry:
        if found is None:
            return Entry(NOTHING)
        if found.n_declared == 0:
            return Entry(NOT_IN_SUITE, paper=found.paper)
        if found.value is None:
            return Entry(HOLE, cell=found.cell)
        text = f"{factor * found.value:.{places}f}"
        paper = found.paper or found.paper_printed
        return Entry(text, value=found.value, paper=paper, cell=found.cell)

    return form


def quartiles(places: int, factor: float = 100.0) -> Form:
    """A median with its quartiles in brackets, if it has any."""

    def form(found: Number | None, digits: int) -> Entry:
        if found is None or found.value is None:
            return Entry(HOLE)
        text = f"{factor * found.value:.{places}f}"
        if found.low is not None and found.high is not None:
            text += f" [{factor * found.low:.{places}f}, {factor * found.high:.{places}f}]"
        return Entry(text, value=found.value, cell=found.cell)

    return form


def paper(found: Number | None, digits: int) -> Entry:
    """The paper's number, as an accuracy."""
    return Entry(found.paper if found else NOTHING, value=_plain(found.paper if found else ""))


def printed(found: Number | None, digits: int) -> Entry:
    """The paper's number, as printed."""
    text = found.paper_printed if found else NOTHING
    return Entry(text, value=_plain(text))


def _plain(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
