"""What the audit of parameters says about one printed count: how we count, and how the two compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

from reports.audit.arithmetic import evaluate

MILLION = 1_000_000

HEAD_COUNTED = ", head counted"
HEAD_LEFT_OUT = ", head not counted"
EITHER_WAY = ", head counted or not"


class Verdict(Enum):
    """How a printed count stands to ours."""

    MATCHES = "matches"
    ONLY_IF = "matches only if"
    NOT_REPRODUCIBLE = "not reproducible"
    NOT_COUNTED = "not counted"


@dataclass(frozen=True)
class Setting:
    """Another way to count, or another setting of the method, as a condition and its arithmetic."""

    condition: str
    formula: str

    @property
    def value(self) -> Fraction:
        """The count that it gives."""
        return evaluate(self.formula)


@dataclass(frozen=True, kw_only=True)
class Counting:
    """How the count of one row is made.

    Attributes:
        method: Name for ``make_method``; None where the suite has no such method on this network.
        options: Options of the method.
        per_task: Options that differ from dataset to dataset, by task; the count is then the mean.
        formula: The arithmetic of our count without the head.
        head: Key of ``HEADS``; None: the one called like the network.
        others: Conditions under which the count would be another one: clauses if the printed count hangs
            on them, names of settings beside a reason.
        because: Why the printed count cannot be had, in one line; None where it can, at least under one
            of the conditions in ``others``. Where several fit, the count does not say which.
        setting: What our count stands for, where the name does not say it.
        assumes: What of the setting no source says; a match then hangs on it.
    """

    method: str | None
    formula: str
    options: Mapping[str, Any] = field(default_factory=dict)
    per_task: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    head: str | None = None
    others: tuple[Setting, ...] = ()
    because: str | None = None
    setting: str | None = None
    assumes: str | None = None


@dataclass(frozen=True)
class Head:
    """What is trained behind the adapted network, and the arithmetic of its size."""

    words: str
    formula: str

    @property
    def value(self) -> Fraction:
        """Its size."""
        return evaluate(self.formula)


HEADS = {
    "vit_b16": Head("classifier, mean over the 19 tasks", "(768 + 1) x 940 / 19"),
    "swin_b": Head("classifier, mean over the 19 tasks", "(1,024 + 1) x 940 / 19"),
    "convnext_b": Head("classifier, mean over the 19 tasks", "(1,024 + 1) x 940 / 19"),
    "bert_base": Head(
        "text Linear and pooling operator (GPO) of VSE∞",
        "768 x 1,024 + 1,024 + 2 x (6 x 32^2 + 6 x 32) + 32",
    ),
    "pooling": Head(
        "pooling operator (GPO) of VSE∞ alone: the method brings its own projection",
        "2 x (6 x 32^2 + 6 x 32) + 32",
    ),
    "clip_vit_b32": Head("CLIP's two projections to the joint space", "768 x 512 + 512 x 512"),
}
"""By the name of the network whose usual head it is, or, of another head, its own."""


@dataclass(frozen=True)
class Count:
    """Trainable parameters; means over datasets where settings or heads differ."""

    adapter: Fraction
    head: Fraction

    @property
    def total(self) -> Fraction:
        """Both together."""
        return self.adapter + self.head


def rounds_to(count: Fraction, printed: Decimal, unit: int = MILLION) -> bool:
    """Whether a count in units is the printed number to its printed digits; a printed 0 is none at all.

    A count just between two printed numbers rounds to both.
    """
    if not printed:
        return count == 0
    digit = Fraction(10) ** int(printed.as_tuple().exponent)
    return abs(count / unit - Fraction(printed)) <= digit / 2


def judge(
    counting: Counting, printed: Decimal, count: Count | None, *, head_is_open: bool
) -> tuple[Verdict, str]:
    """Compare a printed count with ours.

    Args:
        counting: How we count.
        printed: The printed number, in millions.
        count: Ours; None where it could not be counted.
        head_is_open: Whether the table leaves open if the head is counted, so that either is a match.

    Returns:
        The verdict, and the rest of the sentence that it begins.
    """
    bare = count is not None and rounds_to(count.adapter, printed)
    whole = count is not None and rounds_to(count.total, printed)
    if head_is_open and (bare or whole):
        both = EITHER_WAY if bare else HEAD_COUNTED
        return _matching(counting, both if whole else HEAD_LEFT_OUT)
    if bare:
        return _matching(counting, "")
    if whole:
        return Verdict.ONLY_IF, " the head is counted"
    hits = [other for other in counting.others if rounds_to(other.value, printed)]
    misses = [other for other in counting.others if other not in hits]
    tried = f". Would not print it: {'; '.join(map(_described, misses))}" if misses else ""
    if counting.because is None and hits:
        return Verdict.ONLY_IF, " " + "; or if ".join(map(_described, hits)) + tried
    if counting.because is None and count is None:
        return Verdict.NOT_COUNTED, ""
    also = f". Would print it: {'; '.join(map(_described, hits))}" if hits else ""
    return Verdict.NOT_REPRODUCIBLE, f": {counting.because or 'no reason known'}{also}{tried}"


def _matching(counting: Counting, head: str) -> tuple[Verdict, str]:
    if counting.assumes is None:
        return Verdict.MATCHES, head
    return Verdict.ONLY_IF, f" {counting.assumes}{head}"


def _described(other: Setting) -> str:
    return f"{other.condition} ({other.formula} = {shown(other.value)})"


def shown(count: Fraction) -> str:
    """A count with thousands separators, a mean to the nearest whole number."""
    return f"{round(count):,}"
