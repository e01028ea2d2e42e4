"""JPEG files whose splits are lists inside the archives: DTD, Oxford flowers and Oxford pets."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from . import draw
from .pictures import encoded, jpeg, picture, plane, size
from .store import Store, lines, tar_gz

Truth = dict[str, dict[int, Any]]

DTD_LISTS = {"train": "train", "validation": "val", "test": "test"}
FLOWER_LISTS = {"train": "trnid", "validation": "valid", "test": "tstid"}
PET_LISTS = {"train": "trainval", "test": "test"}
# The builder re-encodes the file of this name, which in the original is not a clean JPEG.
RE_ENCODED_PET = "Egyptian_Mau_145"


def dtd(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """A tar.gz of dtd/images/<class>/<class>_<number>.jpg and dtd/labels/<split><fold>.txt.

    TFDS uses fold 1; fold 2 is there with the train and the test list exchanged.
    """
    names = store.class_names()
    truth: Truth = {}
    files, listed = [], {}
    for split, numbers in ids.items():
        truth[split] = dict(zip(numbers, draw.labels(len(numbers), len(names), rng), strict=True))
        listed[split] = []
        for i, label in truth[split].items():
            path = f"{names[label]}/{names[label]}_{len(files):04d}.jpg"
            listed[split].append(path)
            files.append((f"dtd/images/{path}", jpeg(i, *size(len(files)))))
    exchanged = {"train": "test", "test": "train"}
    for split, name in DTD_LISTS.items():
        files.append((f"dtd/labels/{name}1.txt", lines(listed[split])))
        files.append((f"dtd/labels/{name}2.txt", lines(listed[exchanged.get(split, split)])))
    store.put("dtd-r1.0.1.tar.gz", tar_gz(files))
    return truth


def flowers(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """A .tgz of jpg/image_<number>.jpg, and MATLAB files of the labels and of the splits.

    Labels and image numbers count from 1; the splits are spread over the image numbers.
    """
    truth: Truth = {}
    spread = (rng.permutation(sum(map(len, ids.values()))) + 1).tolist()
    labels = np.zeros(len(spread), np.uint8)
    files, splits = [], {}
    for split, numbers in ids.items():
        truth[split] = dict(zip(numbers, draw.labels(len(numbers), 102, rng), strict=True))
        places = [spread.pop() for _ in numbers]
        splits[FLOWER_LISTS[split]] = np.array(places, np.uint16)[None]
        for place, (i, label) in zip(places, truth[split].items(), strict=True):
            labels[place - 1] = label + 1
            files.append((f"jpg/image_{place:05d}.jpg", jpeg(i, *size(place))))
    store.put("102flowers.tgz", tar_gz(files))
    store.put("imagelabels.mat", _mat({"labels": labels[None]}))
    store.put("setid.mat", _mat(splits))
    return truth


def _mat(arrays: dict[str, np.ndarray]) -> bytes:
    """A MATLAB file."""
    from scipy.io import savemat

    content = io.BytesIO()
    savemat(content, arrays)
    return content.getvalue()


def pets(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """Two tar.gz: images/<breed>_<number>.jpg; lists, trimaps (PNG) and boxes (XML).

    A line of a list is: name, breed from 1, species (1 cat, 2 dog), breed within the species.
    The test images have no boxes. If an Egyptian Mau occurs, its first file is a PNG with
    transparency under the name of one that the builder re-encodes.
    """
    names = store.class_names()
    truth: Truth = {}
    images, annotations = [], []
    for split, numbers in ids.items():
        truth[split] = dict(zip(numbers, draw.labels(len(numbers), len(names), rng), strict=True))
        rows = []
        for i, label in truth[split].items():
            name, (height, width) = f"{names[label]}_{1000 + len(images)}", size(len(images))
            content = jpeg(i, height, width)
            marred = RE_ENCODED_PET.startswith(names[label])
            if marred and not any(RE_ENCODED_PET in path for path, _ in images):
                name, content = RE_ENCODED_PET, encoded(picture(i, height, width), "PNG", "RGBA")
            images.append((f"images/{name}.jpg", content))
            trimap = encoded(plane(i, height, width) + np.uint8(1), "PNG")
            annotations.append((f"annotations/trimaps/{name}.png", trimap))
            if split == "train":
                annotations.append((f"annotations/xmls/{name}.xml", _box(height, width)))
            # Cats have capital initials.
            rows.append(f"{name} {label + 1} {1 if name[0].isupper() else 2} 1")
        annotations.append((f"annotations/{PET_LISTS[split]}.txt", lines(rows)))
    store.put("images.tar.gz", tar_gz(images))
    store.put("annotations.tar.gz", tar_gz(annotations))
    return truth


def _box(height: int, width: int) -> bytes:
    """An XML file with a box in the middle of a picture."""
    return (
        f"<annotation><size><width>{width}</width><height>{height}</height></size>"
        f"<object><bndbox><xmin>{width // 4}</xmin><ymin>{height // 4}</ymin>"
        f"<xmax>{width // 2}</xmax><ymax>{height // 2}</ymax></bndbox></object></annotation>"
    ).encode()
