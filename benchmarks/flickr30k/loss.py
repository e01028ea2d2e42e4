"""The hinge loss of image-text matching (VSE++, Faghri et al., 2018; VSE-infinity, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor


def hinge_loss(scores: Tensor, *, margin: float, hardest: bool) -> Tensor:
    """Return the loss of a batch, summed over it.

    Each negative of an image and of a caption costs [margin + s(negative) - s(positive)]_+; either all of
    them count or, for each image and each caption, the one that costs most. Captions of the same image are
    negatives of each other, as in the public code.

    Args:
        scores: (B, B), similarities of images (rows) and captions; the diagonal has the positives.
        margin: By how much a positive has to be more similar.
        hardest: Whether only the hardest negatives count.
    """
    positive = scores.diagonal()
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    of_images = (margin + scores - positive.unsqueeze(1)).clamp_min(0).masked_fill(own, 0)
    of_texts = (margin + scores - positive.unsqueeze(0)).clamp_min(0).masked_fill(own, 0)
    if hardest:
        return of_images.amax(1).sum() + of_texts.amax(0).sum()
    return of_images.sum() + of_texts.sum()


def collapsed_loss(batch: int, margin: float) -> float:
    """Return the loss under the hardest negatives of embeddings that are all alike: 2 x batch x margin."""
    return 2 * batch * margin
