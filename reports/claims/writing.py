"""The judged claims for the terminal, as Markdown, as CSV, and as one table for the HTML page."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from textwrap import fill

from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import DRAFT_SCALES
from reports import render
from reports.claims.judging import BENCHMARK, Claim, Judged, Verdict
from reports.notes import LISTED
from reports.page import Block, Column, Entry, Page, Row

Found = Sequence[tuple[Claim, Judged]]
WIDTH = 118
INDENT = " " * 4
RUN = "python -m benchmarks run"
DEFAULT_RESULTS = Path("results")
FIELDS = (
    *("claim", "place", "statement", "paper", "scale", "verdict", "numbers"),
    *("n_pairs", "missing", "command"),
)
LEGEND = (
    "Statements in our words; paper: the numbers it prints. The comparison is the paper's, over stage 1; the "
    "control is a second stage without the penalty, the fair comparison: if it gives another verdict, that "
    "stands behind it.",
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
    rows = []
    for claim, judged in found:
        numbers = "\n".join([*_few(judged.numbers), *_lacking(judged)])
        cells = (judged.verdict.value, claim.statement, claim.place, claim.paper, numbers)
        rows.append(Row(claim.id, tuple(map(Entry, cells))))
    titles = ("verdict", "statement", "place", "paper", "numbers")
    return Page(
        title=f"Claims · scale {scale}",
        warning=" ".join(_warnings(found, scale, is_draft=is_draft)) or None,
        legend=LEGEND,
        ours=(_table(found, titles, tuple(rows)),),
    )


def render_markdown(found: Found, scale: str, *, is_draft: bool = False) -> str:
    """Write the verdicts as a table, and below it each claim with its numbers."""
    rows = tuple(
        Row(claim.id, (Entry(judged.verdict.value), Entry(claim.statement)))
        for claim, judged in found
    )
    parts = [f"# Claims · scale {scale}"]
    parts += [f"> **{text}**" for text in _warnings(found, scale, is_draft=is_draft)]
    parts.append("\n".join(f"- {line}" for line in LEGEND))
    parts.append(f"## {len(found)} claims: {counted(found)}")
    parts.append(render.markdown_table(_table(found, ("verdict", "statement"), rows)))
    for claim, judged in found:
        paper = f"; paper: {claim.paper}" if claim.paper else ""
        parts.append(f"### {claim.id}: {judged.verdict.value}")
        parts.append(render.md(f"{claim.statement} ({claim.place}{paper})"))
        if lines := [*_few(judged.numbers), *_lacking(judged)]:
            parts.append("\n".join(f"- {render.md(line)}" for line in lines))
        if judged.is_lacking and judged.command:
            parts.append("\n".join(["```", *_command(judged, DEFAULT_RESULTS, indent=""), "```"]))
    return "\n\n".join(parts) + "\n"


def render_terminal(found: Found, scale: str, results: Path) -> str:
    """Write the claims one below the other, with the commands that fill what is missing."""
    parts = [f"Claims · scale {scale} · records in {results}"]
    parts += [
        fill(f"!! {text}", WIDTH, subsequent_indent="   ") for text in _warnings(found, scale)
    ]
    for claim, judged in found:
        paper = f" (paper: {claim.paper})" if claim.paper else ""
        lines = [f"{judged.verdict.value.upper()} · {claim.id} · {claim.place}"]
        lines.append(_indented(f"{claim.statement}{paper}"))
        listed = [*_few(judged.numbers), *_lacking(judged)]
        lines += [_indented(f"- {line}", more=2) for line in listed]
        if judged.is_lacking and judged.command:
            lines += _command(judged, results)
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, f"{len(found)} claims: {counted(found)}"])


def render_csv(found: Found, scale: str) -> str:
    """Write the claims as CSV, every number and every missing cell."""
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
                "missing": _missing(judged),
                "command": " ".join([RUN, *judged.command]) if judged.command else "",
            }
        )
    return text.getvalue()


def _table(found: Found, titles: Sequence[str], rows: tuple[Row, ...]) -> Block:
    return Block(
        title=f"{len(found)} claims: {counted(found)}",
        corner="claim",
        columns=tuple(map(Column, titles)),
        rows=rows,
        is_text=True,
    )


def _warnings(found: Found, scale: str, *, is_draft: bool = False) -> list[str]:
    drafts = is_draft or any(judged.is_draft for _, judged in found)
    return [text for text in (DRAFT if drafts else None, warning(scale)) if text]


def _indented(text: str, more: int = 0) -> str:
    # A name or a date is not broken at its hyphens.
    return fill(
        text,
        WIDTH,
        initial_indent=INDENT,
        subsequent_indent=INDENT + " " * more,
        break_on_hyphens=False,
    )


def _few(lines: Sequence[str]) -> Iterable[str]:
    """The lines; of very many the first, and how many more there are (the CSV has all)."""
    some = lines if len(lines) <= LISTED + 2 else lines[: LISTED + 1]
    yield from some
    if len(some) < len(lines):
        yield f"and {len(lines) - len(some)} more"


def _lacking(judged: Judged) -> list[str]:
    """What is missing, if something could not be judged for it (the CSV always says it)."""
    if not (judged.is_lacking and judged.missing):
        return []
    return [f"cells without a number: {_missing(judged)}"]


def _missing(judged: Judged) -> str:
    return ", ".join(f"{method} {n} of {of}" for method, (n, of) in judged.missing.items())


def _command(judged: Judged, results: Path, indent: str = INDENT) -> list[str]:
    """The command that fills what is missing, in lines that can be pasted."""
    words = [RUN, *judged.command]
    if results != DEFAULT_RESULTS:
        words.append(f"--results {quote(str(results))}")
    lines = [words[0]]
    for word in words[1:]:
        if len(indent) + len(lines[-1]) + len(word) + 3 > WIDTH:
            lines.append(f"{INDENT}{word}")
        else:
            lines[-1] += f" {word}"
    return [f"{indent}{line} \\" for line in lines[:-1]] + [f"{indent}{lines[-1]}"]
