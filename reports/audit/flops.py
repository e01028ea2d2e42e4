"""Table 6's FLOPs by arithmetic: what of ViT-B/16 and of a penalty has to be counted to print them.

The printed numbers are multiply-adds of a forward pass on a batch of 32: nothing else comes near. ViT-B/16
at 224 x 224 has 196 patches and one token more, so that a batch is 32 x 197 = 6,304 tokens of width 768.
Counted are matrix products. What is left out (head, LayerNorms, biases, softmax) reaches no printed digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from reports import published
from reports.audit.arithmetic import evaluate
from reports.audit.check import VIT, Check, Listing, Notes, Section, Standing, row_of_table6
from reports.audit.counting import Setting, Verdict, rounds_to, shown
from reports.audit.deltas import RANKS

TERA = 10**12
BLOCKS = 12

LINEAR = "32 x 196 x 768^2 + 12 x 12 x 6,304 x 768^2"
"""The patches, and the linear layers of 12 blocks: q, k, v, proj and the two of an MLP four times as wide."""
ATTENTION = "12 x 2 x 32 x 197^2 x 768"
"""The two products of tokens with tokens in each block, all heads together."""
FULL = f"{LINEAR} + {ATTENTION}"


def low_rank(matrices: int, rank: int) -> str:
    """Down- and up-projection beside so many matrices of 768 x 768."""
    return f"{matrices} x 2 x 768 x {rank} x 6,304"


def maps(matrices: int, rank: int, samples: str = "6,304") -> str:
    """As many maps b_i a_i^T as the rank, each made a matrix of 768 x 768 and applied to every sample."""
    return f"{matrices} x {rank} x 768^2 x {samples}"


def products_of_linear(matrices: int, samples: str) -> str:
    """R_l of Eq. 7 at rank 2: dH_i dH_j^T of 768 x 768, one of the pair and one of each with itself."""
    return f"{matrices} x 3 x 768^2 x {samples}"


def products_of_nonlinear(matrices: int, samples: str) -> str:
    """R_n of Eq. 8 at rank 2: two kernels centred, then three products of kernels."""
    return f"{matrices} x 5 x {samples}^3"


IS_FORWARD = (
    "“FLOPs/iteration” are multiply-adds of the forward pass (as FLOPs, two each, they would be twice as "
    "many; the backward pass adds more)"
)
HAS_MAPS = (
    "each subspace is a map b_i a_i^T of 768 x 768, applied to every token: {maps} maps in all, those of "
    "{matrices} matrices of rank 2"
)
IS_POOLED = "the penalty's own products are of features averaged over the tokens of an image (or not counted)"


@dataclass(frozen=True, kw_only=True)
class Counting:
    """How the FLOPs of one row come about.

    Attributes:
        base: The row that the arithmetic goes on from; None where it is whole.
        added: What the row has beyond that.
        conditions: What no source says and the printed number hangs on.
        others: Other ways to count, as conditions, if the arithmetic does not print it.
    """

    base: str | None = None
    added: str
    conditions: tuple[str, ...] = (IS_FORWARD,)
    others: tuple[Setting, ...] = ()

    @property
    def formula(self) -> str:
        """The whole arithmetic."""
        return f"{COUNTINGS[self.base].formula} + {self.added}" if self.base else self.added


def _penalised(base: str, matrices: int) -> dict[str, Counting]:
    """The four penalties on so many matrices of rank 2; R_e and R_c have no products of matrices."""
    has_maps = HAS_MAPS.format(maps=2 * matrices, matrices=matrices)
    products = {
        "euclidean": "",
        "cosine": "",
        "nonlinear": products_of_nonlinear(matrices, "32"),
        "linear": products_of_linear(matrices, "32"),
    }
    return {
        f"{base}+{penalty}": Counting(
            base=base,
            added=" + ".join(filter(None, (maps(matrices, 2), own))),
            conditions=(IS_FORWARD, has_maps, *([IS_POOLED] if own else [])),
        )
        for penalty, own in products.items()
    }


COUNTINGS: Mapping[str, Counting] = {
    "full": Counting(
        added=FULL,
        others=(Setting("the two products of the attention are left out", LINEAR),),
    ),
    "lora-r2": Counting(base="full", added=low_rank(36, 2)),
    **_penalised("lora-r2", 36),
    "dtl": Counting(base="full", added=low_rank(12, 2)),
    **_penalised("dtl", 12),
}
"""By row of Table 6. Its LoRA has q, k and v of 12 blocks, as the parameters of Tables 2 and 5 say, and
r = 2, as its accuracies say. DTL has one pair of rank 2 a block."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One printed number and ours.

    Attributes:
        method: Name of the row.
        label: Printed name of the row.
        printed: Tera, as printed.
        verdict: How the two compare.
        conditions: What a match hangs on.
    """

    method: str
    label: str
    printed: Decimal
    verdict: Verdict
    conditions: tuple[str, ...]

    @property
    def counting(self) -> Counting:
        """How ours comes about."""
        return COUNTINGS[self.method]

    @property
    def value(self) -> Fraction:
        """Our count."""
        return evaluate(self.counting.formula)


def audit() -> list[Finding]:
    """Hold every printed number of Table 6's column against its arithmetic."""
    table = published.load_costs("table6")
    return [
        judge(method, label, Decimal(table.cells[method]["flops_t"]))
        for method, label in table.labels.items()
    ]


