"""The benchmarks there are, and the cells that selectors choose from their declared grids."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from benchmarks.cost.spec import COST
from benchmarks.fewshot.spec import FEWSHOT
from benchmarks.flickr30k.spec import FLICKR30K
from benchmarks.harness.cell import PARTS, Cell, Selector
from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.spec import Benchmark, Scale
from benchmarks.method_cost.spec import METHOD_COST
from benchmarks.msrvtt.spec import MSRVTT
from benchmarks.speed.spec import SPEED
from benchmarks.vtab1k.spec import VTAB1K

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (VTAB1K, FEWSHOT, FLICKR30K, MSRVTT, COST, METHOD_COST, SPEED)
}
"""All benchmarks by name; add a new one's ``spec.py`` object here."""

LIST = "python -m benchmarks ls"


def benchmark_named(name: str) -> Benchmark:
    """Return the benchmark called ``name``."""
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS, LIST)
    return BENCHMARKS[name]


def scale_named(benchmark: Benchmark, name: str) -> Scale:
    """Return the scale called ``name`` of a benchmark."""
    if name not in benchmark.scales:
        raise unknown("scale", name, benchmark.scales, f"{LIST} {benchmark.name}")
    return benchmark.scales[name]


def select(selectors: Iterable[str], scale: str) -> list[Cell]:
    """Return the declared cells that any of the selectors chooses, each once, in declared order.

    Raises:
        UsageError: A selector names something that does not exist, or chooses nothing.
    """
    chosen: dict[Cell, None] = {}
    for selector in map(Selector, selectors):
        cells = _candidates(selector, scale)
        for position, part in enumerate(PARTS[1:], start=1):
            cells = _narrow(cells, selector, position, part, scale)
        chosen.update(dict.fromkeys(cells))
    return list(chosen)


def cover(cells: Iterable[Cell]) -> list[Cell]:
    """Return the fewest of some cells that touch everything (``Benchmark.cover``), benchmark by benchmark."""
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(cell.benchmark, []).append(cell)
    return [cell for name, some in alike.items() for cell in BENCHMARKS[name].cover(some)]


def check_scale(name: str) -> None:
    """Raise a ``UsageError`` unless some benchmark has a scale of this name."""
    known = {scale for benchmark in BENCHMARKS.values() for scale in benchmark.scales}
    if name not in known:
        raise unknown("scale", name, known, LIST)


def declared(cell: Cell, scale: str) -> tuple[Benchmark, Scale]:
    """Return the benchmark and the scale of a cell."""
    benchmark = benchmark_named(cell.benchmark)
    return benchmark, scale_named(benchmark, scale)


def _candidates(selector: Selector, scale: str) -> list[Cell]:
    pattern = selector.patterns[0]
    names = [name for name in BENCHMARKS if fnmatchcase(name, pattern)]
    if not names:
        raise unknown("benchmark", pattern, BENCHMARKS, LIST)
    check_scale(scale)
    return [
        cell
        for name in names
        if scale in BENCHMARKS[name].scales
        for cell in BENCHMARKS[name].cells(BENCHMARKS[name].scales[scale])
    ]


def _narrow(
    cells: list[Cell], selector: Selector, position: int, part: str, scale: str
) -> list[Cell]:
    pattern = selector.patterns[position]
    left = [cell for cell in cells if fnmatchcase(cell.parts[position], pattern)]
    if not left:
        if not cells:
            raise UsageError(f"selector {selector.text!r} chooses nothing at scale {scale!r}")
        benchmark = cells[0].benchmark
        if part == "method":
            why_not = BENCHMARKS[benchmark].why_not
            backbones = dict.fromkeys(cell.backbone for cell in cells)
            reasons = [reason for name in backbones if (reason := why_not(name, pattern))]
            if reasons:
                raise UsageError("; ".join(dict.fromkeys(reasons)))
        known = {cell.parts[position] for cell in cells}
        raise unknown(
            part, pattern, known, f"at scale {scale!r}; {LIST} {benchmark} --scale {scale}"
        )
    return left
