"""Packed MSR-VTT, as ``data_prep`` wrote it: frames stay in their file, captions are tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.provenance import file_sha256
from benchmarks.msrvtt.model import Batch
from benchmarks.training.data import hash_of, manifest_of

BENCHMARK = "msrvtt"
SPLIT_OF = {"train_9k": "train", "train_7k": "train", "test_1ka": "test"}
"""List of clips -> split whose files have them."""

HELD_OUT_SEED = 0
"""The part of a training list that is held out is the same for all cells."""

EVALUATED_CLIPS, EVALUATED_CAPTIONS = 32, 256
"""So many are encoded at a time, where nothing is trained."""

VERIFY = "python -m data_prep verify names the fault"


class Frames:
    """The frames of a split, mapped into memory and read clip by clip, never as a whole."""

    def __init__(self, path: Path) -> None:
        """Open a file of ``frames`` uint8 (n, 12, 3, S, S) and ``counts`` (n,).

        Raises:
            UsageError: It cannot be read.
        """
        try:
            self._file: Any = safe_open(path, framework="pt")
            self._frames = self._file.get_slice("frames")
            self.counts: Tensor = self._file.get_tensor("counts")
        except Exception as error:  # a damaged file can raise any error
            raise UsageError(f"{path} cannot be read as frames ({error}); {VERIFY}") from error
        self.size: int = self._frames.get_shape()[-1]

    def take(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of clips, without padding.

        Args:
            clips: (B,), rows of the file.

        Returns:
            uint8 (F, 3, S, S), those of each clip one after the other, and how many each has, (B,).
        """
        counts = self.counts[clips]
        rows = zip(clips.tolist(), counts.tolist(), strict=True)
        return torch.cat([self._frames[row, :count] for row, count in rows]), counts


class ClipFrames(Protocol):
    """Frames of clips, or their features.

    Attributes:
        counts: How many each clip has.
    """

    counts: Tensor

    def take(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames (F, ...) of clips (B,), one clip after the other, and how many each has, (B,)."""


@dataclass(frozen=True)
class Split:
    """Some clips with their captions.

    Attributes:
        frames: The frames of the file in which the clips are.
        clips: (N,), their rows there.
        tokens: int64 (C, T), the captions with start and end, zero behind.
        lengths: (C,), tokens of each.
        owner: (C,), the position in ``clips`` of each caption's clip.
    """

    frames: ClipFrames
    clips: Tensor
    tokens: Tensor
    lengths: Tensor
    owner: Tensor

    def captions(self, index: Tensor) -> Tensor:
        """Return chosen captions, (B, T), cut to the longest of them."""
        return self.tokens[index, : int(self.lengths[index].max())]

    def part(self, clips: Tensor, *, is_single: bool = False) -> Split:
        """Return the split of some clips.

        Args:
            clips: (n,), positions in ``clips``.
            is_single: Take only the first caption of each.
        """
        place = torch.full((len(self.clips),), -1)
        place[clips] = torch.arange(len(clips))
        owner = place[self.owner]
        kept = owner >= 0
        if is_single:
            first = torch.full((len(self.clips),), len(owner))
            first.scatter_reduce_(0, self.owner, torch.arange(len(owner)), "amin")
            kept &= first[self.owner] == torch.arange(len(owner))
        return Split(
            self.frames, self.clips[clips], self.tokens[kept], self.lengths[kept], owner[kept]
        )

    def first(self, count: int | None) -> Split:
        """Return the first clips."""
        if count is None or count >= len(self.clips):
            return self
        return self.part(torch.arange(count))

    def parted(self, count: int) -> tuple[Split, Split | None]:
        """Return the training clips, and ``count`` held-out clips with one caption each, as in 1k-A.

        Raises:
            ValueError: Nothing is left.
        """
        if not count:
            return self, None
        if not 0 < count < len(self.clips):
            raise ValueError(
                f"{count} of {len(self.clips)} training clips cannot be held out (data.held_out)"
            )
        draw = torch.Generator().manual_seed(HELD_OUT_SEED)
        order = torch.randperm(len(self.clips), generator=draw)
        held_out, rest = order[:count].sort().values, order[count:].sort().values
        return self.part(rest), self.part(held_out, is_single=True)


def pairs_of(split: Split, index: Tensor) -> Batch:
    """Return chosen captions with their clips, captions cut to the longest; on the CPU."""
    frames, counts = split.frames.take(split.clips[split.owner[index]])
    return Batch(frames, counts, split.captions(index), split.lengths[index])


def require(root: Path, variant: str, limits: Sequence[int | None] = ()) -> Path:
    """Return the folder of the packed benchmark.

    Args:
        root: Root of the packed data.
        variant: embedded or folder.
        limits: How many clips of each list are read; None: all of one.

    Raises:
        UsageError: It is not prepared, or fewer clips; the message gives the command that prepares it.
    """
    folder = root / variant / BENCHMARK
    what = f"the {variant} data of {BENCHMARK} are not prepared"
    if (folder / "manifest.json").exists():
        first = manifest_of(folder).get("first")
        if first is None or all(limit is not None and limit <= first for limit in limits):
            return folder
        what = f"only the first {first} clips of {BENCHMARK} are prepared"
    more = " --root ROOT" if variant == "folder" else ""
    raise UsageError(
        f"{what} in {root}: "
        f"python -m data_prep prepare {BENCHMARK} --source {variant}{more} --data {root}"
    )


def load_list(folder: Path, name: str, *, limit: int | None = None) -> Split:
    """Open the clips of a list: ``train_9k``, ``train_7k`` or ``test_1ka``.

    Args:
        folder: The packed benchmark.
        name: The list's name.
        limit: Keep only the first clips.

    Raises:
        UsageError: There is no such list, or a file is missing, or is not what the manifest says.
    """
    if name not in SPLIT_OF:
        raise unknown(
            "list of clips", name, SPLIT_OF, "data.train and data.test name one; show CELL"
        )
    manifest = manifest_of(folder)
    split = SPLIT_OF[name]
    entry = manifest["splits"][split]
    rows = load_file(_checked(folder / "lists.safetensors", manifest["lists_sha256"]))[name]
    captions = load_file(
        _checked(folder / f"{split}.captions.safetensors", entry["captions_sha256"])
    )
    frames = Frames(_checked(folder / f"{split}.frames.safetensors", entry["frames_sha256"]))
    place = torch.full((len(frames.counts),), -1)
    place[rows] = torch.arange(len(rows))
    owner = place[captions["clips"]]
    kept = owner >= 0
    return Split(
        frames, rows, captions["tokens"][kept].long(), captions["lengths"][kept], owner[kept]
    ).first(limit)


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what identifies the packed benchmark in a record; no path of this machine is in it."""
    manifest = manifest_of(folder)
    hashes = {"lists": manifest["lists_sha256"]}
    for name, split in manifest["splits"].items():
        hashes[f"{name} captions"] = split["captions_sha256"]
        hashes[f"{name} frames"] = split["frames_sha256"]
    about = ("generator_version", "seed", "sampling", "resizing", "annotations")
    return {
        "variant": manifest["variant"],
        "manifest_sha256": file_sha256(folder / "manifest.json"),
        "splits": hashes,
        "vocabulary": manifest["tokenizer"]["vocab_sha256"],
        "left_out": {name: len(split["left_out"]) for name, split in manifest["splits"].items()},
    } | {key: manifest[key] for key in about if key in manifest}


def _checked(path: Path, sha256: str) -> Path:
    if not path.exists() or hash_of(path) != sha256:
        raise UsageError(f"{path} is missing or differs from its manifest: {VERIFY}")
    return path
