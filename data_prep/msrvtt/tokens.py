"""Captions as CLIP's tokens: cleaned, cut by byte-pair encoding, between a start and an end."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ftfy
import huggingface_hub
import numpy as np
import numpy.typing as npt

from data_prep import torchvision_guard
from data_prep.errors import DataError

TEXT_LENGTH = 32
"""Tokens of a caption with start and end: CLIP4Clip's ``max_words``, not CLIP's 77."""
PADDING = 0
START, END = "<|startoftext|>", "<|endoftext|>"
VOCABULARY, MERGES = "vocab.json", "merges.txt"
RELEASED = "bpe_simple_vocab_16e6.txt.gz"
_RELEASED_MERGES = 49_152 - 256 - 2
"""OpenAI's file has more pairs than CLIP uses (openai/CLIP, ``clip/simple_tokenizer.py``)."""

Rows = npt.NDArray[np.int32]


def byte_letters() -> list[str]:
    """Return the printable letter that byte-level BPE writes for each byte, in CLIP's order of tokens."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), 256),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + number) for number in range(len(others)))]


def tokens_of(merges: Sequence[tuple[str, str]]) -> list[str]:
    """Return the tokens that a list of merges gives, in CLIP's order: the end is the last."""
    letters = byte_letters()
    ends = [f"{letter}</w>" for letter in letters]
    return [*letters, *ends, *(first + second for first, second in merges), START, END]


class ClipTokens:
    """Turns captions into rows of tokens.

    Args:
        name: What the manifest calls the vocabulary.
        path: A folder with ``vocab.json`` and ``merges.txt``, as transformers' ``CLIPTokenizer`` has them, or
            OpenAI's ``bpe_simple_vocab_16e6.txt.gz``.

    Raises:
        DataError: It is not there, or not a vocabulary of CLIP's kind.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        try:
            vocabulary, merges = _read_folder(path) if path.is_dir() else _read_released(path)
        except OSError as error:
            raise DataError(f"{path}: no such vocabulary ({error.strerror or error})") from error
        except (ValueError, EOFError) as error:
            raise DataError(f"{path}: not a vocabulary of CLIP's kind ({error})") from error
        absent = [token for token in (START, END) if token not in vocabulary]
        if absent or vocabulary[END] != max(vocabulary.values()):
            # CLIP4Clip and CLIP find the end of a text as its largest token.
            what = (
                f"no {' and no '.join(absent)} in it" if absent else f"{END} is not its last token"
            )
            raise DataError(f"{path}: not a vocabulary of CLIP's kind: {what}")
        self.vocabulary = vocabulary
        self.sha256 = _sha256_of(vocabulary, merges)
        self._tokenizer = _tokenizer(vocabulary, merges)

    def about(self) -> dict[str, Any]:
        """Return what a manifest says of the tokeniser."""
        special = {"start": self.vocabulary[START], "end": self.vocabulary[END], "pad": PADDING}
        return {
            "name": self.name,
            "vocab_sha256": self.sha256,
            "size": len(self.vocabulary),
            "special": special,
            "text_length": TEXT_LENGTH,
        }

    def pieces(self, caption: str) -> list[int]:
        """Return the tokens of a caption without start and end."""
        found: list[int] = self._tokenizer.encode(clean(caption), add_special_tokens=False)
        return found

    def rows(self, captions: Iterable[str]) -> Rows:
        """Return int32 (C, TEXT_LENGTH): start, tokens, end, then ``PADDING``; what is too long is cut."""
        said = [self.pieces(caption)[: TEXT_LENGTH - 2] for caption in captions]
        rows = np.full((len(said), TEXT_LENGTH), PADDING, dtype=np.int32)
        for row, pieces in zip(rows, said, strict=True):
            text = [self.vocabulary[START], *pieces, self.vocabulary[END]]
            row[: len(text)] = text
        return rows


def clean(caption: str) -> str:
    """Mend broken Unicode and HTML's entities, fold white space and case, as CLIP does."""
    mended = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return " ".join(mended.split()).lower()


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    torchvision_guard.install()
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]


def _sha256_of(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> str:
    """Return a hash of what a vocabulary says; the same for both kinds of files."""
    content = json.dumps([sorted(vocabulary.items(), key=lambda item: item[1]), merges])
    return hashlib.sha256(content.encode()).hexdigest()


def _read_folder(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    vocabulary = json.loads((path / VOCABULARY).read_text(encoding="utf-8-sig"))
    if not isinstance(vocabulary, dict):
        raise ValueError(f"{VOCABULARY} is not a table of tokens")
    lines = (path / MERGES).read_text(encoding="utf-8-sig").splitlines()
    return vocabulary, _pairs(lines)


def _read_released(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    with gzip.open(path, "rt", encoding="utf-8-sig") as file:
        lines = file.read().splitlines()
    merges = _pairs(lines[: 1 + _RELEASED_MERGES])
    return {token: number for number, token in enumerate(tokens_of(merges))}, merges


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    """Read a pair a line; the first line says the version."""
    pairs = [tuple(line.split()) for line in lines[1:] if line]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("a line of its merges is not a pair")
    return [(pair[0], pair[1]) for pair in pairs]


PUBLISHED = "clip-vit-base-patch32"
PUBLISHED_SIZE = 49_408
_ON_THE_HUB = f"openai/{PUBLISHED}"


def published(data: Path, given: Path | None = None) -> ClipTokens:
    """Return the vocabulary of the paper's CLIP, from this machine; nothing is downloaded.

    Args:
        data: The data folder: ``weights/clip-vit-base-patch32/`` in it is looked into first, then the cache
            of the Hugging Face hub.
        given: A folder or file to take instead.

    Raises:
        DataError: It is not there; the message says what to put where.
    """
    if given is not None:
        return ClipTokens(given.name, given)
    here = data / "weights" / PUBLISHED
    for name, path in ((VOCABULARY, here), (RELEASED, here / RELEASED)):
        if (here / name).is_file():
            words = ClipTokens(PUBLISHED, path)
            if len(words.vocabulary) != PUBLISHED_SIZE:  # whatever its folder is called
                words.name = name
            return words
    cached = [huggingface_hub.try_to_load_from_cache(_ON_THE_HUB, n) for n in (VOCABULARY, MERGES)]
    if all(isinstance(path, str) for path in cached):
        return ClipTokens(PUBLISHED, Path(str(cached[0])).parent)
    raise DataError(
        f"the vocabulary of {PUBLISHED} is not on this machine: put {VOCABULARY} and {MERGES}, or OpenAI's "
        f"{RELEASED}, into {here}, or name one with --vocab; with a network, "
        f"'hf download {_ON_THE_HUB} {VOCABULARY} {MERGES}' fetches them"
    )
