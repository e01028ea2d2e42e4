"""Text that the small BERT is pre-trained on: captions of the broader world, alone and in pairs.

No scene and no caption is the benchmark's: the world has other beings, things, places and deeds besides,
lacks a third of the benchmark's words for nouns and colours, and its scenes come from seeds of their own. Two
captions of one scene say the same in other words: to fill a gap in one, the model looks up who had which
colour in the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.embedded.flickr30k import scene
from data_prep.embedded.flickr30k.captions import Speaker, plain
from data_prep.embedded.flickr30k.lexicon import BROAD
from data_prep.embedded.flickr30k.scene import Rng
from data_prep.flickr30k.tokens import WordPieces

_UPSTREAM = 9_017
IGNORED = -100
_MASKED, _TO_MASK, _TO_RANDOM = 0.2, 0.8, 0.1
ALONE, TOGETHER = 0.3, 0.5

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """A batch of texts with gaps.

    Attributes:
        pieces: (B, L), with [CLS] and [SEP], padded with [PAD].
        segments: (B, L), 1 in the second caption.
        hidden: (B, L), the piece in each gap; ``IGNORED`` elsewhere.
        together: (B,), 1 if both captions are of one scene, 0 if not, ``IGNORED`` for one caption alone.
    """

    pieces: Integers
    segments: Integers
    hidden: Integers
    together: Integers


def batch(words: WordPieces, seed: int, step: int, size: int) -> Batch:
    """Make the batch of a step; it depends on nothing but the arguments."""
    rng = np.random.default_rng([seed, _UPSTREAM, step])
    special = words.about()["special"]
    texts, second, together = [], [], []
    for _ in range(size):
        first, other, answer = _pair(rng)
        pieces = [special["cls"], *_pieces(words, first), special["sep"]]
        second.append(len(pieces))
        if other:
            pieces += [*_pieces(words, other), special["sep"]]
        texts.append(pieces)
        together.append(answer)
    length = max(map(len, texts))
    padded = np.full((size, length), special["pad"], dtype=np.int64)
    segments = np.zeros_like(padded)
    for row, (text, start) in enumerate(zip(texts, second, strict=True)):
        padded[row, : len(text)] = text
        segments[row, start : len(text)] = 1
    gaps, hidden = _with_gaps(padded, words, rng)
    return Batch(gaps, segments, hidden, np.asarray(together, dtype=np.int64))


def _pair(rng: Rng) -> tuple[str, str, int]:
    """Return one caption, or two of one scene or of two."""
    made = scene.make(BROAD, rng)
    speaker = Speaker(BROAD, rng)
    first = plain(speaker.caption(made))
    kind = rng.random()
    if kind < ALONE:
        return first, "", IGNORED
    if kind < ALONE + TOGETHER:
        return first, plain(speaker.caption(made)), 1
    return first, plain(speaker.caption(scene.make(BROAD, rng))), 0


def _pieces(words: WordPieces, caption: str) -> list[int]:
    return [piece for word in words.words(caption) for piece in word]


def _with_gaps(pieces: Integers, words: WordPieces, rng: Rng) -> tuple[Integers, Integers]:
    """Hide a fifth of the pieces as BERT does: 80 % by [MASK], 10 % by a random piece, 10 % not at all."""
    special = words.about()["special"]
    keep = [special["pad"], special["cls"], special["sep"]]
    chosen = (rng.random(pieces.shape) < _MASKED) & ~np.isin(pieces, keep)
    how = rng.random(pieces.shape)
    gaps = pieces.copy()
    gaps[chosen & (how < _TO_MASK)] = special["mask"]
    at_random = chosen & (how >= _TO_MASK) & (how < _TO_MASK + _TO_RANDOM)
    gaps[at_random] = rng.integers(len(special), len(words.vocabulary), int(at_random.sum()))
    return gaps, np.where(chosen, pieces, IGNORED)
