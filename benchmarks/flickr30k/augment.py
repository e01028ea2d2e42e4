"""Size augmentation of VSE-infinity: regions are dropped, words are masked, changed or deleted.

Both are drawn from a generator on the CPU, so that a batch is the same whatever device computes on it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MASKED, RANDOM = 0.5, 0.1
"""Of the words that are chosen: masked, and replaced by random pieces. The other 40 % are deleted, which is
what woodfrog/vse_infty does (lib/datasets/image_caption.py; a comment there says that they are kept)."""


class Special(NamedTuple):
    """Word pieces with a meaning of their own."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


class Ragged(NamedTuple):
    """Captions of different lengths, one after the other.

    Attributes:
        pieces: (P,), word pieces, without [CLS] and [SEP].
        words: (P,), the word that each piece belongs to, counted through all captions.
        captions: (P,), the caption that each piece belongs to.
        number: How many captions there are; one may be without any piece.
    """

    pieces: Tensor
    words: Tensor
    captions: Tensor
    number: int


def dropped_regions(
    regions: Tensor, generator: torch.Generator, *, rate: float
) -> tuple[Tensor, Tensor]:
    """Drop each region with a probability, but never all of an image.

    Args:
        regions: (B, K, D).
        generator: Draws.
        rate: The probability.

    Returns:
        (B, K', D) with the kept regions in their order and zeros behind, and their numbers (B,). The public
        code of the region path may drop all; a set without elements cannot be pooled, so one is kept here,
        as its other path does.
    """
    draws = torch.rand(regions.shape[:2], generator=generator)
    kept = draws > rate
    kept |= draws == draws.amax(1, keepdim=True)
    lengths = kept.sum(1)
    order = kept.int().argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())]
    found = regions.gather(1, order.unsqueeze(-1).expand(-1, -1, regions.shape[-1]))
    padding = torch.arange(order.shape[1]) >= lengths.unsqueeze(1)
    return found.masked_fill_(padding.unsqueeze(-1), 0.0), lengths


def changed_words(
    captions: Ragged, generator: torch.Generator, *, rate: float, special: Special, size: int
) -> Ragged:
    """Choose words with a probability, and mask, replace or delete all pieces of each.

    Args:
        captions: The captions.
        generator: Draws.
        rate: The probability.
        special: The mask, and the padding, which is never put in.
        size: Pieces in the vocabulary; a random piece is any of them but the padding.
    """
    words = int(captions.words.max()) + 1 if len(captions.words) else 0
    draws = torch.rand(words, generator=generator)[captions.words] / rate
    random = torch.randint(1, size, captions.pieces.shape, generator=generator)
    random = torch.where(random <= special.pad, random - 1, random).to(captions.pieces.dtype)
    pieces = captions.pieces.masked_fill(draws < MASKED, special.mask)
    is_random = (draws >= MASKED) & (draws < MASKED + RANDOM)
    pieces = torch.where(is_random, random, pieces)
    kept = (draws < MASKED + RANDOM) | (draws >= 1)
    return Ragged(pieces[kept], captions.words[kept], captions.captions[kept], captions.number)


def padded(captions: Ragged, special: Special) -> tuple[Tensor, Tensor]:
    """Put [CLS] and [SEP] around captions, and pad them.

    Returns:
        int64 (B, T), and how many pieces of each are valid, (B,).
    """
    inner = torch.bincount(captions.captions, minlength=captions.number)
    lengths = inner + 2
    found = torch.full((captions.number, int(lengths.max())), special.pad)
    found[:, 0] = special.cls
    starts = torch.cumsum(inner, 0) - inner
    place = torch.arange(len(captions.pieces)) - starts[captions.captions] + 1
    found[captions.captions, place] = captions.pieces.long()
    found[torch.arange(captions.number), lengths - 1] = special.sep
    return found, lengths
