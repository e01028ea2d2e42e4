"""SUN397: one archive whose splits are lists inside TFDS."""

from __future__ import annotations

from typing import Any

import numpy as np

from .pictures import encoded, jpeg, picture, size
from .store import Store, lines, tar_gz, zipped

LISTS = {"train": "tr", "validation": "va", "test": "te"}
# More pixels than the builder keeps: it shrinks them.
LARGE = (360, 480)


def sun397(
    store: Store, ids: dict[str, list[int]], rng: np.random.Generator
) -> dict[str, dict[int, Any]]:
    """A tar.gz of SUN397/<letter>/<class>/sun_<name>.jpg, and a zip of lists that TFDS unpacks.

    The split lists come with TFDS, so the names are chosen from them. As in the original, some
    .jpg files hold a PNG or a BMP, some are in no list, and one that is listed is never read.
    """
    names = store.class_names()
    ignored = store.module._SUN397_IGNORE_IMAGES[0]
    files = [(ignored, b"not an image"), ("SUN397/a/abbey/sun_unlisted.jpg", b"not an image")]
    truth: dict[str, dict[int, Any]] = {}
    for split, numbers in ids.items():
        truth[split] = {}
        for path, i in zip(_listed(store, split, len(numbers), rng), numbers, strict=True):
            truth[split][i] = names.index(path.rpartition("/")[0])
            files.append(("SUN397" + path, _image(i, len(files))))
    rng.shuffle(files)
    store.put("SUN397.tar.gz", tar_gz(files))
    store.put("Partitions.zip", zipped([("Training_01.txt", lines([])), ("Testing_01.txt", b"")]))
    return truth


def _listed(store: Store, split: str, count: int, rng: np.random.Generator) -> list[str]:
    """Random paths of TFDS' list of a split, such as /a/abbey/sun_aaaulhwrhqgejnyt.jpg."""
    import tensorflow_datasets as tfds

    name = f"image_classification/sun397_tfds_{LISTS[split]}.txt"
    paths = tfds.core.tfds_path(name).read_text().split()
    ignored = {path.removeprefix("SUN397") for path in store.module._SUN397_IGNORE_IMAGES}
    return rng.choice(sorted(set(paths) - ignored), count, replace=False).tolist()


def _image(identity: int, place: int) -> bytes:
    """A JPEG file; at some places a grey PNG or a BMP."""
    height, width = LARGE if place == 4 else size(place)
    if place in (5, 6):
        kind, mode = (("PNG", "L"), ("BMP", None))[place - 5]
        return encoded(picture(identity, height, width), kind, mode)
    return jpeg(identity, height, width)
