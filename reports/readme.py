"""The results in README.md (six rows) and in reports/RESULTS.md (all), written from the committed records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill, indent

from benchmarks.harness.cell import parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.registry import BENCHMARKS
from reports import blocks, claims, markdown, shots, stats
from reports.build import load_tables
from reports.grid import CONTROL, Grid, base_of, control_of, load_grid
from reports.page import HOLE, Block, Column, Entry, with_columns
from reports.stats import Difference
from reports.tables import TableData

SCALE = "micro"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FOLDER = f"tables/{SCALE}"
"""The tables, from reports/RESULTS.md."""
SUMMARY = "lora-r8"
"""README.md shows the rows of Table 5 that start from this method."""
COMMAND = "python -m reports readme"
NOTE = f"written by {COMMAND} from results/{SCALE}/: do not edit"
WIDTH = 120
PAPER_COLUMNS = 4
"""So many columns of the block of means, the last ones, are the paper's."""


def write(readme: Path, page: Path, results: Path) -> list[Path]:
    """Write the results into the README and the page of results; return which have changed.

    Raises:
        UsageError: One of them has not one pair of markers.
    """
    new = {
        path: (path.read_text(encoding="utf-8"), text)
        for path, text in _pages(readme, page, results)
    }
    for path, (_, text) in new.items():
        path.write_text(text, encoding="utf-8")
    return [path for path, (old, text) in new.items() if old != text]


def differences(readme: Path, page: Path, results: Path) -> Sequence[str]:
    """Say which of the two pages does not show what the records give."""
    return [
        f"{path}: its results are not those that the records give; {COMMAND} writes them"
        for path, text in _pages(readme, page, results)
        if path.read_text(encoding="utf-8") != text
    ]


def _pages(readme: Path, page: Path, results: Path) -> Iterator[tuple[Path, str]]:
    """Both pages with what the records give between their markers."""
    made: dict[Path, Callable[[Path], str]] = {readme: summary, page: render}
    for path, make in made.items():
        yield path, with_results(path.read_text(encoding="utf-8"), make(results), path.name)


def with_results(text: str, made: str, name: str = "README.md") -> str:
    """Return a page with ``made`` between its markers."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UsageError(f"{name} needs one line {BEGIN} and after it one line {END}")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n<!-- {NOTE} -->\n\n{made}{END}{rest.partition(END)[2]}"


def summary(results: Path) -> str:
    """Write six rows for README.md: accuracy, change over the control and redundancy of LoRA's cells."""
    (table,) = load_tables(results, SCALE, "table5")
    data = table.data
    assert isinstance(data, TableData)
    block = blocks.means_block(data)
    titles = [column.title.replace("\n", " ") for column in block.columns]
    chosen = [titles.index(title) for title in ("All tasks", "Δ control [95 %]")]
    rows = []
    for method, entries in sorted(
        block.rows, key=lambda row: (row[0] != SUMMARY, not row[0].endswith(CONTROL))
    ):
        if parse_method(method).base == SUMMARY:
            found = list(_by_cell(data.grid, method).values())
            redundancy = f"{sum(found) / len(found):.3f}" if found else HOLE
            rows.append((method, (*(entries[index] for index in chosen), Entry(redundancy))))
    columns = (
        Column("accuracy (%)"),
        Column("change over control [95 %]"),
        Column("redundancy (mean cos²)"),
    )
    return (
        markdown.table(Block(title="", corner="method", columns=columns, rows=tuple(rows))) + "\n\n"
    )


def render(results: Path) -> str:
    """Write all results as Markdown."""
    tables = {table.name: table.data for table in load_tables(results, SCALE)}
    two, five = tables["table2"], tables["table5"]
    assert isinstance(two, TableData)
    assert isinstance(five, TableData)
    parts = [
        _introduction(two),
        *_means(two),
        *_means(five),
        *_redundancies(two.grid),
        "\n".join(map(_item, (*_facts(two.grid), _claims(results), _costs(results)))),
        f"![Redundancy after training, by method]({FOLDER}/redundancy.png)",
        f"![Gain of the penalty by task]({FOLDER}/figure1b.png)",
        *_few_shot(tables.get("few_shot")),
        _wrapped(
            f"[{FOLDER}/]({FOLDER}/) has all numbers by task, with the paper's, as Markdown, LaTeX and CSV. "
            f"A `.sources.csv` names the record behind each number. `index.html` there has all tables and "
            f"figures. The records are in `results/{SCALE}/`."
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
        f"{', '.join(machines)}. Mean ± sample std over {len(grid.scale.seeds)} seeds; where there are "
        f"fewer, n is given. Parameters do not include the head. Δ is the change of the mean of all tasks in "
        f"points, paired by task and seed: from stage 1 (base), and from a second stage without the penalty "
        f"(control). {stats.INTERVAL_METHOD}. An arrow marks an interval that does not contain zero."
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
        yield _wrapped(f"No record yet: {', '.join(f'`{method}`' for method in absent)}.")


def _few_shot(data: object) -> Iterator[str]:
    """Accuracy by shots, of the methods that have any number, and the figure."""
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
    return "no effect shown"


def _redundancies(grid: Grid) -> Iterator[str]:
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
        f"The paper's claims, tested on the embedded world, where they need not hold: "
        f"{claims.counted(found)} ([{FOLDER}/claims.md]({FOLDER}/claims.md))."
    )


def _costs(results: Path) -> str:
    """Whether Table 6 was measured on a GPU."""
    cost = BENCHMARKS["cost"]
    scale = cost.scales["paper"]
    grid = load_grid(cost, scale, scale.backbones[0], results)
    records = [record for method in cost.methods for record in grid.records(method)]
    machines = {record["hardware"]["gpu"] for record in records if record["hardware"]["gpu"]}
    where = "tables/paper/table6.md"
    if machines:
        return (
            f"Cost of the penalties (Table 6) on {', '.join(sorted(machines))}: [{where}]({where})."
        )
    return f"Cost of the penalties (Table 6), as ratios on a CPU: [{where}]({where})."
