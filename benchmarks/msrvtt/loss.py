"""The loss of contrastive learning in a batch (Radford et al., 2021; CLIP4Clip, section 3.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_SCALE = math.log(100)
"""The logarithm of the cosines' factor stays at or below it (openai/CLIP)."""


def contrastive_loss(logits: Tensor) -> Tensor:
    """Return the mean of the cross-entropies over the rows and over the columns.

    Captions of the same clip that meet in a batch are negatives of each other, as in the public code.

    Args:
        logits: (B, B), of clips and captions; the diagonal has the positives.
    """
    right = torch.arange(len(logits), device=logits.device)
    rows = functional.cross_entropy(logits, right)
    return (rows + functional.cross_entropy(logits.T, right)) / 2
