"""The WordPiece vocabulary of the embedded world's BERT: the pieces that the lexicon's words are cut into."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import fields

from data_prep.embedded.flickr30k.lexicon import BROAD, FLICKR, Place, Verb, World

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# What the grammar says besides the lexicon's words.
_GLUE = "a an the one is it stand|s there photo view of in on at by to with and while wear|ing . , ".split()


def words() -> Iterator[str]:
    """Yield every word of both worlds, with the marks of its cuts."""
    yield from _GLUE
    for world in (BROAD, FLICKR):
        yield from _of(world)


def _of(world: World) -> Iterator[str]:
    for part in fields(world):
        for entry in getattr(world, part.name).values():
            if isinstance(entry, Verb):
                yield from (form for pair in entry.forms for form in pair)
                continue
            phrases = entry.phrases if isinstance(entry, Place) else entry
            yield from (word for phrase in phrases for word in phrase.split())


def pieces() -> list[str]:
    """Return the vocabulary; a piece's place in it is its number.

    The special tokens come first ([PAD] is 0), then single letters, so that any word of plain letters has
    pieces, then what the words are cut into, in alphabetical order.
    """
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    cut: set[str] = set()
    for word in words():
        first, *others = word.split("|")
        cut.add(first)
        cut |= {f"##{other}" for other in others}
    return [*SPECIAL, *letters, *sorted(cut - set(letters))]
