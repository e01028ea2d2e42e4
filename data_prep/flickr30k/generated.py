"""The embedded world's Flickr30K: features are written too, in the layout of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.embedded import flickr30k
from data_prep.flickr30k import packed
from data_prep.flickr30k.tokens import WordPieces
from data_prep.whole_files import sha256

VARIANT = "embedded"
BERT = "bert_micro"
VOCABULARY = Path(flickr30k.__file__).parents[1] / "backbones" / BERT / "vocab.txt"


def features_file(split: str) -> str:
    """Return the name of a split's features."""
    return f"{split}_ims.npy"


def head(seed: int | None) -> dict[str, Any]:
    """Return the part of the manifest that the seed decides; None leaves the seed out."""
    about: dict[str, Any] = {
        "variant": VARIANT,
        "generator_version": flickr30k.GENERATOR_VERSION,
    }
    return about if seed is None else about | {"seed": seed}


def prepare(data: Path, seed: int = 0) -> Path:
    """Generate all splits; return the folder."""
    folder = packed.folder_of(data, VARIANT)
    with packed.staged(folder) as staging:
        splits = {split: _split(staging, split, seed) for split in packed.SPLITS}
        packed.write(staging, splits, WordPieces(BERT, VOCABULARY), head(seed))
    return folder


def _split(staging: Path, split: str, seed: int) -> packed.Split:
    """Generate a split and write its features."""
    made = flickr30k.generate(split, seed)
    path = staging / features_file(split)
    np.save(path, made.features)
    captions = packed.cut(split, made.captions)
    rows, regions, dim = made.features.shape
    return packed.Split(
        captions,
        packed.image_rows(len(captions), repeated=False),
        (rows, regions, dim),
        {
            "file": path.name,
            "repeated": False,
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
        },
        {},
    )
