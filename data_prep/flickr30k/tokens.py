"""Captions as word pieces: BERT's basic tokeniser (lower case), then WordPiece, once and for all.

Augmentation drops and masks whole words, so that the limits of words are kept.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import numpy.typing as npt
from tokenizers import models, normalizers, pre_tokenizers

from data_prep.errors import DataError

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


@dataclass(frozen=True)
class Tokens:
    """Captions, one after the other.

    Attributes:
        pieces: int32 (P,), numbers of pieces, without [CLS] and [SEP].
        words: int64 (W + 1,), word w is ``pieces[words[w]:words[w + 1]]``.
        captions: int64 (C + 1,), caption c has the words ``captions[c]`` to ``captions[c + 1]``.
    """

    pieces: npt.NDArray[np.int32]
    words: npt.NDArray[np.int64]
    captions: npt.NDArray[np.int64]


class WordPieces:
    """Cuts captions into words and pieces of a vocabulary.

    Args:
        name: What the manifest calls the vocabulary.
        path: The file: a piece a line; its number is that of the line, from 0 on.

    Raises:
        DataError: The file is not there or not a vocabulary of BERT's kind.
    """

    def __init__(self, name: str, path: Path) -> None:
        try:
            content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
            lines = content.decode("utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{path}: no such vocabulary ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start} is not UTF-8; not a vocabulary") from error
        self.vocabulary = {piece: number for number, piece in enumerate(lines)}
        absent = [piece for piece in SPECIAL.values() if piece not in self.vocabulary]
        if absent or len(self.vocabulary) != len(lines):
            what = f"no {', '.join(absent)} in it" if absent else "it has a piece twice"
            raise DataError(f"{path}: not a vocabulary of BERT's kind: {what}")
        self.name = name
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._normal = normalizers.BertNormalizer(lowercase=True)
        self._split = pre_tokenizers.BertPreTokenizer()
        self._model = models.WordPiece(
            self.vocabulary, unk_token=SPECIAL["unk"], max_input_chars_per_word=100
        )
        self._known: dict[str, list[int]] = {}

    def about(self) -> dict[str, Any]:
        """Return what a manifest says of the tokeniser."""
        return {
            "name": self.name,
            "vocab_sha256": self.sha256,
            "size": len(self.vocabulary),
            "special": {name: self.vocabulary[piece] for name, piece in SPECIAL.items()},
        }

    def words(self, caption: str) -> list[list[int]]:
        """Return the pieces of each word of a caption."""
        normal = self._normal.normalize_str(caption)
        return [self._pieces(word) for word, _ in self._split.pre_tokenize_str(normal)]

    def _pieces(self, word: str) -> list[int]:
        if word not in self._known:
            self._known[word] = [token.id for token in self._model.tokenize(word)]
        return self._known[word]

    def encode(self, captions: Iterable[str]) -> Tokens:
        """Return captions as arrays."""
        pieces: list[int] = []
        words, ends = [0], [0]
        for caption in captions:
            for word in self.words(caption):
                pieces += word
                words.append(len(pieces))
            ends.append(len(words) - 1)
        return Tokens(
            np.asarray(pieces, dtype=np.int32),
            np.asarray(words, dtype=np.int64),
            np.asarray(ends, dtype=np.int64),
        )


PUBLISHED = "bert-base-uncased"
PUBLISHED_SIZE = 30_522
_ON_THE_HUB = (f"google-bert/{PUBLISHED}", PUBLISHED)


def published(data: Path, given: Path | None = None) -> WordPieces:
    """Return the vocabulary of the paper's BERT, from this machine; nothing is downloaded.

    Args:
        data: The data folder: ``weights/bert-base-uncased/vocab.txt`` in it is looked for first, then the
            cache of the Hugging Face hub.
        given: A file to take instead.

    Raises:
        DataError: It is not there; the message says what to put where.
    """
    if given is not None:
        return WordPieces(given.name, given)
    here = data / "weights" / PUBLISHED / "vocab.txt"
    if here.is_file():
        words = WordPieces(PUBLISHED, here)
        if len(words.vocabulary) != PUBLISHED_SIZE:  # whatever its folder is called
            words.name = here.name
        return words
    for name in _ON_THE_HUB:
        cached = huggingface_hub.try_to_load_from_cache(name, "vocab.txt")
        if isinstance(cached, str):
            return WordPieces(PUBLISHED, Path(cached))
    raise DataError(
        f"the vocabulary of {PUBLISHED} is not on this machine: put its vocab.txt at {here}, or name it with "
        f"--vocab FILE; with a network, 'hf download {_ON_THE_HUB[0]} vocab.txt' fetches it"
    )
