"""The README's results: what stands between its markers, written from the committed records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill, indent

from benchmarks.harness.cell import parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import BENCHMARKS
from reports import blocks, claims, markdown, shots, stats
from reports.build import load_tables
from reports.grid import CONTROL, Grid, base_of, control_of, load_grid
from reports.layouts import Report
from reports.page import Block, Column, Entry, with_columns
from reports.stats import Difference
from reports.tables import TableData

SCALE = "micro"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FOLDER = f"reports/tables/{SCALE}"
COMMAND = "python -m reports readme"
WIDTH = 120
PAPER_COLUMNS = 4
"""So many columns of the block of means, the last ones, are the paper's."""


def write(readme: Path, results: Path) -> bool:
    """Write the results into a README; return whether it has changed.

    Raises:
        UsageError: It has not one pair of markers.
    """
    text = readme.read_text(encoding="utf-8")
    new = with_results(text, results, readme.name)
    readme.write_text(new, encoding="utf-8")
    return new != text


def with_results(text: str, results: Path, name: str = "README.md") -> str:
    """Return the text with what the records give between its markers."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UsageError(f"{name} needs one line {BEGIN} and after it one line {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{render(results)}{END}{rest.partition(END)[2]}"


def render(results: Path) -> str:
    """Write the results as Markdown."""
    tables = {table.name: table for table in load_tables(results, SCALE)}
    two, five = (tables[name].data for name in ("table2", "table5"))
    assert isinstance(two, TableData)
    assert isinstance(five, TableData)
    parts = [
        f"<!-- written by {COMMAND} from results/{SCALE}/: do not edit -->",
        _introduction(two),
        *_means(two),
        *_means(five),
        *_redundancies(two.grid),
        "\n".join(map(_item, (*_facts(two.grid), _claims(results), _costs(results)))),
        f"![Redundancy after training, by method]({FOLDER}/redundancy.png)",
        f"![Gain of the penalty by task]({FOLDER}/figure1b.png)",
        *_few_shot(tables.get("few_shot")),
        _wrapped(
            f"All numbers, by task too, and the paper's beside them: [{FOLDER}/]({FOLDER}/), as Markdown, "
            f"LaTeX and CSV, with the record behind each; with all figures on one page, `index.html`. "
            f"The records are in `results/{SCALE}/`."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _wrapped(text: str) -> str:
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _item(text: str) -> str:
    """An item of a list."""
    return indent(_wrapped(text), "  ").replace("  ", "- ", 1)


def _introduction(data: TableData) -> str:
    grid = data.grid
    records = [record for row in data.rows for record in grid.records(row.method)]
    machines = sorted(
        {r["hardware"].get("gpu") or r["hardware"].get("cpu") or "?" for r in records}
    )
    metric = grid.benchmark.metrics[0]
    return _wrapped(
        f"**The embedded world at `{SCALE}`: NOT a reproduction of the paper's numbers.** {metric.label} in "
        f"{metric.unit}, {grid.benchmark.selections[0].replace('_', ' ')}, `{grid.backbone}`, measured on "
        f"{', '.join(machines)}; mean ± sample std over {len(grid.scale.seeds)} seeds, a cell with fewer "
        f"says its n. Parameters without the head. Δ is the change of the mean of all tasks in points, "
        f"paired by task and seed, over stage 1 (base) and over a second stage without the penalty "
        f"(control). {stats.INTERVAL_METHOD}; an arrow where it leaves zero out."
    )


def _means(data: TableData) -> Iterator[str]:
    """The means of a table, of the rows that have any number."""
    measured = [row for row in data.rows if any(cell.spread for cell in row.cells.values())]
    absent = [row.method for row in data.rows if row.is_in_suite and row not in measured]
    shown = replace(data, rows=tuple(measured))
    block = blocks.means_block(shown)
    ours = with_columns(block, range(len(block.columns) - PAPER_COLUMNS))
    number = data.table.name.removeprefix("table")
    heading = f"**Rows of the paper's Table {number}** (there: {data.table.title})"
    yield heading + "\n\n" + markdown.table(ours)
    if absent:
        yield _wrapped(f"Without a record: {', '.join(f'`{method}`' for method in absent)}.")


def _few_shot(table: Report | None) -> Iterator[str]:
    """Accuracy by shots, of the methods that have any number, and the figure."""
    data = table.data if table else None
    if not isinstance(data, TableData):
        return
    measured = {row.method for row in data.rows if any(c.spread for c in row.cells.values())}
    if not measured:
        return
    block = shots.means_block(data)
    rows = tuple(row for row in block.rows if row[0] in measured)
    yield (
        "**Few-shot** (there: Figure 3), mean of the five sets, test accuracy at the best validation epoch"
    )
    yield markdown.table(replace(block, rows=rows))
    yield f"![Few-shot accuracy over shots]({FOLDER}/figure3.png)"


def _facts(grid: Grid) -> Iterator[str]:
    tasks = [task.name for task in grid.benchmark.tasks]
    if found := stats.paired_difference(grid.values("lora-r8"), grid.values("linear"), tasks):
        yield f"`lora-r8` over `linear`: {_difference(found)} points."
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
            f"Penalties over the control: of {len(known)} differences those that leave zero out are "
            f"{len(apart)}{''.join(f', {text}' for text in apart)}; by chance one in twenty would."
        )
    for base in dict.fromkeys(parse_method(method).base for method in penalised):
        if found := _over(grid, f"{base}+{CONTROL}", base):
            yield (
                f"The control over `{base}`, which has trained half as long: {_difference(found)} points, "
                f"{_verdict(found)}."
            )


def _over(grid: Grid, method: str, rival: str | None) -> Difference | None:
    tasks = [task.name for task in grid.benchmark.tasks]
    if rival is None:
        return None
    return stats.paired_difference(grid.values(method), grid.values(rival), tasks)


def _difference(found: Difference) -> str:
    text = f"{found.mean:+.2f}"
    return text if found.low is None else f"{text} [{found.low:+.2f}, {found.high:+.2f}]"


def _verdict(found: Difference) -> str:
    if found.excludes_zero:
        return "above zero" if found.mean > 0 else "below zero"
    return "not told from zero"


def _redundancies(grid: Grid) -> Iterator[str]:
    """How much redundancy each penalty leaves, and in how many pairs that is less than the control's."""
    rows = []
    for method in grid.benchmark.methods:
        control, base = control_of(method), base_of(method)
        if control is None or base is None:
            continue
        ours, theirs, before = (_by_cell(grid, name) for name in (method, control, base))
        pairs = [key for key in ours if key in theirs and key in before]
        if not pairs:
            continue
        means = [sum(found[key] for key in pairs) / len(pairs) for found in (before, theirs, ours)]
        lower = sum(ours[key] < theirs[key] for key in pairs)
        cells = (*(f"{mean:.3f}" for mean in means), f"{lower} of {len(pairs)}")
        rows.append((method, tuple(map(Entry, cells))))
    if not rows:
        return
    titles = ("stage 1", "control", "with penalty", "below the control's")
    columns = tuple(map(Column, titles))
    block = Block(title="", corner="method", columns=columns, rows=tuple(rows))
    yield "**Redundancy** after training: mean cos² between subspaces, over pairs of task and seed"
    yield markdown.table(block)


