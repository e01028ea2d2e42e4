"""The results in README.md, reports/RESULTS.md and benchmarks/README.md, written from committed records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill, indent

from benchmarks.harness.cell import parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import BENCHMARKS
from reports import claims, recipes, render, stats
from reports.layout import View, name_of
from reports.page import HOLE, Block, Column, Entry, Row
from reports.records import Grid, read
from reports.rivals import CONTROL, base_of, control_of
from reports.scale import Scale, load_scale
from reports.specs import LAYOUTS, means
from reports.stats import Difference
from reports.table import Part

SCALE = "micro"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FOLDER = f"tables/{SCALE}"
"""The tables, from reports/RESULTS.md."""
SUMMARY = "lora-r8"
"""README.md shows the rows of Table 5 that start from this method."""
COMMAND = "python -m reports readme"
NOTE = f"written by {COMMAND} from results/{SCALE}/: do not edit"
WIDTH = 120


def write(pages: Mapping[str, Path], results: Path) -> list[Path]:
    """Write the results into pages, by name in ``PAGES``; return which have changed.

    Raises:
        UsageError: One of them has not one pair of markers.
    """
    new = list(_pages(pages, load_scale(results, SCALE)))
    for path, _, text in new:
        path.write_text(text, encoding="utf-8")
    return [path for path, old, text in new if old != text]


def differences(pages: Mapping[str, Path], scale: Scale) -> Sequence[str]:
    """Say which of the pages does not show what the records give."""
    return [
        f"{path}: its results are not those that the records give; {COMMAND} writes them"
        for path, old, text in _pages(pages, scale)
        if old != text
    ]


def _pages(pages: Mapping[str, Path], scale: Scale) -> Iterator[tuple[Path, str, str]]:
    """The pages as they are, and with what the records give between their markers."""
    for name, path in pages.items():
        old = path.read_text(encoding="utf-8")
        yield path, old, with_results(old, PAGES[name](scale), path.name)


def with_results(text: str, made: str, name: str = "README.md") -> str:
    """Return a page with ``made`` between its markers."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UsageError(f"{name} needs one line {BEGIN} and after it one line {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n<!-- {NOTE} -->\n\n{made}{END}{rest.partition(END)[2]}"


def summary(scale: Scale) -> str:
    """Write six rows for README.md: accuracy, change over the control and redundancy of LoRA's cells."""
    part = scale.parts["table5"]
    block = means(part).block(part)
    rows = []
    for row in sorted(
        block.rows, key=lambda row: (row.name != SUMMARY, not row.name.endswith(CONTROL))
    ):
        if parse_method(row.name).base == SUMMARY:
            cells = block.row(row.name)
            found = list(_by_cell(part.grid, row.name).values())
            redundancy = f"{sum(found) / len(found):.3f}" if found else HOLE
            shown = cells["All tasks"], cells["Δ control [95 %]"], Entry(redundancy)
            rows.append(Row(row.name, shown))
    titles = "accuracy (%)", "change over control [95 %]", "redundancy (mean cos²)"
    shown_block = Block(title="", columns=tuple(map(Column, titles)), rows=tuple(rows))
    return render.markdown_table(shown_block) + "\n\n"


def results(scale: Scale) -> str:
    """Write all results as Markdown."""
    two, five, few_shot = (scale.parts.get(name) for name in ("table2", "table5", "few_shot"))
    assert two is not None
    assert five is not None
    whole = scale.records.grid("vtab1k")
    grid = two.grid
    hardware = [r["hardware"] for method in two.rows for r in grid.records(method)]
    environment = render.templates("md")
    environment.filters |= {"wrap": _wrapped, "item": _item}
    return environment.get_template("results.md.j2").render(
        scale=SCALE,
        folder=FOLDER,
        metric=grid.benchmark.metrics[0],
        rule=grid.benchmark.selections[0].replace("_", " "),
        backbone=grid.backbone,
        machines=", ".join(sorted({one.get("gpu") or one.get("cpu") or "?" for one in hardware})),
        seeds=len(grid.scale.seeds),
        interval=stats.INTERVAL_METHOD,
        means=[_means(part) for part in (two, five)],
        redundancy=_redundancies(whole),
        facts=[*_facts(whole), _claims(scale), _costs(scale)],
        few_shot=_few_shot(few_shot),
    )


def _wrapped(text: str) -> str:
    return fill(text.strip(), WIDTH, break_long_words=False, break_on_hyphens=False)


def _item(text: str) -> str:
    """An item of a list."""
    return indent(_wrapped(text), "  ").replace("  ", "- ", 1)


def _means(part: Part) -> dict[str, object]:
    """The means of a table, of the rows that have any number."""
    block = means(part).block(part)
    rows = tuple(row for row in block.rows if row.name in part.measured)
    # A heading stands above the first row that is left of its section.
    sections = {row.name: row.section for row in means(_of(part, rows)).block(part).rows}
    kept = tuple(row._replace(section=sections.get(row.name, "")) for row in rows)
    return {
        "name": name_of(part.table),
        "title": part.table.title,
        "table": render.markdown_table(replace(block, rows=kept)),
        "absent": [row for row in part.in_suite if row not in part.measured],
    }


def _of(part: Part, rows: Sequence[Row]) -> Part:
    """The part with these rows alone."""
    return replace(part, table=replace(part.table, rows=tuple(row.name for row in rows)))


def _few_shot(part: Part | None) -> str:
    """Accuracy by shots, of the methods that have any number."""
    if part is None or not part.measured:
        return ""
    view = next(iter(LAYOUTS["shots"].ours(part)))
    assert isinstance(view, View)
    block = view.block(part)
    rows = tuple(row for row in block.rows if row.name in part.measured)
    return render.markdown_table(replace(block, rows=rows))


def _facts(grid: Grid) -> Iterator[str]:
    if found := _over(grid, "lora-r8", "linear"):
        yield f"`lora-r8` against linear probing: {_difference(found)} points."
    penalised = [method for method in grid.benchmark.methods if control_of(method)]
    over = {method: _over(grid, method, control_of(method)) for method in penalised}
    known = {method: found for method, found in over.items() if found}
    if known:
        apart = [
            f"`{method}` {_difference(found)}"
            for method, found in known.items()
            if found.excludes_zero
        ]
        yield (
            f"Penalties against their control: {len(apart)} of {len(known)} intervals do not contain zero"
            f"{':' if apart else ''}{','.join(f' {text}' for text in apart)}. "
            f"By chance, one in twenty would not."
        )
    for base in dict.fromkeys(parse_method(method).base for method in penalised):
        if found := _over(grid, f"{base}+{CONTROL}", base):
            yield (
                f"The control against `{base}`, which is trained for half as many epochs: "
                f"{_difference(found)} points, {_verdict(found)}."
            )


def _over(grid: Grid, method: str, rival: str | None) -> Difference | None:
    if rival is None:
        return None
    tasks = [task.name for task in grid.benchmark.tasks]
    return stats.paired_difference(grid.values(method), grid.values(rival), tasks)


def _difference(found: Difference) -> str:
    text = f"{found.mean:+.2f}"
    return text if found.low is None else f"{text} [{found.low:+.2f}, {found.high:+.2f}]"


def _verdict(found: Difference) -> str:
    if found.excludes_zero:
        return "above zero" if found.mean > 0 else "below zero"
    return "no effect shown"


def _redundancies(grid: Grid) -> str:
    """Redundancy after each penalty, and in how many pairs it is below the control's."""
    rows = []
    for method in grid.benchmark.methods:
        control, base = control_of(method), base_of(method)
        if control is None or base is None:
            continue
        ours, theirs, before = (_by_cell(grid, name) for name in (method, control, base))
        pairs = [key for key in ours if key in theirs and key in before]
        if not pairs:
            continue
        averages = [sum(of[key] for key in pairs) / len(pairs) for of in (before, theirs, ours)]
        lower = sum(ours[key] < theirs[key] for key in pairs)
        cells = (*(f"{mean:.3f}" for mean in averages), f"{lower} of {len(pairs)}")
        rows.append(Row(method, tuple(map(Entry, cells))))
    titles = ("stage 1", "control", "with penalty", "below the control's")
    block = Block(title="", columns=tuple(map(Column, titles)), rows=tuple(rows))
    return render.markdown_table(block) if rows else ""


def _by_cell(grid: Grid, method: str) -> dict[tuple[str, int], float]:
    values = grid.values(method, "redundancy_end")
    return {(task, seed): value for task, of in values.items() for seed, value in of.items()}


def _claims(scale: Scale) -> str:
    found = claims.judge_all(scale.records)
    return (
        f"The paper's claims, tested on the embedded world, where they need not hold: "
        f"{claims.counted(found)} ([{FOLDER}/claims.md]({FOLDER}/claims.md))."
    )


def _costs(scale: Scale) -> str:
    """Whether Table 6 was measured on a GPU."""
    where = "tables/paper/table6.md"
    cost = BENCHMARKS.get("cost")
    if cost is not None:
        only = {("cost", cost.scales["paper"].backbones[0]): cost.methods}
        grid = read(scale.records.results, "paper", only=only).grid("cost")
        records = [record for method in cost.methods for record in grid.records(method)]
        if machines := {r["hardware"]["gpu"] for r in records if r["hardware"]["gpu"]}:
            return f"Cost of the penalties (Table 6) on {', '.join(sorted(machines))}: [{where}]({where})."
    return f"Cost of the penalties (Table 6), as ratios on a CPU: [{where}]({where})."


PAGES: Mapping[str, Callable[[Scale], str]] = {
    "readme": summary,
    "page": results,
    "recipes": recipes.table,
}
"""What writes each page, by the name of its option."""
