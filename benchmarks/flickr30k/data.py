"""Packed Flickr30K, as ``data_prep`` wrote it: features stay in their files, captions are word pieces."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.flickr30k.augment import Ragged, Special
from benchmarks.harness.errors import UsageError
from benchmarks.harness.provenance import file_sha256
from benchmarks.training.data import hash_of, manifest_of

BENCHMARK = "flickr30k"
HEAD_BYTES = 1 << 20
"""Of a file that is not copied, the manifest has the hash of so many of its first bytes."""

VERIFY = "python -m data_prep verify names the fault"


@dataclass(frozen=True)
class Captions:
    """The captions of a split.

    Attributes:
        pieces: int32 (P,), word pieces of all captions, without [CLS] and [SEP].
        words: (W + 1,), where each word begins in ``pieces``.
        starts: (C + 1,), where each caption begins in ``words``.
        image: (C,), row of the features of each caption's image.
    """

    pieces: Tensor
    words: Tensor
    starts: Tensor
    image: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def first(self, count: int | None) -> Captions:
        """Return the first captions."""
        if count is None or count >= len(self):
            return self
        return Captions(self.pieces, self.words, self.starts[: count + 1], self.image[:count])

    def lengths(self) -> Tensor:
        """Return the number of pieces of each caption, (C,)."""
        return self.words[self.starts].diff()

    def take(self, index: Tensor) -> Ragged:
        """Return chosen captions, (B,) of indices, in that order."""
        words, of_caption = _ranges(self.starts[index], self.starts[index + 1])
        pieces, of_word = _ranges(self.words[words], self.words[words + 1])
        return Ragged(self.pieces[pieces], of_word, of_caption[of_word], len(index))


class Features:
    """The region features of a split, mapped into memory and read row by row, never as a whole."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        """Open a file of float32 (n, regions, dimensions).

        Raises:
            UsageError: It is not there, or not what the manifest says.
        """
        try:
            self._rows: npt.NDArray[np.float32] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read as features ({error}); {VERIFY}") from error
        if self._rows.shape != shape or self._rows.dtype != np.float32:
            raise UsageError(
                f"{path} holds {self._rows.dtype} {self._rows.shape}, the manifest says float32 {shape}; "
                f"{VERIFY}"
            )

    def take(self, rows: Tensor) -> Tensor:
        """Return float32 (len(rows), regions, dimensions)."""
        # Rows are read in the order of the file, and each once.
        wanted, back = np.unique(rows.numpy(), return_inverse=True)
        return torch.from_numpy(self._rows[wanted][back])


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        captions: Its captions.
        features: Its regions.
        images: (N,), the rows that captions point to, in their order.
        owner: (C,), the position in ``images`` of each caption's image.
    """

    captions: Captions
    features: Features
    images: Tensor
    owner: Tensor


def folder_of(root: Path, variant: str) -> Path:
    """Return the folder of the packed benchmark."""
    return root / variant / BENCHMARK


def require(root: Path, variant: str) -> Path:
    """Return the folder of the packed benchmark.

    Raises:
        UsageError: It is not prepared; the message gives the command that prepares it.
    """
    folder = folder_of(root, variant)
    if (folder / "manifest.json").exists():
        return folder
    more = " --root ROOT" if variant == "folder" else ""
    raise UsageError(
        f"the {variant} data of {BENCHMARK} are not prepared in {root}: "
        f"python -m data_prep prepare {BENCHMARK} --source {variant}{more} --data {root}"
    )


def load_split(folder: Path, split: str, *, limit: int | None = None) -> Split:
    """Open one split: ``train``, ``dev`` or ``test``.

    Args:
        folder: The packed benchmark.
        split: Its name.
        limit: Keep only the first captions, a whole number of images.

    Raises:
        UsageError: A file is missing, or is not what the manifest says.
    """
    manifest = manifest_of(folder)
    if split not in manifest["splits"]:
        raise UsageError(f"{folder} has no split {split!r}; it has {', '.join(manifest['splits'])}")
    entry = manifest["splits"][split]
    captions = Captions(**_arrays(folder / f"{split}.captions.safetensors", entry)).first(limit)
    where = Path(manifest["root"]) if "root" in manifest else folder
    shape = (entry["images_in_file"], entry["regions"], entry["dim"])
    path = where / entry["features"]["file"]
    features = Features(path, shape)
    _check_same(path, entry["features"])
    images, owner = captions.image.unique(return_inverse=True)
    return Split(captions, features, images, owner)


def special_of(folder: Path) -> Special:
    """Return the word pieces of the packed captions that have a meaning of their own."""
    return Special(**manifest_of(folder)["tokenizer"]["special"])


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what identifies the packed benchmark in a record; no path of this machine is in it."""
    manifest = manifest_of(folder)
    hashes = {}
    for name, split in manifest["splits"].items():
        features = split["features"]
        hashes[f"{name} captions"] = split["captions_sha256"]
        hashes[f"{name} features"] = features.get("sha256") or features["sha256_of_head"]
    return {
        "variant": manifest["variant"],
        "manifest_sha256": file_sha256(folder / "manifest.json"),
        "splits": hashes,
        "vocabulary": manifest["tokenizer"]["vocab_sha256"],
    } | {key: manifest[key] for key in ("generator_version", "seed") if key in manifest}


def _check_same(path: Path, said: dict[str, Any]) -> None:
    """Raise unless a file is the one that was prepared, by its hash, or that of its beginning."""
    if "sha256_of_head" in said:
        is_same = _sha256_of_head(path, path.stat().st_mtime_ns) == said["sha256_of_head"]
        is_same &= path.stat().st_size == said["bytes"]
    else:
        is_same = hash_of(path) == said["sha256"]
    if not is_same:
        raise UsageError(f"{path} is not the file that was prepared: {VERIFY}")


def _arrays(path: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    if not path.exists() or hash_of(path) != entry["captions_sha256"]:
        raise UsageError(f"{path} is missing or differs from its manifest: {VERIFY}")
    found = load_file(path)
    names = {"pieces": "pieces", "words": "words", "captions": "starts", "image": "image"}
    return {ours: found[theirs] for theirs, ours in names.items()}


@cache
def _sha256_of_head(path: Path, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()


def _ranges(starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return start, ..., end - 1 of each range, one after the other, and the range that each is of."""
    sizes = ends - starts
    which = torch.arange(len(sizes)).repeat_interleave(sizes)
    first = torch.cumsum(sizes, 0) - sizes
    return torch.arange(len(which)) - first[which] + starts[which], which