def _by_cell(grid: Grid, method: str) -> dict[tuple[str, int], float]:
    return {
        (record["cell"]["task"], record["cell"]["seed"]): record["redundancy"]["end"]["mean"]
        for record in grid.records(method)
        if record["redundancy"]
    }


def _claims(results: Path) -> str:
    found = claims.judge_all(results, SCALE)
    return (
        f"The paper's claims, judged in the embedded world, where they need not hold: "
        f"{claims.counted(found)} ([{FOLDER}/claims.md]({FOLDER}/claims.md))."
    )


def _costs(results: Path) -> str:
    """Whether Table 6 was measured on a GPU."""
    cost = BENCHMARKS["cost"]
    scale = cost.scales["paper"]
    grid = load_grid(cost, scale, scale.backbones[0], results)
    records = [record for method in cost.methods for record in grid.records(method)]
    machines = {record["hardware"]["gpu"] for record in records if record["hardware"]["gpu"]}
    where = "reports/tables/paper/table6.md"
    if machines:
        return (
            f"Cost of the penalties (Table 6) on {', '.join(sorted(machines))}: [{where}]({where})."
        )
    return (
        f"Cost of the penalties (Table 6): no GPU was at hand; ratios on a CPU: [{where}]({where})."
    )


def differences(readme: Path, results: Path) -> Sequence[str]:
    """Say whether a README's results are those that the records give."""
    text = readme.read_text(encoding="utf-8")
    if text == with_results(text, results, readme.name):
        return []
    return [f"{readme}: its results are not those that the records give; {COMMAND} writes them"]
