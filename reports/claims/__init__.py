"""The paper's claims, each judged from the records at hand."""

from reports.claims.judging import Claim, Judged, Verdict
from reports.claims.listing import judge_all, load_claims
from reports.claims.writing import counted, page, render_csv, render_markdown, render_terminal

__all__ = [
    "Claim",
    "Judged",
    "Verdict",
    "counted",
    "judge_all",
    "load_claims",
    "page",
    "render_csv",
    "render_markdown",
    "render_terminal",
]
