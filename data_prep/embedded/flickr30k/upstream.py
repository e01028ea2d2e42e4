"""Text that the small BERT is pre-trained on: captions of the broader world, with gaps, in pairs.

No scene and no caption is the benchmark's: the world has other beings, things, places and deeds besides,
lacks a third of the benchmark's words for nouns and colours, and its scenes come from seeds of their own.

The two captions of a pair are of one scene, mostly paraphrases. Every second scene is the twin of the one
before: the same things in the same place, but two of them have changed colours or places. To tell the
captions of twins apart, one has to understand who has which colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.embedded.flickr30k import scene
from data_prep.embedded.flickr30k.captions import Speaker, plain
from data_prep.embedded.flickr30k.lexicon import BROAD
from data_prep.embedded.flickr30k.scene import Rng, Scene
from data_prep.flickr30k.tokens import WordPieces

_UPSTREAM = 9_017
IGNORED = -100
_GAPS, _TO_MASK, _TO_RANDOM = 0.15, 0.8, 0.1
PARAPHRASES = 0.6

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """A batch of captions with gaps; rows k and k + B are of the same scene.

    Attributes:
        pieces: (2 B, L), with [CLS] and [SEP], padded with [PAD].
        hidden: (2 B, L), the piece in each gap; ``IGNORED`` elsewhere.
    """

    pieces: Integers
    hidden: Integers


def batch(words: WordPieces, seed: int, step: int, pairs: int) -> Batch:
    """Make the batch of a step: an even number of pairs; it depends on nothing but the arguments."""
    rng = np.random.default_rng([seed, _UPSTREAM, step])
    first, second = [], []
    for _ in range(pairs // 2):
        made = scene.make(BROAD, rng)
        saying, other = (int(number) for number in rng.integers(1 << 62, size=2))
        for seen in (made, scene.twin(made, rng)):
            again = saying if rng.random() < PARAPHRASES else other
            first.append(_say(seen, saying, rng))
            second.append(_say(seen, again, rng))
    special = words.about()["special"]
    texts = [
        [special["cls"], *(p for word in words.words(caption) for p in word), special["sep"]]
        for caption in (*first, *second)
    ]
    pieces = np.full((len(texts), max(map(len, texts))), special["pad"], dtype=np.int64)
    for row, text in enumerate(texts):
        pieces[row, : len(text)] = text
    return Batch(*_with_gaps(pieces, words, rng))


def _say(seen: Scene, saying: int, tongue: Rng) -> str:
    return plain(Speaker(BROAD, np.random.default_rng(saying), tongue).caption(seen))


def _with_gaps(pieces: Integers, words: WordPieces, rng: Rng) -> tuple[Integers, Integers]:
    """Hide a part of the pieces as BERT does: 80 % by [MASK], 10 % by a random piece, 10 % not at all."""
    special = words.about()["special"]
    keep = [special["pad"], special["cls"], special["sep"]]
    chosen = (rng.random(pieces.shape) < _GAPS) & ~np.isin(pieces, keep)
    how = rng.random(pieces.shape)
    gaps = pieces.copy()
    gaps[chosen & (how < _TO_MASK)] = special["mask"]
    at_random = chosen & (how >= _TO_MASK) & (how < _TO_MASK + _TO_RANDOM)
    gaps[at_random] = rng.integers(len(special), len(words.vocabulary), int(at_random.sum()))
    return gaps, np.where(chosen, pieces, IGNORED)
