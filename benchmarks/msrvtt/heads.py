"""How the frames of a clip become similar to a text: the four heads of CLIP4Clip (Luo et al., 2022).

``meanP`` has no parameters: frames to unit length, their mean, to unit length. ``seqTransf`` and ``seqLSTM``
put an encoder of the sequence before it, with a residual connection. ``tightTransf`` reads a text and the
frames of a clip together, so that each pair has to be computed. What starts from CLIP starts from the
first blocks and the positions of its text tower, as in the public code (ArrowLuo/CLIP4Clip).
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from benchmarks.harness.errors import unknown

BLOCKS = 4
"""Blocks of the transformers: ``--cross_num_hidden_layers 4`` in the public commands."""

DROPOUT = 0.1
"""Of the embeddings that ``tightTransf`` reads (``cross_config.json``)."""

INITIAL_STD = 0.02
TEXTS_AT_A_TIME = 8


class Head(nn.Module):
    """The part between the towers and the similarity.

    Attributes:
        is_joint: Whether a similarity needs a text and a clip together; else it is an inner product.
    """

    is_joint: ClassVar[bool] = False

    def videos(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Return a unit vector of each clip, (B, d).

        Args:
            frames: (B, L, d), embeddings of frames; zero behind a clip's number.
            counts: (B,), how many frames each clip has, on the CPU.
        """
        raise NotImplementedError

    def scores(self, frames: Tensor, counts: Tensor, texts: Tensor) -> Tensor:
        """Return the similarities (B, C) of clips and texts (C, d)."""
        raise NotImplementedError


class MeanPooling(Head):
    """``meanP``."""

    def videos(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Return the mean of each clip's frames of unit length, to unit length."""
        valid = places(counts, frames.shape[1]).to(frames.device).unsqueeze(-1)
        units = functional.normalize(self.in_context(frames, counts).float(), dim=-1)
        mean = (units * valid).sum(1) / counts.to(frames.device).clamp(min=1).unsqueeze(-1)
        return functional.normalize(mean, dim=-1)

    def in_context(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Return the frames that are averaged, (B, L, d)."""
        del counts
        return frames

    def scores(self, frames: Tensor, counts: Tensor, texts: Tensor) -> Tensor:
        """Return cosines, in float32 also under autocast."""
        videos, units = self.videos(frames, counts), functional.normalize(texts.float(), dim=-1)
        with torch.autocast(videos.device.type, enabled=False):
            return videos @ units.T


class SequenceTransformer(MeanPooling):
    """``seqTransf``: positions, and four blocks of attention between the frames of a clip."""

    def __init__(self, clip: Any) -> None:
        """Copy the positions and blocks from the text tower of ``clip``."""
        super().__init__()
        self.positions, self.blocks = copied(clip)

    def in_context(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Add the output of the transformer to the frames."""
        x = frames + self.positions[: frames.shape[1]]
        mask = hidden_places(counts, frames)
        for block in self.blocks:
            x = block(x, mask)
        return frames + x


class SequenceLSTM(MeanPooling):
    """``seqLSTM``: one layer, forward in time."""

    def __init__(self, clip: Any) -> None:
        """Make the layer in the width of the space of ``clip``."""
        super().__init__()
        width = clip.config.projection_dim
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def in_context(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Add the output of the LSTM to the frames."""
        packed = pack_padded_sequence(frames, counts, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=frames.shape[1]
        )
        return frames + states


class TightTransformer(Head):
    """``tightTransf``: a transformer reads a text's embedding and the frames, and says how alike they are."""

    is_joint: ClassVar[bool] = True

    def __init__(self, clip: Any) -> None:
        """Copy the positions and blocks from the text tower of ``clip``."""
        super().__init__()
        width = clip.config.projection_dim
        self.positions, self.blocks = copied(clip)
        self.dropout = nn.Dropout(DROPOUT)
        self.norm = nn.LayerNorm(width)
        self.dense, self.similarity = nn.Linear(width, width), nn.Linear(width, 1)
        for layer in (self.dense, self.similarity):
            nn.init.normal_(layer.weight, std=INITIAL_STD)
            nn.init.zeros_(layer.bias)

    def scores(self, frames: Tensor, counts: Tensor, texts: Tensor) -> Tensor:
        """Return what the network says of every pair, a few texts at a time; nothing of a part is kept."""
        mask = hidden_places(counts + 1, torch.cat((frames[:, :1], frames), 1))
        found = []
        for some in texts.split(TEXTS_AT_A_TIME):
            if torch.is_grad_enabled():
                found.append(checkpoint(self._some, frames, mask, some, use_reentrant=False))
            else:
                found.append(self._some(frames, mask, some))
        return torch.cat(found, dim=1)

    def _some(self, frames: Tensor, mask: Tensor, texts: Tensor) -> Tensor:
        clips, number = len(frames), len(texts)
        first = texts.to(frames.dtype)[None, :, None].expand(clips, -1, -1, -1)
        pairs = torch.cat((first, frames[:, None].expand(-1, number, -1, -1)), 2).flatten(0, 1)
        x = self.dropout(pairs + self.positions[: pairs.shape[1]])
        wide = mask.repeat_interleave(number, 0)
        for block in self.blocks:
            x = block(x, wide)
        pooled = self.dense(self.norm(x)[:, 0])
        pooled = pooled * torch.sigmoid(1.702 * pooled)
        found: Tensor = self.similarity(pooled).float()
        return found.view(clips, number)


HEADS = {
    "meanP": lambda clip: MeanPooling(),
    "seqTransf": SequenceTransformer,
    "seqLSTM": SequenceLSTM,
    "tightTransf": TightTransformer,
}
"""By the names that CLIP4Clip gives them (``--sim_header``)."""


def make_head(name: str, clip: nn.Module) -> Head:
    """Return a head for a CLIP that is not adapted yet.

    Raises:
        UsageError: There is no such head.
    """
    if name not in HEADS:
        raise unknown("head", name, HEADS, f"model.head is one of {', '.join(HEADS)}; show CELL")
    head: Head = HEADS[name](clip)
    return head


def copied(clip: Any) -> tuple[nn.Parameter, nn.ModuleList]:
    """Return copies of the positions and the first blocks of the text tower, to be trained.

    Raises:
        ValueError: The tower has another width than the common space.
    """
    text, width = clip.text_model, clip.config.projection_dim
    positions = text.embeddings.position_embedding.weight
    if positions.shape[1] != width:
        raise ValueError(
            f"the head starts from the text tower, whose width {positions.shape[1]} is not that of the "
            f"common space, {width}"
        )
    blocks = nn.ModuleList(copy.deepcopy(block) for block in text.encoder.layers[:BLOCKS])
    return nn.Parameter(positions.detach().clone()), blocks.requires_grad_(True)


def places(counts: Tensor, longest: int) -> Tensor:
    """Return which of ``longest`` places hold a frame, (B, longest) of bool."""
    return torch.arange(longest, device=counts.device) < counts.unsqueeze(1)


def hidden_places(counts: Tensor, frames: Tensor) -> Tensor:
    """Return a term of attention's scores, (B, 1, L, L), that hides the places without a frame."""
    hidden = ~places(counts, frames.shape[1]).to(frames.device)
    term = torch.zeros(hidden.shape, dtype=frames.dtype, device=frames.device)
    term = term.masked_fill(hidden, torch.finfo(frames.dtype).min)
    return term[:, None, None, :].expand(-1, 1, frames.shape[1], -1)
