"""Settings that differ from dataset to dataset of VTAB-1K: a printed count is then a mean over 19."""

from __future__ import annotations

from benchmarks.training.released import load
from benchmarks.vtab1k.hyperparameters import FOLDER
from benchmarks.vtab1k.spec import TASKS

NAMES = tuple(task.name for task in TASKS)
CLASSES = {task.name: task.num_classes for task in TASKS}


def _released(file: str, column: str) -> dict[str, int]:
    lines = load(FOLDER / file, NAMES)
    return {task: int(line[column].value) for task, line in lines.items()}


VPT_TOKENS = _released("vpt-deep.vit.toml", "tokens")
FACT_TK_RANK = _released("fact-tk.toml", "rank")
DTL_PLUS_KERNEL = _released("dtl-plus.vit.toml", "kernel")
"""The width of the depthwise convolution."""

# ZhangYuanhan-AI/NOAH:experiments/NOAH/subnet/VTAB: by block, the prompts, the rank of the LoRA on the
# fused qkv, the width of the adapter.
_NOAH = """
10 5 10 1 5 1 10 1 10 5 1 10 | 10 1 5 5 1 10 1 1 1 10 1 1 | 5 10 10 10 5 1 1 1 10 10 10 1
5 10 1 5 10 1 10 1 10 1 10 1 | 1 10 10 10 5 10 10 10 5 1 10 1 | 10 1 5 10 10 1 5 5 10 1 5 10
10 5 1 1 5 10 5 1 1 5 1 1 | 10 5 1 1 5 10 5 1 1 5 1 1 | 1 1 1 10 1 1 10 10 10 10 10 1
10 10 5 5 1 10 1 5 10 1 5 10 | 10 10 5 5 1 10 1 5 10 1 5 10 | 5 1 5 5 1 1 10 5 5 10 5 10
10 5 5 10 1 10 10 10 10 5 10 10 | 10 1 1 10 5 1 1 5 10 10 1 10 | 1 5 5 5 5 10 1 5 10 1 1 5
10 5 5 10 5 5 5 5 5 5 5 5 | 5 5 5 10 5 5 5 10 10 10 10 5 | 5 5 5 5 5 10 5 10 5 5 5 5
5 1 10 5 5 10 1 5 1 1 1 1 | 10 10 5 5 1 1 10 1 1 1 1 10 | 10 5 1 1 1 10 5 5 1 1 5 1
10 10 5 10 1 10 10 10 5 1 5 5 | 10 10 1 10 1 1 5 5 5 1 5 5 | 5 1 10 5 5 1 1 10 1 5 1 5
10 10 10 10 10 1 5 5 10 10 5 10 | 10 1 10 10 1 5 10 1 1 1 10 1 | 10 10 5 1 10 1 10 5 10 1 10 10
5 5 10 1 5 1 5 10 1 1 5 1 | 10 10 5 5 5 10 10 10 1 5 1 5 | 5 5 5 1 5 1 10 5 5 1 5 5
10 1 5 10 1 5 5 10 5 10 5 5 | 1 1 10 5 5 10 1 10 10 5 10 1 | 1 1 5 5 10 10 10 5 1 10 10 1
10 1 5 10 5 1 10 5 5 5 10 1 | 1 1 10 5 10 10 10 1 5 1 10 1 | 1 10 10 10 10 1 5 10 10 10 1 1
10 1 1 10 5 10 5 1 5 10 5 5 | 5 1 10 5 10 10 1 1 5 10 1 10 | 1 1 1 10 1 1 1 10 5 1 10 10
1 10 5 1 10 10 5 10 10 1 1 1 | 10 5 1 5 10 10 5 5 5 10 10 1 | 5 1 5 1 5 1 5 5 5 10 10 10
1 5 10 1 10 5 1 1 1 5 5 5 | 5 10 10 10 1 10 5 5 10 5 10 1 | 5 1 10 10 1 10 1 1 5 10 5 5
5 10 1 10 10 5 5 1 5 5 10 1 | 1 1 1 1 10 10 1 10 5 1 5 10 | 1 1 1 10 1 1 10 10 10 10 10 1
5 5 1 1 10 5 1 10 10 10 10 10 | 1 10 1 10 1 5 10 10 5 5 1 5 | 1 10 10 10 10 1 5 10 10 10 1 1
1 10 1 10 1 5 10 10 1 10 10 5 | 10 5 1 5 1 1 5 5 10 1 1 10 | 5 1 1 1 5 5 1 10 1 1 5 1
10 1 1 1 1 5 10 10 10 10 1 10 | 10 1 1 1 5 5 10 5 1 10 1 1 | 1 1 1 10 1 1 10 10 10 10 10 1
"""


def _widths(line: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, part.split())) for part in line.split("|"))


NOAH_SUBNETS = dict(zip(NAMES, map(_widths, _NOAH.strip().splitlines()), strict=True))
"""By task: prompts, LoRA ranks and adapter widths, each of the 12 blocks."""
