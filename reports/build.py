"""Writes the tables and figures of one scale, each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reports import render
from reports.comparable import Measurement
from reports.scale import Scale


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build wrote.

    Attributes:
        folder: The folder.
        files: What is in it.
        holes: The declared cells that have no number.
    """

    folder: Path
    files: tuple[Path, ...]
    holes: tuple[Measurement, ...]


def build(scale: Scale, out: Path, *, with_page: bool = True) -> Built:
    """Write every table and figure of a scale below ``out``, into the folder that it names.

    Records of other settings, and drafts, have folders of their own. ``with_page``: also what is not
    committed, the HTML page and the figures as SVG.
    """
    # Matplotlib takes longer to import than all tables to compute, and `show` draws nothing.
    from reports import claims, figures, html

    folder = out / scale.folder
    judged = claims.judge_all(scale.records)
    draft, name = scale.has_drafts, scale.records.scale
    contents = {file: text.encode() for file, text in texts(scale)}
    contents["claims.md"] = claims.render_markdown(judged, name, is_draft=draft).encode()
    contents["claims.csv"] = claims.render_csv(judged, name).encode()
    drawn = list(figures.draw(scale.parts, ("png", "svg") if with_page else ("png",)))
    contents |= {f"{one.name}.{kind}": of for one in drawn for kind, of in one.encoded.items()}
    if with_page:
        pages = [(of.name, of.page) for of in scale.tables.values()]
        pages.append(("claims", claims.page(judged, name, is_draft=draft)))
        if other := html.undeclared(scale.records):
            pages.append(("undeclared", other))
        pictures = ((one.name, one.caption, one.encoded["svg"]) for one in drawn)
        contents["index.html"] = html.render(scale, pages, pictures, folder).encode()
    files = tuple(write(folder / file, content) for file, content in contents.items())
    return Built(folder=folder, files=files, holes=tuple(scale.holes))


def texts(scale: Scale) -> Iterator[tuple[str, str]]:
    """Name and content of every text file of a scale: what is committed."""
    for name, table in scale.tables.items():
        yield f"{name}.md", render.markdown(table.page)
        yield f"{name}.tex", render.latex(table.page)
        yield f"{name}.csv", table.frame.to_csv(index=False, lineterminator="\n")
        yield f"{name}.sources.csv", table.sources.to_csv(index=False, lineterminator="\n")


def write(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old or the new one, and never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path
