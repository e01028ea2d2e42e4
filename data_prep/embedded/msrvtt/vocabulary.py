"""The vocabulary of the embedded world's CLIP: byte-pair encoding of both lexicons' words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise

from data_prep.embedded.msrvtt.lexicon import BROAD, CLIPS, Motion, World
from data_prep.msrvtt.tokens import MERGES, VOCABULARY, tokens_of

_GLUE = "a an the is and while there of video picture one can see , .".split()
MOST_MERGES = 480

Pair = tuple[str, str]


def words() -> Iterator[str]:
    """Yield every word of both worlds, once for each time that a lexicon has it."""
    yield from _GLUE
    for world in (BROAD, CLIPS):
        yield from _of(world)


def _of(world: World) -> Iterator[str]:
    for part in fields(world):
        for entry in getattr(world, part.name).values():
            if isinstance(entry, Motion):
                phrases = [phrase for pair in entry.forms for phrase in pair]
            else:
                phrases = list(entry)
            yield from (word for phrase in phrases for word in phrase.split())


def merges() -> list[Pair]:
    """Return pairs in the order of merging: the most frequent first, of equals the first by name."""
    counts = Counter(words())
    cut = {word: [*word[:-1], f"{word[-1]}</w>"] for word in counts}
    found: list[Pair] = []
    while len(found) < MOST_MERGES:
        pairs: Counter[Pair] = Counter()
        for word, letters in cut.items():
            for pair in pairwise(letters):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        cut = {word: _merged(letters, best) for word, letters in cut.items()}
    return found


def _merged(letters: list[str], pair: Pair) -> list[str]:
    """Return the letters of a word with each occurrence of a pair put together."""
    out: list[str] = []
    for letter in letters:
        # The letter before may itself come from this merge; such a token is no part of the pair.
        if out and (out[-1], letter) == pair:
            out[-1] = out[-1] + letter
        else:
            out.append(letter)
    return out


def files() -> dict[str, bytes]:
    """Return ``vocab.json`` and ``merges.txt``, as transformers' ``CLIPTokenizer`` reads them."""
    pairs = merges()
    numbers = {token: number for number, token in enumerate(tokens_of(pairs))}
    text = json.dumps(numbers, ensure_ascii=False, separators=(",", ":")) + "\n"
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    return {VOCABULARY: text.encode(), MERGES: ("\n".join(lines) + "\n").encode()}
