"""The compared training configurations; each differs from another by a few switches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # it brings torch, which tables do without
    from benchmarks.training.precision import Name


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way.

    Attributes:
        name: Its name in the file.
        label: What it is, for people.
        precision: What it computes in.
        beside: Cells that share a forward pass; 0: one cell in the trainer's plain step.
        penalty: Of a second stage.
        is_fused: AdamW as one kernel.
        is_held: Frozen matrices are rounded to bfloat16 once.
        is_graph: The step is a CUDA graph.
        is_compiled: Blocks are compiled.
        attention: Torch's kernel of it, ``math`` (its plain form) or ``flash``; None: what the trainer has.
        device: The kind of device that has this way; None: each has.
        reads_losses: Each loss is read in its step.
    """

    name: str
    label: str
    precision: Name = "bf16"
    beside: int = 0
    penalty: str | None = None
    is_fused: bool = True
    is_held: bool = True
    is_graph: bool = False
    is_compiled: bool = False
    attention: Literal["math", "flash"] | None = None
    device: str | None = None
    reads_losses: bool = False


def _beside(count: int, *, graph: bool = False, compiled: bool = False) -> Way:
    how = ["CUDA graph"] * graph + ["compiled blocks"] * compiled
    return Way(
        name=f"beside-{count}" + "-graph" * graph + "-compiled" * compiled,
        label=f"bf16, {count} side by side" + "".join(f", {one}" for one in how),
        beside=count,
        is_graph=graph,
        device="cuda" if graph else None,
        is_compiled=compiled,
    )


PLAIN, REFERENCE, AGAIN, PROCESSES = "plain", "bf16", "bf16-again", "processes-4"

WAYS = (
    Way(
        name="fp32",
        label="trainer, fp32: packed images on the device, fused AdamW",
        precision="fp32",
    ),
    Way(name=REFERENCE, label="trainer, bf16"),
    _beside(8),
    _beside(8, graph=True),
    _beside(8, graph=True, compiled=True),
    _beside(1, graph=True),
    _beside(4),
    _beside(2),
    _beside(4, graph=True),
    Way(name="tf32", label="trainer, TF32", precision="tf32", device="cuda"),
    Way(name="fp32-beside-4", label="fp32, 4 side by side", precision="fp32", beside=4),
    Way(name="bf16-cast", label="bf16, weights rounded in every pass", is_held=False),
    Way(name="bf16-unfused", label="bf16, AdamW not fused", is_fused=False),
    Way(
        name="bf16-math", label="bf16, attention in its plain form", attention="math", device="cuda"
    ),
    Way(name="bf16-flash", label="bf16, attention in one kernel", attention="flash", device="cpu"),
    Way(name="bf16-reading", label="bf16, each loss read in its step", reads_losses=True),
    Way(name="bf16+linear", label="bf16, stage 2 with R_l", penalty="linear"),
    Way(
        name="beside-8+linear",
        label="bf16, 8 side by side, stage 2 with R_l",
        beside=8,
        penalty="linear",
    ),
    Way(name=AGAIN, label="trainer, bf16, again (A/A)"),
    _beside(1, graph=True, compiled=True),
)
"""In the order in which they are measured: what matters most comes first, should time run out."""


def ways_on(device: str) -> list[Way]:
    """Return the configurations for a kind of device."""
    return [way for way in WAYS if way.device in (None, device)]


EFFECTS = (
    ("packed images, fused AdamW, no waiting", PLAIN, "fp32"),
    ("TF32", "fp32", "tf32"),
    ("bfloat16", "fp32", REFERENCE),
    ("frozen matrices held in bfloat16", "bf16-cast", REFERENCE),
    ("AdamW as one kernel", "bf16-unfused", REFERENCE),
    ("fused attention", "bf16-math", REFERENCE),
    ("attention not in one kernel", "bf16-flash", REFERENCE),
    ("losses read once an epoch", "bf16-reading", REFERENCE),
    ("2 side by side", REFERENCE, "beside-2"),
    ("4 side by side", REFERENCE, "beside-4"),
    ("8 side by side", REFERENCE, "beside-8"),
    ("4 side by side in float32", "fp32", "fp32-beside-4"),
    ("4 side by side instead of 4 processes", PROCESSES, "beside-4"),
    ("CUDA graph, one cell", REFERENCE, "beside-1-graph"),
    ("CUDA graph, 8 side by side", "beside-8", "beside-8-graph"),
    ("compiled blocks in it", "beside-8-graph", "beside-8-graph-compiled"),
    ("R_l in stage 2", REFERENCE, "bf16+linear"),
    ("nothing (A/A)", REFERENCE, AGAIN),
)
"""The effect of each part: its name, the configuration without it, the one with it."""
