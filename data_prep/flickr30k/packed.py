"""The prepared files: captions as word pieces, the path of the features, and a manifest, written last.

Features are not copied where they come from files: the manifest says where they lie.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep import tensors_file
from data_prep.flickr30k.tokens import WordPieces
from data_prep.pack import MANIFEST, SCHEMA
from data_prep.whole_files import move_folder, sha256, write_json

BENCHMARK = "flickr30k"
SPLITS = ("train", "dev", "test")
CAPTIONS_PER_IMAGE = 5
VOCABULARY = {"embedded": 475, "folder": 30_522}
"""Pieces in the vocabulary of the text encoder that a variant is for."""
LONGEST = {"embedded": 64, "folder": 512}
"""Pieces of a caption that a variant's text encoder takes, [CLS] and [SEP] among them."""
EVALUATED_DEV_CAPTIONS = 5000
"""The protocol evaluates the first 5,000 captions of dev (VSE∞'s loader cuts any split of that name)."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A split that is whole and right.

    Attributes:
        captions: As they are read, in order.
        image: Row of the feature file of each caption.
        shape: Rows of the feature file, regions, dimensions.
        features: What the manifest says of the feature file.
        about: What else the manifest says.
    """

    captions: Sequence[str]
    image: Rows
    shape: tuple[int, int, int]
    features: Mapping[str, Any]
    about: Mapping[str, Any]


def folder_of(data: Path, variant: str) -> Path:
    """Return the folder of what is prepared."""
    return data / variant / BENCHMARK


def captions_file(split: str) -> str:
    """Return the name of the file with a split's word pieces."""
    return f"{split}.captions.safetensors"


def text_file(split: str) -> str:
    """Return the name of the file with a split's captions as text."""
    return f"{split}.caps.txt"


def image_rows(captions: int, *, repeated: bool) -> Rows:
    """Return the row of each caption's image; of an image that is repeated, the first of its rows."""
    image = np.arange(captions, dtype=np.int64) // CAPTIONS_PER_IMAGE
    return image * CAPTIONS_PER_IMAGE if repeated else image


def cut(split: str, captions: Sequence[str]) -> Sequence[str]:
    """Return the captions of a split that the protocol uses."""
    return captions[:EVALUATED_DEV_CAPTIONS] if split == "dev" else captions


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes the place of the other at the end, or goes."""
    staging = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        move_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write(
    staging: Path, splits: Mapping[str, Split], words: WordPieces, head: Mapping[str, Any]
) -> None:
    """Write captions, word pieces and the manifest of splits.

    Args:
        staging: The folder.
        splits: Split -> what it holds.
        words: Cuts the captions.
        head: The part of the manifest that is not about splits: variant, where features lie.
    """
    entries = {}
    for name, split in splits.items():
        text = "".join(f"{caption}\n" for caption in split.captions)
        (staging / text_file(name)).write_text(text, encoding="utf-8", newline="\n")
        tokens = words.encode(split.captions)
        values: dict[str, npt.NDArray[Any]] = {
            "pieces": tokens.pieces,
            "words": tokens.words,
            "captions": tokens.captions,
            "image": split.image,
        }
        path = staging / captions_file(name)
        arrays = tensors_file.create(
            path, {key: (value.dtype.type, value.shape) for key, value in values.items()}
        )
        for key, value in values.items():
            arrays[key][:] = value
            arrays[key].flush()  # type: ignore[attr-defined] # mapped, as none is empty
        rows, regions, dim = split.shape
        entries[name] = {
            "n_images": len(np.unique(split.image)),
            "n_captions": len(split.captions),
            "regions": regions,
            "dim": dim,
            "images_in_file": rows,
            "features": dict(split.features),
            "captions_sha256": sha256(path),
        } | dict(split.about)
    manifest = {"schema": SCHEMA, "benchmark": BENCHMARK} | dict(head)
    write_json(staging / MANIFEST, manifest | {"tokenizer": words.about(), "splits": entries})