def judge(method: str, label: str, printed: Decimal) -> Finding:
    """Compare a printed number with the arithmetic of its row."""
    counting = COUNTINGS[method]
    hits = [other for other in counting.others if prints(other.formula, printed)]
    verdict = Verdict.NOT_REPRODUCIBLE
    conditions: tuple[str, ...] = ()
    if prints(counting.formula, printed):
        verdict, conditions = Verdict.ONLY_IF, counting.conditions
    elif hits:
        also = f"{hits[0].condition} ({hits[0].formula} = {tera(hits[0].value)} T)"
        verdict, conditions = Verdict.ONLY_IF, (*counting.conditions, also)
    return Finding(
        method=method, label=label, printed=printed, verdict=verdict, conditions=conditions
    )


def tera(count: Fraction, digits: int = 3) -> str:
    """A count in tera."""
    return f"{float(count / TERA):.{digits}f}"


def prints(formula: str, printed: Decimal) -> bool:
    """Whether arithmetic rounds to a printed number of tera."""
    return rounds_to(evaluate(formula), printed, TERA)


def one_way_prints_all() -> bool:
    """Whether the rows without a penalty were counted alike: all with the products of attention, or none."""
    cells = published.load_costs("table6").cells
    own = {"full": "0", "lora-r2": COUNTINGS["lora-r2"].added, "dtl": COUNTINGS["dtl"].added}
    return any(
        all(
            prints(f"{network} + {added}", Decimal(cells[method]["flops_t"]))
            for method, added in own.items()
        )
        for network in (FULL, LINEAR)
    )


def number_of_maps(base: str, printed: Decimal) -> list[int]:
    """How many maps of 768 x 768 over all tokens, beyond a row without a penalty, print a number."""
    formula = COUNTINGS[base].formula
    return [n for n in range(1, 1000) if prints(f"{formula} + {maps(n, 1)}", printed)]


@dataclass(frozen=True)
class Reading:
    """Another setting, or another way to make a penalty, and what it would print in a row.

    Attributes:
        row: The row of Table 6.
        words: What it is.
        added: What it adds to ViT-B/16.
    """

    row: str
    words: str
    added: str

    @property
    def value(self) -> Fraction:
        """Its count."""
        return evaluate(f"{FULL} + {self.added}")


def _with_maps(matrices: int, rank: int) -> str:
    return f"{low_rank(matrices, rank)} + {maps(matrices, rank)}"


READINGS = (
    *(
        Reading("lora-r2+linear", f"{matrices} matrices, r = {rank}", _with_maps(matrices, rank))
        for matrices, rank in ((24, 2), (36, 2), (48, 2), (24, 8), (36, 4), (36, 8))
    ),
    Reading(
        "lora-r2+linear",
        "R_l's own products over all tokens",
        f"{_with_maps(36, 2)} + {products_of_linear(36, '6,304')}",
    ),
    Reading(
        "lora-r2+nonlinear",
        "R_n's own products over all tokens",
        f"{_with_maps(36, 2)} + {products_of_nonlinear(36, '6,304')}",
    ),
    Reading(
        "lora-r2+linear",
        "maps after the mean over tokens",
        f"{low_rank(36, 2)} + {maps(36, 2, '32')}",
    ),
    Reading(
        "lora-r2+linear",
        "features as z_i b_i, without maps",
        f"{low_rank(36, 2)} + 36 x 2 x 768 x 6,304",
    ),
    Reading("dtl+linear", "12 matrices, r = 2", _with_maps(12, 2)),
    Reading("dtl+linear", "12 matrices, r = 4", _with_maps(12, 4)),
    Reading(
        "dtl+linear",
        "R_l's own products over all tokens",
        f"{_with_maps(12, 2)} + {products_of_linear(12, '6,304')}",
    ),
)


@dataclass(frozen=True)
class Need:
    """What R_l needs in closed form: z^T z of each matrix, N r^2 multiply-adds.

    Attributes:
        words: Where.
        closed: Its count.
        with_maps: That of the maps alone.
    """

    words: str
    closed: str
    with_maps: str


NEEDS = tuple(
    Need(f"{name}, r = {rank}", f"{matrices} x 6,304 x {rank}^2", maps(matrices, rank))
    for name, matrices, rank in (("LoRA", 36, 2), ("LoRA", 36, 8), ("DTL", 12, 2))
)


