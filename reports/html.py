"""One HTML page with every table and figure of a scale: nothing is loaded from anywhere, no script runs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from reports.layouts import Report
from reports.measurement import Measurement
from reports.page import HOLE, NOTHING, Block, Entry, Page

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def render(
    title: str,
    tables: Sequence[Report],
    figures: Mapping[str, tuple[str, bytes]],
    *,
    options: str,
    more: Iterable[tuple[str, Page]] = (),
) -> str:
    """Lay out a scale.

    Args:
        title: Heading of the page.
        tables: Its tables.
        figures: Caption and SVG by name.
        options: What a command that fills a hole needs at its end, such as ``--scale micro``.
        more: Other pages, by name.
    """
    names = [*((one.name, one.page.title) for one in tables), *((n, p.title) for n, p in more)]
    links = [f'<a href="#{name}">{escape(text.partition(" · ")[0])}</a>' for name, text in names]
    links += [f'<a href="#{name}">{escape(name)}</a>' for name in figures]
    warnings = dict.fromkeys(one.page.warning for one in tables if one.page.warning)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="warning">{escape(text)}</p>' for text in warnings),
        f"<p>{_summary(tables)}</p>",
        f"<nav>{' '.join(links)}</nav>",
        *(_table(one, options) for one in tables),
        *(_section(name, page, page.ours, {}) for name, page in more),
        *(_figure(name, *found) for name, found in figures.items()),
        "</body>\n</html>",
    ]
    return "\n".join(parts) + "\n"


def _summary(tables: Sequence[Report]) -> str:
    holes = {found.path for one in tables for found in one.holes}
    text = f"Declared cells without a number: {len(holes)}."
    if holes:
        text += " A row with holes has at its end the command that fills them."
    return text


def _table(report: Report, options: str) -> str:
    by_method: dict[str, list[Measurement]] = {}
    for found in report.holes:
        by_method.setdefault(found.cell.method, []).append(found)
    return _section(report.name, report.page, report.page.ours, by_method, options)


def _section(
    name: str,
    page: Page,
    blocks: Iterable[Block],
    holes: Mapping[str, Sequence[Measurement]],
    options: str = "",
) -> str:
    shown = {method for block in blocks for method, _ in block.rows}
    left = [found for method, at in holes.items() if method not in shown for found in at]
    parts = [
        f'<section id="{name}">\n<h2>{escape(page.title)}</h2>',
        _blocks(blocks, holes, options),
        *(f'<p class="fill">{_filling([one], options)}</p>' for one in _of_each_method(left)),
        *(f'<p class="note"><sup>{mark}</sup> {escape(text)}</p>' for mark, text in page.notes),
        '<ul class="legend">',
        *(f"<li>{escape(line)}</li>" for line in page.legend),
        "</ul>",
        _blocks(page.paper, {}, options),
        "</section>",
    ]
    return "\n".join(parts)


def _blocks(
    blocks: Iterable[Block], holes: Mapping[str, Sequence[Measurement]], options: str
) -> str:
    """Blocks, side by side where they fit, as the halves of the paper's Table 1 stand."""
    text = "\n".join(f"<div>\n{_block(block, holes, options)}\n</div>" for block in blocks)
    return f'<div class="blocks">\n{text}\n</div>'


def _of_each_method(holes: Iterable[Measurement]) -> list[Measurement]:
    """One hole of each method on each network."""
    return list({(found.cell.backbone, found.cell.method): found for found in holes}.values())


def _block(block: Block, holes: Mapping[str, Sequence[Measurement]], options: str) -> str:
    missing = {name: _at(block, holes.get(name, ())) for name, _ in block.rows}
    # By task the same cells are missing again.
    fills = not block.is_grouped and any(missing.values())
    width = 1 + len(block.columns) + fills
    sections = dict(block.sections)
    rows = []
    for index, (name, cells) in enumerate(block.rows):
        if index in sections:
            heading = escape(sections[index])
            rows.append(
                f'<tr class="part"><th colspan="{width}" scope="rowgroup">{heading}</th></tr>'
            )
        row = "".join(map(_cell, cells))
        if fills:
            row += f'<td class="fill">{_filling(missing[name], options)}</td>'
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{row}</tr>')
    kind = ' class="text"' if block.is_text else ""
    heads = "".join(f'<th scope="col">{_broken(c.title)}</th>' for c in block.columns)
    heads += '<th scope="col">to fill the holes</th>' if fills else ""
    return "\n".join(
        [
            f'<h3>{escape(block.title)}</h3>\n<div class="wide"><table{kind}>\n<thead>',
            _groups(block),
            f'<tr><th scope="col">{escape(block.corner)}</th>{heads}</tr>\n</thead>\n<tbody>',
            *rows,
            "</tbody>\n</table></div>",
        ]
    )


def _at(block: Block, holes: Sequence[Measurement]) -> list[Measurement]:
    """The holes of a row that are on the block's network, where a table has several."""
    networks = {found.cell.backbone for found in holes}
    return [found for found in holes if len(networks) == 1 or found.cell.backbone in block.title]


def _filling(holes: Sequence[Measurement], options: str) -> str:
    if not holes:
        return ""
    cell = holes[0].cell
    selector = f"{cell.benchmark}/{cell.backbone}/*/{cell.method}"
    command = f"python -m benchmarks run '{selector}' {options}"
    return f"<code>{escape(command, quote=False)}</code>"


def _groups(block: Block) -> str:
    if not block.is_grouped:
        return ""
    runs = [
        (group or "", len(list(columns)))
        for group, columns in groupby(block.columns, lambda c: c.group)
    ]
    cells = "".join(
        f'<th colspan="{n}" scope="colgroup">{escape(group or "")}</th>' for group, n in runs
    )
    return f"<tr><td></td>{cells}</tr>"


def _cell(entry: Entry) -> str:
    kind = ' class="hole"' if entry.text in (HOLE, NOTHING) else ""
    value, plus_minus, spread = escape(entry.text).partition(" ± ")
    text = f"{value} <small>± {spread}</small>" if plus_minus else value.replace("\n", "<br>")
    marks = f"<sup>{escape(entry.marks)}</sup>" if entry.marks else ""
    return f"<td{kind}>{text}{marks}</td>"


def _broken(title: str) -> str:
    return "<br>".join(map(escape, title.split("\n")))


def _figure(name: str, caption: str, svg: bytes) -> str:
    source = f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
    text = escape(caption)
    return (
        f'<figure id="{name}">\n<img alt="{text}" src="{source}">\n<figcaption>{text}</figcaption>\n'
        "</figure>"
    )
