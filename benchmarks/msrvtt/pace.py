"""Random pairs, to measure how long a step and an evaluation take; nothing is read."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from torch import nn

from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.msrvtt import clip
from benchmarks.msrvtt.data import EVALUATED_CLIPS
from benchmarks.msrvtt.model import Batch
from benchmarks.msrvtt.problem import Pairs
from benchmarks.training.retrieval_pace import OneBatch
from benchmarks.weights import RANDOM

FRAMES = {"clip_vit_b32": (12, 12), "clip_micro": (4, 9)}
"""Fewest and most frames of a clip: MSR-VTT's last 10 to 32 seconds, of which 12 are taken."""

TOKENS = (7, 20)
"""Fewest and most tokens of a random caption, start and end among them; MSR-VTT's mean is about 12."""


class RandomPairs(OneBatch, Pairs):
    """As many batches of the same random pairs as are asked for."""

    def __init__(self, config: Config, context: Context) -> None:
        """Draw one batch; nothing is read."""
        random = config | {"backbone": config["backbone"] | {"weights": RANDOM}}
        super().__init__(random, context)
        name = config["backbone"]["name"]
        towers, (fewest, most) = clip.towers_named(name), FRAMES[name]
        draw = torch.Generator().manual_seed(0)
        number = (self.batch_size,)
        counts = torch.randint(fewest, most + 1, number, generator=draw)
        shape = (int(counts.sum()), 3, towers.size, towers.size)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
        lengths = torch.randint(TOKENS[0], TOKENS[1] + 1, number, generator=draw)
        tokens = torch.randint(
            1, towers.tokens - 2, (self.batch_size, int(lengths.max())), generator=draw
        )
        tokens[torch.arange(tokens.shape[1]) >= lengths.unsqueeze(1)] = 0
        tokens[:, 0] = towers.tokens - 2
        tokens[torch.arange(self.batch_size), lengths - 1] = towers.tokens - 1
        self.batch = self.on_device(Batch(frames, counts, tokens, lengths))

    def evaluation_seconds(self, model: nn.Module) -> float:
        """Return the seconds that the evaluation of one caption and its clip takes, similarities left out."""
        encoders: Any = model.eval()
        some = self.batch.chunks(min(EVALUATED_CLIPS, self.batch_size))[0]
        with torch.inference_mode():
            for _ in range(2):
                started = perf_counter()
                found = encoders.encode(some)
                (found.frames.sum() + found.texts.sum()).item()
        return (perf_counter() - started) / len(some.counts)
