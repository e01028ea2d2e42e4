"""Cached features of the frozen towers, for ``partial`` and LST.

``partial`` reads the pooled output of each tower, LST one vector of each hidden state besides. Nothing of
these changes while the rest is trained: CLIP has no dropout, and frames are the same in each epoch. UniPT
reads every token of every hidden state, 2 MB a frame on ViT-B/32, which is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.msrvtt.data import EVALUATED_CAPTIONS, EVALUATED_CLIPS, Split
from benchmarks.msrvtt.model import CLIP4Clip
from benchmarks.training.caching import room
from resora.petl import Method
from resora.petl.layers.hidden_states import SideNetwork
from resora.petl.layers.ladder import vector_of
from resora.petl.lst import LST
from resora.petl.partial import Partial


class FrozenTower:
    """A frozen tower of CLIP; the trained parameters come after it or in a side network."""

    def __init__(self, tower: Any, projection: nn.Module) -> None:
        """Find the side network of a tower, if there is one."""
        self.tower, self.projection = tower, projection
        sides = [module for module in tower.modules() if isinstance(module, SideNetwork)]
        self.side = sides[0] if sides else None

    def vectors(self, **inputs: Tensor) -> Tensor:
        """Return the features of the tower that are read, (B, n, d) for B inputs, the pooled output last."""
        pooled = self.tower(**inputs).pooler_output
        if self.side is None:
            return cast(Tensor, pooled[:, None])
        states, read = self.side.seen()
        return torch.stack([*(vector_of(state, read) for state in states), pooled], dim=1)

    def embeddings(self, vectors: Tensor) -> Tensor:
        """Return what tower and projection give, from vectors (B, n, d)."""
        *states, pooled = vectors.unbind(1)
        if self.side is None:
            return cast(Tensor, self.projection(pooled))
        self.side.replay([state[:, None] for state in states])
        # Not a call, which would replace the output itself.
        return cast(Tensor, self.side.replace(self.projection.forward(pooled)))


class AfterTowers(CLIP4Clip):
    """A model that takes cached features of its frozen towers instead of frames and tokens."""

    def __init__(self, model: CLIP4Clip) -> None:
        """Share the modules of ``model``."""
        super().__init__(model.clip, model.head)
        self.vision = FrozenTower(model.clip.vision_model, model.clip.visual_projection)
        self.text = FrozenTower(model.clip.text_model, model.clip.text_projection)

    def frames(self, pixels: Tensor) -> Tensor:
        """Return embeddings (F, d) of frames from their vectors, (F, n, d')."""
        return self.vision.embeddings(pixels).float()

    def texts(self, tokens: Tensor) -> Tensor:
        """Return embeddings (B, d) of captions from their vectors, (B, n, d')."""
        return self.text.embeddings(tokens).float()


class KeptFrames:
    """The vectors of the frames of clips, those of each clip one after the other."""

    def __init__(self, vectors: Tensor, counts: Tensor) -> None:
        """Keep vectors (F, n, d) of clips that have ``counts`` (N,) frames."""
        self.vectors, self.counts = vectors, counts
        self.starts = counts.cumsum(0) - counts

    def take(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors of the frames of clips (B,), and how many each has, (B,)."""
        counts = self.counts[clips]
        before = counts.cumsum(0) - counts
        rows = torch.arange(int(counts.sum()))
        rows += (self.starts[clips] - before).repeat_interleave(counts)
        return self.vectors[rows.to(self.vectors.device)], counts


@dataclass(frozen=True)
class KeptSplit(Split):
    """Some clips with their captions, as vectors: ``tokens`` is (C, n, d)."""

    def captions(self, index: Tensor) -> Tensor:
        """Return the vectors of chosen captions."""
        return self.tokens[index.to(self.tokens.device)]


def is_cached(model: CLIP4Clip, method: Method) -> bool:
    """Whether both towers are frozen and without noise, so that their features can be cached."""
    is_frozen = type(method) is LST or (type(method) is Partial and not method.blocks)
    configs = (getattr(model.clip.config, f"{tower}_config") for tower in ("vision", "text"))
    return is_frozen and not any(config.attention_dropout for config in configs)


def kept_split(device: str, model: CLIP4Clip, rest: AfterTowers, split: Split) -> KeptSplit | None:
    """Return a split as vectors; None if they take more than there is room for."""
    counts = split.frames.counts[split.clips]
    frames = _joined(
        int(counts.sum()),
        (
            rest.vision.vectors(pixel_values=model.inputs(split.frames.take(some)[0].to(device)))
            for some in split.clips.split(EVALUATED_CLIPS)
        ),
    )
    captions = _joined(
        len(split.tokens),
        (
            rest.text.vectors(input_ids=some.to(device))
            for some in (split.tokens.split(EVALUATED_CAPTIONS) if frames is not None else ())
        ),
    )
    if frames is None or captions is None:
        return None
    return KeptSplit(
        frames=KeptFrames(frames, counts),
        clips=torch.arange(len(split.clips)),
        tokens=captions,
        lengths=split.lengths,
        owner=split.owner,
    )


def _joined(rows: int, parts: Iterator[Tensor]) -> Tensor | None:
    """Return parts one after the other, ``rows`` in all; None if they take half of the room or more."""
    kept: Tensor | None = None
    start = 0
    for part in parts:
        if kept is None:
            if part[0].nbytes * rows > room(part.device) / 2:
                return None
            kept = part.new_empty(rows, *part.shape[1:])
        kept[start : start + len(part)] = part
        start += len(part)
    return kept
