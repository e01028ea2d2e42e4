"""The table of costs as blocks of text cells."""

from __future__ import annotations

from benchmarks.cost.spec import BASELINE
from benchmarks.harness.record import Record
from benchmarks.harness.store import State
from reports.cost import summary
from reports.cost.table import PAPER_BATCH, CostTable, MethodCost, Quartiles, VariantRow
from reports.notes import Notes
from reports.page import FAILED, HOLE, NOTHING, Block, Column, Entry, Page
from reports.published.costs import PublishedCosts

COLUMNS = (
    Column("step\n%"),
    Column("own\n%"),
    Column("memory\n%"),
    Column("FLOPs\n%"),
    Column("fwd\nTMAC"),
    Column("ops\n+"),
    Column("paper\ntime"),
    Column("paper\nFLOPs"),
    Column("paper\nGB"),
)


def page(data: CostTable) -> Page:
    """Format the table."""
    notes = Notes()
    ours = (*summary.blocks(data), *(_method_block(found, notes) for found in data.methods))
    number = data.table.name.removeprefix("table")
    scale = data.grid.scale.name
    return Page(
        title=f"Table {number} · scale {scale} · cost on {data.grid.backbone}",
        warning=warning(data),
        legend=legend(data),
        ours=ours,
        paper=(printed(data.paper, data.table.name),),
        notes=tuple(notes.lines()),
    )


def warning(data: CostTable) -> str | None:
    """What a reader must not take these numbers for; None for the published backbone."""
    if not data.grid.scale.is_embedded:
        return None
    if data.grid.scale.name == "smoke":
        return (
            "SMOKE SCALE: a small backbone and a few rounds; plumbing only, no difference between "
            "variants means anything. NOT a reproduction of the paper's numbers."
        )
    return (
        "EMBEDDED WORLD: costs of a small backbone, accuracies on generated tasks. NOT a reproduction of the "
        "paper's numbers."
    )


def legend(data: CostTable) -> tuple[str, ...]:
    """How to read the cells."""
    scale = data.grid.scale
    lines = [
        summary.LEGEND,
        f"One training step, forward to optimizer, on {data.grid.backbone}; scale {scale.name}: "
        f"{scale.description}. The heads of the blocks say device, batch and rounds.",
        "step: time over that of the step without a penalty in the same round, in %, median "
        "[quartiles] over rounds. The A/A line is that step once more: what is within its spread is noise. "
        "Seconds are shown for GPUs alone.",
        "own: forward and backward of the closed penalty alone, on activations captured from a step, in "
        "% of the step without it, median [quartiles]. It has to be read where step has only noise.",
        "memory: peak of live tensors. FLOPs: forward and backward, by torch's counter, which sees matrix "
        "products alone. Both in % of the step without a penalty. ops: ATen calls beyond it, on a GPU "
        "about one launch each.",
        f"fwd: multiply-adds of the forward pass, scaled to batch {PAPER_BATCH}, in T: what the paper's "
        "FLOPs are. paper: its Table 6 (LoRA rows r = 2, DTL rows), on its hardware and in its "
        "implementation; time +x is x % over its row without a penalty.",
        "closed: resora's. printed: the equation as printed, on features z_i b_i. maps: the same, features "
        "by r maps of d x d applied to every token, which give the FLOPs that the paper prints. After a "
        "comma: what counts as a sample.",
        "dtl: the method, r = 2. dtl-r2: a rank-2 pair at each block's output, the sizes of DTL without its "
        "short backward pass, in which a penalty weighs more.",
        f"{HOLE} no record, or none that can be used. {FAILED} the run failed.",
    ]
    if data.holes:
        lines.append(f"Declared cells without a number: {len(data.holes)} of {len(data.methods)}.")
    return tuple(lines)


def _method_block(found: MethodCost, notes: Notes) -> Block:
    title = f"{found.method} · {found.task.label}"
    record = found.record
    if record is None:
        has_failed = found.measurement.state is State.NOT_OK
        first = Entry(FAILED if has_failed else HOLE, notes.mark([found.measurement]))
        holes = (first, *(Entry(HOLE),) * (len(COLUMNS) - 1))
        rows = ((f"all {len(found.rows)} variants", holes),)
        return Block(title=f"{title} · no record", corner="variant", columns=COLUMNS, rows=rows)
    return Block(
        title=f"{title} · {_circumstances(record)}",
        corner="variant",
        columns=COLUMNS,
        rows=tuple((row.variant.label, _cells(row, record)) for row in found.rows),
    )


def _circumstances(record: Record) -> str:
    counts, hardware = record["counts"], record["hardware"]
    machine = hardware["gpu"] or f"{hardware['cpu']}, threads: {hardware['threads']}"
    return (
        f"batch {counts['batch_size']} × {counts['tokens']} tokens, {counts['matrices']} matrices · "
        f"rounds: {counts['rounds']}, printed and maps {counts['literal_rounds']} · {machine}"
    )


def _cells(row: VariantRow, record: Record) -> tuple[Entry, ...]:
    if row.left_out:
        ours = (Entry(row.left_out), *(Entry(HOLE),) * 5)
    else:
        ours = (
            Entry(_step(row, record)),
            Entry(_quartiles(row.own_share, 2) if row.variant.form == "closed" else NOTHING),
            Entry(_memory(row, record)),
            Entry(_percent(row.flops_ratio, 2)),
            Entry(HOLE if row.forward_tera_macs is None else f"{row.forward_tera_macs:.3f}"),
            Entry(HOLE if row.extra_ops is None else str(row.extra_ops)),
        )
    printed = (row.printed.get(name, NOTHING) for name in ("time", "flops_t", "memory_gb"))
    return (*ours, *map(Entry, printed))


def _step(row: VariantRow, record: Record) -> str:
    if row.variant.name != BASELINE:
        return _quartiles(row.step_ratio, 1)
    # Of a shared CPU, seconds would be taken for a statement about the method.
    if not record["hardware"]["gpu"]:
        return "100"
    return f"100 ({1e3 * record['cost']['baseline_step_seconds']:.2f} ms)"


def _memory(row: VariantRow, record: Record) -> str:
    if row.variant.name != BASELINE:
        return _percent(row.memory_ratio, 2)
    size = record["cost"]["by_variant"][BASELINE]["peak_memory_bytes"]
    return f"100 ({size / 2**30:.2f} GiB)"


def _quartiles(found: Quartiles | None, digits: int) -> str:
    if found is None:
        return HOLE
    text = _percent(found.median, digits)
    if found.low is None or found.high is None:
        return text
    return f"{text} [{_percent(found.low, digits)}, {_percent(found.high, digits)}]"


def _percent(fraction: float | None, digits: int) -> str:
    return HOLE if fraction is None else f"{100 * fraction:.{digits}f}"


def printed(paper: PublishedCosts, name: str) -> Block:
    """The paper's table, every cell as it was typed."""
    rows = tuple(
        (f"{method}: {paper.labels[method]}", tuple(map(Entry, cells.values())))
        for method, cells in paper.cells.items()
    )
    return Block(
        title=f"The paper's Table {name.removeprefix('table')}, as printed",
        corner="method",
        columns=tuple(Column(heading) for heading in paper.columns.values()),
        rows=rows,
    )
