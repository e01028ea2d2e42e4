"""CLIP4Clip (Luo et al., 2022): the towers of CLIP on frames and captions, and a head over the frames.

Only frames that a clip has are encoded: what the public code pads with zeros, encodes and masks in the mean
never exists here, so that no penalty sees it. Captions are cut to the longest of their batch; the text tower
is causal, so that what stands behind the end changes nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.msrvtt.heads import Head, places

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's normalisation of pixels in [0, 1] (openai/CLIP, ``clip/clip.py``)."""


class Batch(NamedTuple):
    """Clips and a caption each; numbers of frames and of tokens are on the CPU.

    Attributes:
        frames: uint8 (F, 3, S, S), those of each clip one after the other.
        counts: (B,), how many of them each clip has.
        tokens: int64 (B, T), with start and end; zero behind.
        lengths: (B,), how many tokens each caption has.
    """

    frames: Tensor
    counts: Tensor
    tokens: Tensor
    lengths: Tensor

    def chunks(self, size: int) -> list[Batch]:
        """Part the batch into batches of ``size`` pairs, the last one perhaps smaller."""
        counts = self.counts.split(size)
        frames = self.frames.split([int(part.sum()) for part in counts])
        parts = zip(frames, counts, self.tokens.split(size), self.lengths.split(size), strict=True)
        return [Batch(*part) for part in parts]


class Encoded(NamedTuple):
    """What the towers say of a batch.

    Attributes:
        frames: (F, d), embeddings of frames, those of each clip one after the other.
        counts: (B,), how many each clip has, on the CPU.
        texts: (B, d), embeddings of captions.
    """

    frames: Tensor
    counts: Tensor
    texts: Tensor


class CLIP4Clip(nn.Module):
    """The two towers, and a head.

    Attributes:
        clip: What a parameter-efficient method adapts.
        head: What every method trains.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, clip: nn.Module, head: Head) -> None:
        """Join a CLIP of transformers and a head."""
        super().__init__()
        self.clip: Any = clip
        self.head = head
        for name, values in (("mean", MEAN), ("std", STD)):
            pixels = 255 * torch.tensor(values).view(1, 3, 1, 1)
            self.register_buffer(name, pixels, persistent=False)

    def inputs(self, pixels: Tensor) -> Tensor:
        """Return frames, uint8 (F, 3, S, S), as the vision tower takes them."""
        return (pixels.float() - self.mean) / self.std

    def frames(self, pixels: Tensor) -> Tensor:
        """Return embeddings (F, d) of frames, uint8 (F, 3, S, S)."""
        pooled = self.clip.vision_model(pixel_values=self.inputs(pixels)).pooler_output
        return cast(Tensor, self.clip.visual_projection(pooled)).float()

    def texts(self, tokens: Tensor) -> Tensor:
        """Return embeddings (B, d) of captions (B, T)."""
        pooled = self.clip.text_model(input_ids=tokens).pooler_output
        return cast(Tensor, self.clip.text_projection(pooled)).float()

    def encode(self, batch: Batch, chunk: int | None = None) -> Encoded:
        """Run the towers.

        Args:
            batch: Clips and captions.
            chunk: Pairs that are encoded at a time. Then only embeddings are kept, and each chunk is computed
                again in the backward pass, with the same random numbers: gradient caching (Gao et al., 2021,
                arXiv 2101.06983), the gradient of the whole batch in the memory of a chunk. None: at once.
        """
        if chunk is None or chunk >= len(batch.counts) or not torch.is_grad_enabled():
            return Encoded(self.frames(batch.frames), batch.counts, self.texts(batch.tokens))
        found = [
            checkpoint(self._both, part.frames, part.tokens, use_reentrant=False)
            for part in batch.chunks(chunk)
        ]
        frames, texts = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Encoded(frames, batch.counts, texts)

    def _both(self, frames: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.frames(frames), self.texts(tokens)

    def logits(self, encoded: Encoded) -> Tensor:
        """Return what cross-entropies are of: (clips, captions).

        Cosines times the trained scale, in float32 also under autocast: with a scale of 100, bfloat16 has no
        digits for them. ``tightTransf`` has no scale.
        """
        frames = padded(encoded.frames, encoded.counts)
        scores = self.head.scores(frames, encoded.counts, encoded.texts)
        if self.head.is_joint:
            return scores
        return cast(Tensor, scores * self.clip.logit_scale.exp())

    def forward(self, batch: Batch, chunk: int | None = None) -> Tensor:
        """Return the logits of a batch, (B, B); positives are on the diagonal."""
        return self.logits(self.encode(batch, chunk))


def padded(frames: Tensor, counts: Tensor) -> Tensor:
    """Return frames (F, d) clip by clip, (B, L, d), with zeros behind."""
    longest = int(counts.max())
    index = places(counts, longest).flatten().nonzero().squeeze(1).to(frames.device)
    rows = frames.new_zeros(len(counts) * longest, frames.shape[1])
    return rows.index_copy(0, index, frames).view(len(counts), longest, -1)
