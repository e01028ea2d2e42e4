"""Seconds and memory of a full-size training step of each method, all methods taking turns.

    python -m benchmarks.flickr30k.throughput --device cuda
    python -m benchmarks.flickr30k.throughput --device cpu --batch 8 --rounds 3

BERT-base with random weights, 36 regions of 2,048.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.flickr30k.pace import RandomPairs
from benchmarks.flickr30k.spec import FLICKR30K
from benchmarks.training import retrieval_throughput
from benchmarks.training.retrieval_throughput import Timed

TIMED = Timed(FLICKR30K, RandomPairs, cpu_batch=8, about=__doc__, settings={})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; prints JSON."""
    return retrieval_throughput.run(TIMED, arguments)


if __name__ == "__main__":
    sys.exit(main())
