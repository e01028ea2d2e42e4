"""Random pairs, to measure how long a step and an evaluation take; nothing is read."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from torch import nn

from benchmarks.flickr30k import bert
from benchmarks.flickr30k.model import Batch
from benchmarks.flickr30k.problem import Pairs
from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.training.retrieval_pace import OneBatch
from benchmarks.weights import RANDOM

REGIONS = {"bert_base": (36, 2048), "bert_micro": (12, 64)}
"""Regions of an image and their dimensions."""

PIECES = (8, 24)
"""Fewest and most pieces of a random caption, [CLS] and [SEP] among them; Flickr30K's mean is about 16."""


class RandomPairs(OneBatch, Pairs):
    """As many batches of the same random pairs as are asked for."""

    def __init__(self, config: Config, context: Context) -> None:
        """Draw one batch; nothing is read."""
        name = config["backbone"]["name"]
        number, width = REGIONS[name]
        random = config | {"backbone": config["backbone"] | {"weights": RANDOM}}
        super().__init__(random, context, width)
        draw = torch.Generator().manual_seed(0)
        lengths = torch.randint(PIECES[0], PIECES[1] + 1, (self.batch_size,), generator=draw)
        pieces = torch.randint(
            5, bert.text_named(name).pieces, (self.batch_size, int(lengths.max())), generator=draw
        )
        pieces[torch.arange(pieces.shape[1]) >= lengths.unsqueeze(1)] = 0
        regions = torch.rand(self.batch_size, number, width, generator=draw)
        kept = torch.randint(number * 3 // 4, number + 1, (self.batch_size,), generator=draw)
        regions[torch.arange(number) >= kept.unsqueeze(1)] = 0
        self.batch = self.on_device(Batch(regions, kept, pieces, lengths))

    def evaluation_seconds(self, model: nn.Module) -> float:
        """Return the seconds that the evaluation of one caption takes, with a fifth of an image."""
        encoders: Any = model.eval()
        batch = self.batch
        fifth = max(1, self.batch_size // 5)
        with torch.inference_mode():
            for _ in range(2):
                started = perf_counter()
                encoders.images(batch.regions[:fifth], batch.region_lengths[:fifth])
                encoders.texts(batch.pieces, batch.piece_lengths).sum().item()
        return (perf_counter() - started) / self.batch_size
