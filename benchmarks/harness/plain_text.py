"""Text that came from a file, made harmless before it is printed or written into a report."""

from __future__ import annotations

from typing import Any

FORMULA = ("=", "+", "-", "@")
"""A spreadsheet takes a cell that starts so for a formula."""


def plain_text(text: str) -> str:
    r"""Return a text as one line of printable characters that no spreadsheet runs.

    Control, bidirectional, zero-width and unpaired surrogate characters become their escapes (``\x1b``);
    a quote stands before what would be a formula. Markdown, LaTeX and HTML escape the rest themselves.
    """
    shown = text
    if not text.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown


def cleaned(value: Any) -> Any:
    """Return a value read from JSON with every text in it, names of fields too, as ``plain_text``."""
    if isinstance(value, dict):
        return {plain_text(name): cleaned(each) for name, each in value.items()}
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    return plain_text(value) if isinstance(value, str) else value
