"""JPEG files in a folder for each class: EuroSAT, RESISC45 and Caltech101."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import draw
from .pictures import jpeg, size
from .store import Store, tar_gz, zipped

Truth = dict[str, dict[int, Any]]

# caltech101 draws as many of each class for the train split.
DRAWN_PER_CLASS = 30
# Pillow's modes of the first pictures: the original has a few that are not RGB.
CALTECH_MODES = {0: "L", 1: "CMYK"}


def eurosat(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """A zip of 2750/<class>/<class>_<number>.jpg, 64 x 64."""
    names, numbers = store.class_names(), ids["train"]
    labels = draw.labels(len(numbers), len(names), rng)
    files = [
        (f"2750/{names[label]}/{names[label]}_{k}.jpg", jpeg(i, 64, 64))
        for k, (i, label) in enumerate(zip(numbers, labels, strict=True), 1)
    ]
    store.put("EuroSAT.zip", zipped(files))
    return {"train": dict(zip(numbers, labels, strict=True))}


def resisc45(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """Files NWPU-RESISC45/<class>/<class>_<number>.jpg, 256 x 256, in the manual folder."""
    names, numbers = store.class_names(), ids["train"]
    labels = draw.labels(len(numbers), len(names), rng)
    for k, (i, label) in enumerate(zip(numbers, labels, strict=True), 1):
        name = names[label]
        store.put_by_hand(f"NWPU-RESISC45/{name}/{name}_{k:03d}.jpg", jpeg(i, 256, 256))
    return {"train": dict(zip(numbers, labels, strict=True))}


def caltech101(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """A zip with a tar.gz of 101_ObjectCategories/<class>/image_<number>.jpg.

    The builder draws 30 images of each class for the train split; the rest is the test split. So
    the train count is rounded up to a multiple of 30, which gives the number of classes, and the
    test images are spread over these. Which images are drawn depends on the order in which the
    file system lists them: the truth has the one key "all".
    """
    names = store.class_names()
    numbers = [*ids["train"], *ids["test"]]
    classes = max(1, len(ids["train"]) // DRAWN_PER_CLASS)
    kept = rng.permutation(len(names))[:classes].tolist()
    labels = [kept[k % classes] for k in range(len(numbers))]
    files = []
    for k, (i, label) in enumerate(zip(numbers, labels, strict=True)):
        # The original spells one folder with capitals; the builder lowers them.
        folder = names[label].replace("background_google", "BACKGROUND_Google")
        content = jpeg(i, *size(k), mode=CALTECH_MODES.get(k))
        files.append((f"101_ObjectCategories/{folder}/image_{k // classes + 1:04d}.jpg", content))
    inner = ("caltech-101/101_ObjectCategories.tar.gz", tar_gz(files))
    store.put("caltech-101.zip", zipped([inner]))
    return {"all": dict(zip(numbers, labels, strict=True))}


def caltech_counts(counts: dict[str, int]) -> dict[str, int]:
    """Counts that caltech101 can have: the train split a multiple of 30."""
    return counts | {"train": -(-counts["train"] // DRAWN_PER_CLASS) * DRAWN_PER_CLASS}
