"""The precomputed layout of Flickr30K: ``{train,dev,test}_{ims.npy,caps.txt,ids.txt}``, read and checked.

``ims.npy`` is float32 (rows, 36, 2048): a row for each image or, in the older storage, for each caption, so
that every image stands there five times. Line k of ``caps.txt`` is a caption of image k // 5. Nothing of the
features is kept in memory: 8.6 GB are read once, in blocks, for their hash and to find what is not a number.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import DataError
from data_prep.flickr30k.packed import (
    CAPTIONS_PER_IMAGE,
    SPLITS,
    Split,
    cut,
    image_rows,
)

IMAGES = {"train": 29_000, "dev": 1_014, "test": 1_000}
REGIONS, WIDTH = 36, 2_048
SUBFOLDERS = (".", "f30k/precomp", "f30k_precomp", "precomp")
_NEEDED = ("ims.npy", "caps.txt")
HEAD_BYTES = 1 << 20
OTHER_SIZES = "--other-sizes"
_BLOCK_BYTES = 64 << 20

LARGEST = 1e4
"""Region features are outputs of a ReLU below 100 or so; what is far beyond is damage, even if finite."""

Tick = Callable[[int], None]
"""Told how many more bytes of features are read."""


@dataclass(frozen=True)
class Features:
    """A file of features, seen from its header.

    Attributes:
        path: The file.
        shape: Rows, regions, dimensions.
        start: Where the numbers begin, in bytes.
        size: Bytes of the file.
    """

    path: Path
    shape: tuple[int, int, int]
    start: int
    size: int


@dataclass(frozen=True)
class Files:
    """A split whose files fit together; the numbers themselves are not read yet.

    Attributes:
        features: The feature file.
        captions: All captions.
        repeated: Whether each image has a row for each of its captions.
        ids: Number of lines of the file of ids; None where there is none.
    """

    features: Features
    captions: tuple[str, ...]
    repeated: bool
    ids: int | None


def find(root: Path) -> Path:
    """Return the folder below a root, or the root itself, that has the files.

    Raises:
        DataError: There is none.
    """
    for name in SUBFOLDERS:
        folder = root / name
        if any((folder / f"{split}_{file}").is_file() for split in SPLITS for file in _NEEDED):
            return folder.resolve()
    raise DataError(
        f"{root}: no {{train,dev,test}}_{{ims.npy,caps.txt,ids.txt}} there, nor in "
        f"{', '.join(SUBFOLDERS[1:])} below it; --root is the folder of SCAN's and VSE++'s 'f30k_precomp'"
    )


def look(folder: Path, *, other_sizes: bool = False) -> dict[str, Files]:
    """Read captions and headers of all splits and check that they fit; read no features.

    Args:
        folder: The folder with the files.
        other_sizes: Take other numbers of images, regions and dimensions than Flickr30K's.

    Raises:
        DataError: Something is missing, damaged or another data set's.
    """
    absent = [
        f"{split}_{name}"
        for split in SPLITS
        for name in _NEEDED
        if not (folder / f"{split}_{name}").is_file()
    ]
    if absent:
        raise DataError(f"{folder}: no {', '.join(absent)}: an incomplete copy")
    return {split: _look(folder, split, other_sizes) for split in SPLITS}


def _look(folder: Path, split: str, other_sizes: bool) -> Files:
    captions_path = folder / f"{split}_caps.txt"
    features = read_header(folder / f"{split}_ims.npy")
    captions = read_captions(captions_path)
    rows, regions, width = features.shape
    if len(captions) % CAPTIONS_PER_IMAGE or not captions:
        raise DataError(
            f"{captions_path}: {len(captions):,} captions are not {CAPTIONS_PER_IMAGE} for each image"
        )
    images = len(captions) // CAPTIONS_PER_IMAGE
    if rows not in (images, len(captions)):
        raise DataError(
            f"{features.path}: {rows:,} rows for {len(captions):,} captions in {captions_path.name}; "
            f"expected {images:,}, one for each image, or {len(captions):,}, one for each caption"
        )
    if not other_sizes:
        if images != IMAGES[split]:
            raise DataError(
                f"{captions_path}: {len(captions):,} captions of {images:,} images; Flickr30K's {split} has "
                f"{IMAGES[split]:,} images: an incomplete copy or another data set ({OTHER_SIZES} takes it)"
            )
        if (regions, width) != (REGIONS, WIDTH):
            raise DataError(
                f"{features.path}: {regions} regions of {width} numbers; VSE∞'s features have "
                f"{REGIONS} of {WIDTH:,} ({OTHER_SIZES} takes others)"
            )
    ids = _count_ids(folder / f"{split}_ids.txt", {rows, images, len(captions)})
    return Files(features, captions, rows == len(captions), ids)


def read_header(path: Path) -> Features:
    """Read the header of a feature file and compare it with the size of the file.

    Raises:
        DataError: It is no such file, not float32 (rows, regions, dimensions), or not whole.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read(file)
            start = file.tell()
    except (ValueError, KeyError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a NumPy file ({error})") from error
    if dtype != np.dtype("<f4") or len(shape) != 3 or fortran:
        order = " in Fortran's order" if fortran else ""
        raise DataError(
            f"{path}: {dtype} {shape}{order}; region features are float32 (rows, regions, dimensions)"
        )
    expected = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if size != expected:
        what = "truncated" if size < expected else "longer than it should be"
        raise DataError(
            f"{path}: {what}: {size:,} bytes, and {expected:,} by its header, which says {shape}; "
            "copy it again"
        )
    return Features(path, (shape[0], shape[1], shape[2]), start, size)


def read_captions(path: Path) -> tuple[str, ...]:
    """Read a caption a line.

    Raises:
        DataError: A line is not UTF-8, or empty; the message has its number, and the byte in it.
    """
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    captions = []
    for number, line in enumerate(lines, start=1):
        try:
            caption = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}, byte {error.start + 1}: 0x{line[error.start]:02x} is not UTF-8 "
                f"({error.reason}); 'iconv -f latin1 -t utf-8' may help"
            ) from error
        if "\0" in caption:
            raise DataError(
                f"{path}:{number}, byte {line.index(0) + 1}: a zero byte; the file may be UTF-16, "
                "but captions must be UTF-8"
            )
        if not caption:
            raise DataError(f"{path}:{number}: an empty caption")
        captions.append(caption)
    return tuple(captions)


