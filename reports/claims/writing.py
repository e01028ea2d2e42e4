"""The judged claims as a page, as CSV, and for the terminal."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill

from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import DRAFT_SCALES
from reports.claims.judging import Judged, Verdict
from reports.claims.listing import BENCHMARK, Claim
from reports.notes import LISTED
from reports.page import Block, Column, Entry, Page

Found = Sequence[tuple[Claim, Judged]]
WIDTH = 118
FIELDS = (
    *("claim", "place", "statement", "paper", "scale", "verdict", "numbers"),
    *("n_pairs", "missing", "commands"),
)
LEGEND = (
    "Statements in our words; paper: the numbers it prints. The comparison is the paper's, over stage 1; the "
    "control is a second stage without the penalty.",
    "Supported: the 95 % interval of the paired difference lies above zero; contradicted: below; not "
    "distinguishable: it holds zero. A claim with k parts is supported if all of them are, and contradicted "
    "if the interval of one lies below zero at 1 − 0.05 / k.",
)


DRAFT = "DRAFT: some of the records are not final."


def warning(scale: str) -> str | None:
    """What the verdicts must not be taken for; None for the published protocol."""
    if not BENCHMARKS[BENCHMARK].scales[scale].is_embedded:
        return None
    text = (
        "EMBEDDED WORLD: the verdicts are about generated tasks and a small backbone. They neither confirm "
        "nor refute what the paper found on its data."
    )
    return f"{text} SMOKE SCALE: no verdict means anything." if scale in DRAFT_SCALES else text


def counted(found: Found) -> str:
    """How many claims have each verdict."""
    counts = Counter(judged.verdict for _, judged in found)
    return ", ".join(f"{verdict.value}: {counts[verdict]}" for verdict in Verdict)


def page(found: Found, scale: str, *, is_draft: bool = False) -> Page:
    """Lay the claims out as one table; ``is_draft``: from records that are not all final."""
    rows = tuple(
        (
            claim.id,
            tuple(
                map(
                    Entry,
                    (
                        judged.verdict.value,
                        claim.statement,
                        claim.place,
                        claim.paper,
                        "\n".join([*_few(judged.numbers), *_lacking(judged)]),
                    ),
                )
            ),
        )
        for claim, judged in found
    )
    titles = ("verdict", "statement", "place", "paper", "numbers")
    block = Block(
        title=f"{len(found)} claims: {counted(found)}",
        corner="claim",
        columns=tuple(map(Column, titles)),
        rows=rows,
        is_text=True,
    )
    return Page(
        title=f"Claims · scale {scale}",
        warning=" ".join(filter(None, [DRAFT if is_draft else None, warning(scale)])) or None,
        legend=LEGEND,
        ours=(block,),
        paper=(),
        notes=(),
    )


def render_terminal(found: Found, scale: str, results: Path) -> str:
    """Write the claims one below the other, with the commands that fill what is missing."""
    parts = [f"Claims · scale {scale} · records in {results}"]
    if text := warning(scale):
        parts.append(fill(f"!! {text}", WIDTH, subsequent_indent="   "))
    for claim, judged in found:
        paper = f" (paper: {claim.paper})" if claim.paper else ""
        lines = [f"{judged.verdict.value.upper()} · {claim.id} · {claim.place}"]
        lines.append(_indented(f"{claim.statement}{paper}"))
        lines += [_indented(f"- {line}", more=2) for line in _few(judged.numbers)]
        lines += [_indented(f"- {line}", more=2) for line in _lacking(judged)]
        lines += [f"    {command}" for command in _commands(judged, claim, scale)[:3]]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, f"{len(found)} claims: {counted(found)}"])


def render_csv(found: Found, scale: str) -> str:
    """Write the claims as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for claim, judged in found:
        writer.writerow(
            {
                "claim": claim.id,
                "place": claim.place,
                "statement": claim.statement,
                "paper": claim.paper,
                "scale": scale,
                "verdict": judged.verdict.value,
                "numbers": "; ".join(judged.numbers),
                "n_pairs": judged.n_pairs,
                "missing": "; ".join(_lacking(judged)),
                "commands": "; ".join(_commands(judged, claim, scale)),
            }
        )
    return text.getvalue()


def _indented(text: str, more: int = 0) -> str:
    indent = " " * 4
    return fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent + " " * more)


def _few(lines: Sequence[str]) -> Iterable[str]:
    """The lines; of very many the first, and how many more there are (the CSV has all)."""
    yield from lines[:LISTED]
    if len(lines) > LISTED:
        yield f"and {len(lines) - LISTED} more"


def _lacking(judged: Judged) -> list[str]:
    if not judged.missing:
        return []
    cells = [f"{method} {n} of {of}" for (_, method), (n, of) in judged.missing.items()]
    return [f"cells without a number: {', '.join(cells)}"]


def _commands(judged: Judged, claim: Claim, scale: str) -> list[str]:
    benchmark, at = ("cost", "paper") if claim.kind == "cost" else (BENCHMARK, scale)
    return [
        f"python -m benchmarks run '{benchmark}/{backbone}/*/{method}' --scale {at}"
        for backbone, method in judged.missing
    ]
