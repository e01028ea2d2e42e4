"""Seeds by purpose: what must be the same between two cells is derived from what they share.

The method is not an axis of the order of the data, so that all methods of a task and seed see the
same batches; it is one of an adapter's initial values.
"""

from __future__ import annotations

import hashlib

from benchmarks.harness.cell import Cell, parse_method

AXES: dict[str, tuple[str, ...]] = {
    "data_order": ("benchmark", "task", "seed"),
    "head": ("benchmark", "backbone", "task", "seed"),
    "adapter": ("benchmark", "backbone", "task", "base", "seed"),
    "noise": ("benchmark", "backbone", "task", "base", "seed"),
}
"""For each purpose, the parts of the cell that decide the seed. ``base`` is the method without its
suffix, so that the stage-2 cells of one base (its control among them) share their noise."""


def seed_for(purpose: str, cell: Cell, *, stage: int = 1) -> int:
    """Return the seed, of 63 bits, for one purpose in one stage of a cell."""
    values = {
        "benchmark": cell.benchmark,
        "backbone": cell.backbone,
        "task": cell.task,
        "base": parse_method(cell.method).base,
        "seed": str(cell.seed),
    }
    text = "|".join([purpose, str(stage), *(values[axis] for axis in AXES[purpose])])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