def _count_ids(path: Path, allowed: set[int]) -> int | None:
    """Check the file of ids, which nothing but a person who looks for an image needs."""
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except FileNotFoundError:
        return None
    for number, line in enumerate(lines, start=1):
        if not line.strip().isdigit():
            raise DataError(f"{path}:{number}: {line[:40]!r} is not the number of an image")
    if len(lines) not in allowed:
        wanted = " or ".join(f"{count:,}" for count in sorted(allowed))
        raise DataError(f"{path}: {len(lines):,} ids instead of {wanted}")
    return len(lines)


def scan(split: str, files: Files, tick: Tick = lambda count: None) -> Split:
    """Read a split's features once, in blocks, and return the split.

    Args:
        split: Its name.
        files: Its files.
        tick: Told of every block.

    Raises:
        DataError: A number is NaN, infinite or far too large, or the rows of a repeated image differ.
    """
    features = files.features
    captions = cut(split, files.captions)
    stat = features.path.stat()
    found = {
        "file": features.path.name,
        "repeated": files.repeated,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256_of_head": sha256_of_head(features.path),
        "sha256": _read_all(features, files.repeated, tick),
    }
    return Split(
        captions,
        image_rows(len(captions), repeated=files.repeated),
        features.shape,
        found,
        {"ids": files.ids},
    )


def sha256_of_head(path: Path) -> str:
    """Return the sha256 of the first mebibyte of a file."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()


def _read_all(features: Features, repeated: bool, tick: Tick) -> str:
    """Check every number; return the sha256 of the file."""
    rows, *rest = features.shape
    row_bytes = 4 * int(np.prod(rest))
    at_once = max(_BLOCK_BYTES // row_bytes // CAPTIONS_PER_IMAGE, 1) * CAPTIONS_PER_IMAGE
    # Read, not mapped: pages of a mapped file would count as memory of this process.
    block = np.empty((min(at_once, rows), *rest), dtype="<f4")
    digest = hashlib.sha256()
    with features.path.open("rb", buffering=0) as file:
        digest.update(file.read(features.start))
        tick(features.start)
        for first in range(0, rows, at_once):
            part = block[: min(at_once, rows - first)]
            view = memoryview(part.data).cast("B")
            done = 0
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    raise DataError(f"{features.path}: the file became shorter while it was read")
                done += count
            digest.update(view)
            _require_numbers(features.path, part, first)
            if repeated:
                _require_same(features.path, part, first)
            tick(len(view))
    return digest.hexdigest()


def _require_numbers(path: Path, part: npt.NDArray[Any], first: int) -> None:
    # Smallest and largest are NaN where a number is, and a comparison with NaN is false.
    if part.min(initial=0) >= -LARGEST and part.max(initial=0) <= LARGEST:
        return
    row, region, dimension = (int(n) for n in np.argwhere(~(np.abs(part) <= LARGEST))[0])
    value = part[row, region, dimension]
    what = f"beyond {LARGEST:g} in size" if np.isfinite(value) else "not a number"
    raise DataError(
        f"{path}: image row {first + row}, region {region}, dimension {dimension} (from 0 on): "
        f"{value:g} is {what}; the file is damaged"
    )


def _require_same(path: Path, part: npt.NDArray[Any], first: int) -> None:
    groups = part.reshape(-1, CAPTIONS_PER_IMAGE, *part.shape[1:])
    differs = (groups != groups[:, :1]).any(axis=(2, 3))
    if differs.any():
        image, copy = (int(number) for number in np.argwhere(differs)[0])
        row = first + image * CAPTIONS_PER_IMAGE
        raise DataError(
            f"{path}: rows {row} and {row + copy} differ, but a file with a row for each caption must repeat "
            "each image five times"
        )