def listing() -> Listing:
    """Each printed number, what else would have been printed, what is needed."""
    findings = audit()
    notes, by_row = Notes(), {found.method: found for found in findings}
    printed = Section(
        title="Table 6: ViT-B/16, 32 images of 197 tokens",
        headings=(
            *("Row", "Printed (T)", "Counted (T)"),
            *("Multiply-adds of the forward pass, batch of 32", "Verdict"),
        ),
        right=("Printed (T)", "Counted (T)"),
        rows=[_cells(found, notes) for found in findings],
        notes=notes.lines,
    )
    readings = Section(
        title="What other settings and ways to make the penalty would print",
        headings=("Row", "If it were", "(T)", "fits", "Full and"),
        right=("(T)",),
        rows=[_reading(one, by_row[one.row]) for one in READINGS],
        notes=[_maps(by_row[row]) for row in ("lora-r2+linear", "dtl+linear")],
    )
    return Listing(
        title="Table 6's FLOPs: printed, and by arithmetic",
        sections=[printed, readings, _needs()],
        closing=_closing(findings),
        checks=[_check(found) for found in findings],
    )


def _cells(found: Finding, notes: Notes) -> tuple[str, ...]:
    base = f"{LABELS[found.counting.base]} + " if found.counting.base else ""
    marks = " ".join(notes.mark(condition) for condition in found.conditions)
    arithmetic, verdict = base + found.counting.added, f"{found.verdict.value} {marks}".rstrip()
    return found.label, str(found.printed), tera(found.value), arithmetic, verdict


LABELS = {"full": "Full", "lora-r2": "LoRA", "dtl": "DTL"}


def _reading(reading: Reading, found: Finding) -> tuple[str, ...]:
    does = prints(f"{FULL} + {reading.added}", found.printed)
    symbol = found.label.removeprefix("+ ").partition(" (")[0]
    row = f"{LABELS[found.counting.base or 'full']} + {symbol}, {found.printed}"
    return row, reading.words, tera(reading.value), "yes" if does else "no", reading.added


def _maps(found: Finding) -> str:
    """What a printed number says of the matrices, if all blocks have the same ones at a rank of the paper."""
    base = found.counting.base or "full"
    fits = number_of_maps(base, found.printed)
    if not fits:
        return f"No number of maps of 768 x 768 over all tokens gives {LABELS[base]}'s {found.printed}."
    ways = [
        f"{maps // (BLOCKS * rank)} of rank {rank}"
        for maps in fits
        for rank in RANKS
        if maps % (BLOCKS * rank) == 0
    ]
    return (
        f"{LABELS[base]}'s {found.printed} takes {fits[0]} to {fits[-1]} maps of 768 x 768 over all tokens. "
        f"With the same matrices in each of {BLOCKS} blocks, rank 2, 4 or 8: {' or '.join(ways) or 'none'}."
    )


def _needs() -> Section:
    rows = []
    for need in NEEDS:
        closed = evaluate(need.closed)
        shares = (f"{float(100 * closed / evaluate(of)):.5f} %" for of in (FULL, need.with_maps))
        rows.append((need.words, need.closed, shown(closed), *shares))
    right = ("multiply-adds", "of the forward pass", "of the maps")
    note = (
        "The activations z = A x are there after the forward pass; what is left is z^T z of each matrix: "
        "N r^2 for N = 6,304 tokens."
    )
    return Section(
        title="What the penalty needs instead",
        headings=("R_l in closed form", "Arithmetic", *right),
        right=right,
        rows=rows,
        notes=[note],
    )


def _closing(findings: Sequence[Finding]) -> str:
    by_verdict = Counter(found.verdict for found in findings)
    words = {
        Verdict.ONLY_IF: "match under the conditions noted, which the paper does not state",
        Verdict.NOT_REPRODUCIBLE: "cannot be had",
    }
    counts = ", ".join(f"{by_verdict[one]} {words[one]}" for one in words if by_verdict[one])
    text = f"{len(findings)} printed FLOPs: {counts}."
    if not one_way_prints_all():
        more = tera(evaluate(COUNTINGS["lora-r2"].added), digits=4)
        printed = {found.method: found.printed for found in findings}
        text += (
            f" No one way of counting prints both {printed['full']} for Full and {printed['lora-r2']} for "
            f"LoRA, whose forward pass is Full's and {more} T more: they were counted in two ways."
        )
    return text


def _check(found: Finding) -> Check:
    is_lost = found.verdict is Verdict.NOT_REPRODUCIBLE
    return Check(
        *("flops", "table6", VIT, row_of_table6(found.method), "flops_t"),
        printed=str(found.printed),
        recomputed=tera(found.value, digits=6),
        recomputed_from=found.counting.formula,
        verdict=found.verdict.value,
        reason="; ".join(found.conditions),
        standing=Standing.DOES_NOT if is_lost else Standing.CONDITIONAL,
    )
