"""Settings that differ from dataset to dataset of VTAB-1K: a printed count is then a mean over 19."""

from __future__ import annotations

from benchmarks.vtab1k.spec import TASKS

NAMES = tuple(task.name for task in TASKS)
CLASSES = {task.name: task.num_classes for task in TASKS}


def _by_task(values: str) -> dict[str, int]:
    return dict(zip(NAMES, map(int, values.split()), strict=True))


# visinf/adapter_plus:conf/experiment/vtab/vpt.yaml; VPT's own list is behind dead links.
VPT_TOKENS = _by_task("10 10 10 1 1 50 5  100 100 10 1  100 200 100 100 100 100 200 200")

# JieShibo/PETL-ViT:FacT/configs/tk
FACT_TK_RANK = _by_task("32 32 16 32 16 32 16  32 32 32 16  32 16 32 32 32 32 32 16")

# heekhero/DTL:train_scripts/vit/vtab; the width of the depthwise convolution of DTL+
DTL_PLUS_KERNEL = _by_task("3 3 5 5 3 5 5  4 3 3 5  5 4 3 4 4 5 5 5")

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
