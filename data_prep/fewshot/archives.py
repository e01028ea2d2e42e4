"""The official splits of the five data sets' own archives, unpacked as torchvision unpacks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.fewshot.official import Official
from data_prep.list_files import with_its_ending

Items = Iterable[tuple[Path, int]]


def read_official(root: Path | None, name: str) -> tuple[Path, Mapping[str, Official]]:
    """Return the folder of an unpacked archive, and its official splits.

    Args:
        root: The folder that holds the unpacked archives.
        name: A key of ``LAYOUTS``.

    Raises:
        DataError: It is not there, or an image that it lists is not.
    """
    folder_name, read = LAYOUTS[name]
    if root is None or not (root / folder_name).is_dir():
        raise DataError(f"{root}: no folder {folder_name}; the archive of {name} unpacks to it")
    folder = root / folder_name
    try:
        splits = {
            split: [(with_its_ending(path), label) for path, label in items]
            for split, items in read(folder).items()
        }
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file; {folder} is incomplete") from error
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{folder}: differs from its archive ({type(error).__name__}: {error})"
        ) from error
    for split, items in splits.items():
        absent = [path for path, _ in items if not path.is_file()]
        if absent:
            raise DataError(f"{split}: no such image: {absent[0]}; and {len(absent) - 1:,} more")
    return folder, {split: _official(items) for split, items in splits.items()}


def _official(items: list[tuple[Path, int]]) -> Official:
    labels = np.asarray([label for _, label in items], dtype=np.int64)
    return Official(labels, lambda i: items[i][0].read_bytes(), lambda i: str(items[i][0]))


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _matrix(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        found: dict[str, Any] = loadmat(path, squeeze_me=True)
    except Exception as error:  # scipy's reader can raise any error
        raise ValueError(f"{path.name}: {error}") from error
    return found


def _food(folder: Path) -> dict[str, Items]:
    order = {name: k for k, name in enumerate(sorted(_lines(folder / "meta" / "classes.txt")))}
    return {
        split: [
            (folder / "images" / f"{line}.jpg", order[line.partition("/")[0]])
            for line in _lines(folder / "meta" / f"{split}.txt")
        ]
        for split in ("train", "test")
    }


def _cars(folder: Path) -> dict[str, Items]:
    files = {
        "train": ("cars_train", folder / "devkit" / "cars_train_annos.mat"),
        "test": ("cars_test", folder / "cars_test_annos_withlabels.mat"),
    }
    return {
        split: [
            (folder / images / str(one["fname"]), int(one["class"]) - 1)
            for one in np.atleast_1d(_matrix(path)["annotations"])
        ]
        for split, (images, path) in files.items()
    }


def _flowers(folder: Path) -> dict[str, Items]:
    labels = _matrix(folder / "imagelabels.mat")["labels"]
    ids = _matrix(folder / "setid.mat")
    return {
        split: [
            (folder / "jpg" / f"image_{i:05d}.jpg", int(labels[i - 1]) - 1)
            for i in np.atleast_1d(ids[key]).tolist()
        ]
        for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))
    }


def _aircraft(folder: Path) -> dict[str, Items]:
    data = folder / "data"
    order = {name: k for k, name in enumerate(_lines(data / "variants.txt"))}
    return {
        split: [
            (data / "images" / f"{image}.jpg", order[variant])
            for image, _, variant in (
                line.partition(" ") for line in _lines(data / f"images_variant_{split}.txt")
            )
        ]
        for split in ("train", "val", "test")
    }


def _pets(folder: Path) -> dict[str, Items]:
    return {
        split: [
            (folder / "images" / f"{words[0]}.jpg", int(words[1]) - 1)
            for words in (line.split() for line in _lines(folder / "annotations" / f"{name}.txt"))
            if not words[0].startswith("#")
        ]
        for split, name in (("train", "trainval"), ("test", "test"))
    }


LAYOUTS: dict[str, tuple[str, Callable[[Path], dict[str, Items]]]] = {
    "food101": ("food-101", _food),
    "cars": ("stanford_cars", _cars),
    "flowers102": ("flowers-102", _flowers),
    "aircraft": ("fgvc-aircraft-2013b", _aircraft),
    "pets": ("oxford-iiit-pet", _pets),
}
"""Set -> the folder that its archive unpacks to, and what reads it."""
