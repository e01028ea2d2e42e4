"""VSE-infinity on region features and BERT (Chen et al., CVPR 2021; woodfrog/vse_infty, "region").

Both sides end as unit vectors of one space, so that similarity is their inner product. What every method
trains is the submodule ``head``: the image encoder, the projection of the text and its pooling. ``bert`` is
what a parameter-efficient method adapts.

One thing of the public code is left out: a second BatchNorm of the regions' MLP, which is constructed there
and never used (2,048 parameters of its 3,688,352).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from benchmarks.flickr30k.pooling import GeneralisedPooling, valid_elements

EPSILON = 1e-8


class Batch(NamedTuple):
    """Images and their captions; lengths are on the CPU.

    Attributes:
        regions: (B, K, D); zero behind an image's length.
        region_lengths: (B,).
        pieces: (B, T), word pieces from [CLS] to [SEP]; padding behind.
        piece_lengths: (B,).
    """

    regions: Tensor
    region_lengths: Tensor
    pieces: Tensor
    piece_lengths: Tensor


class TrackingNorm(nn.BatchNorm1d):
    """A BatchNorm whose running statistics are part of what a checkpoint holds."""

    state_buffers = ("running_mean", "running_var", "num_batches_tracked")


class RegionEncoder(nn.Module):
    """GPO(FC(x) + MLP(x)), to unit length.

    The BatchNorm of the MLP sees all B x K rows, those of padding too, as in the public code.
    """

    def __init__(self, regions: int, hidden: int, width: int) -> None:
        """Make the layers.

        Args:
            regions: Dimensions of a region's features.
            hidden: Of the MLP.
            width: Of the common space.
        """
        super().__init__()
        self.fc = nn.Linear(regions, width)
        bound = math.sqrt(6.0) / math.sqrt(regions + width)
        nn.init.uniform_(self.fc.weight, -bound, bound)
        nn.init.zeros_(self.fc.bias)
        self.mlp = nn.Sequential(
            nn.Linear(regions, hidden), TrackingNorm(hidden), nn.ReLU(), nn.Linear(hidden, width)
        )
        self.pool = GeneralisedPooling()

    def forward(self, regions: Tensor, lengths: Tensor) -> Tensor:
        """Return unit vectors, (B, width), of regions (B, K, D) and their numbers (B,)."""
        rows = regions.flatten(0, 1)
        features = (self.fc(rows) + self.mlp(rows)).unflatten(0, regions.shape[:2])
        return unit(self.pool(features, lengths))


class Head(nn.Module):
    """What every method trains.

    Attributes:
        image: The image encoder.
        projection: Of BERT's hidden states to the common space. None where a side network of that width
            stands in its place (LST, UniPT).
        pool: Of the tokens.
    """

    def __init__(
        self, *, regions: int, hidden: int, text: int, width: int, projects: bool = True
    ) -> None:
        """Make the parts; ``text`` is BERT's width."""
        super().__init__()
        self.image = RegionEncoder(regions, hidden, width)
        self.projection = nn.Linear(text, width) if projects else None
        self.pool = GeneralisedPooling()


class VSE(nn.Module):
    """The two encoders."""

    def __init__(self, bert: nn.Module, head: Head) -> None:
        """Join a BERT of transformers and the head."""
        super().__init__()
        self.bert = bert
        self.head = head

    def images(self, regions: Tensor, lengths: Tensor) -> Tensor:
        """Return unit vectors of images, (B, width)."""
        return cast(Tensor, self.head.image(regions, lengths))

    def texts(self, pieces: Tensor, lengths: Tensor) -> Tensor:
        """Return unit vectors of captions, (B, width); [CLS] and [SEP] are pooled too."""
        mask = valid_elements(lengths, pieces.shape[1]).to(pieces.device)
        output: Any = self.bert(input_ids=pieces, attention_mask=mask.long())
        states: Tensor = output.last_hidden_state
        if self.head.projection is not None:
            states = self.head.projection(states)
        return unit(self.head.pool(states, lengths))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return unit vectors of a batch's images and captions, (B, width) each."""
        return (
            self.images(batch.regions, batch.region_lengths),
            self.texts(batch.pieces, batch.piece_lengths),
        )


def unit(x: Tensor) -> Tensor:
    """Return x over its length plus 1e-8."""
    lengths: Tensor = x.norm(dim=-1, keepdim=True)
    return x / (lengths + EPSILON)
