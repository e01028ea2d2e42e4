"""Seconds and memory of a full-size training step of each method, all methods taking turns.

    python -m benchmarks.msrvtt.throughput --device cuda
    python -m benchmarks.msrvtt.throughput --device cuda --chunk 16
    python -m benchmarks.msrvtt.throughput --device cpu --batch 4 --rounds 3

CLIP ViT-B/32 with random weights, 12 frames a clip.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.msrvtt.pace import RandomPairs
from benchmarks.msrvtt.spec import MSRVTT
from benchmarks.training import retrieval_throughput
from benchmarks.training.retrieval_throughput import Timed

TIMED = Timed(
    MSRVTT,
    RandomPairs,
    cpu_batch=4,
    about=__doc__,
    settings={"chunk": "training.chunk", "precision": "training.precision"},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints JSON."""
    return retrieval_throughput.run(TIMED, arguments)


if __name__ == "__main__":
    sys.exit(main())
