"""KITTI: photographs, annotations, and the list of the films that the photographs are from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from .pictures import png
from .store import Store, lines, zipped

Objects = list[tuple[str, float]]

# Ten films: the builder takes one for the test and one for the validation split.
FILMS = 10
HEIGHT, WIDTH = 375, 1242
DONT_CARE = ("DontCare", -1000.0)
# First what a split has: no vehicle, the edges of VTAB's bins, other vehicles nearer than a car,
# another object nearer than a car, nothing at all, and a distance inside each bin.
CASES: tuple[Objects, ...] = (
    [("Pedestrian", 5.0), DONT_CARE],
    [("Car", 8.0)],
    [("Car", 20.0), ("Car", 20.25)],
    [("Car", 15.0), ("Van", 6.5)],
    [("Truck", 12.0), ("Car", 30.25)],
    [("Cyclist", 3.0), ("Car", 25.5), DONT_CARE],
    [DONT_CARE],
    [("Van", 8.0), ("Tram", 2.0)],
    [("Truck", 20.0), ("Misc", 7.0), ("Person_sitting", 4.0)],
    [("Car", 8.25)],
    [("Car", 20.25)],
    [("Car", 7.75), ("Car", 60.0)],
)


def kitti(
    store: Store, ids: dict[str, list[int]], rng: np.random.Generator
) -> dict[str, dict[int, Any]]:
    """Zips of training/image_2/<number>.png, training/label_2/<number>.txt and mapping/*.txt.

    The files of the splits are mixed. The images/annotations of `testing` are not read. The truth
    has all objects as written, also DontCare, which the builder leaves out.
    """
    films = _films_of_splits(store)
    order = rng.permutation([(split, k) for split in ids for k in range(len(ids[split]))]).tolist()
    images, annotations, of_image = [], [], []
    truth: dict[str, dict[int, Any]] = {split: {} for split in ids}
    for place, (split, k) in enumerate(order):
        i, objects = ids[split][int(k)], _objects(int(k), rng)
        truth[split][i] = {"objects": objects}
        of_image.append(films[split][int(k) % len(films[split])])
        images.append((f"training/image_2/{place:06d}.png", png(i, HEIGHT, WIDTH)))
        text = lines(_line(*annotated) for annotated in objects)
        annotations.append((f"training/label_2/{place:06d}.txt", text))
    images.append(("testing/image_2/000000.png", b"not an image"))
    store.put("data_object_image_2.zip", zipped(images))
    store.put("data_object_label_2.zip", zipped(annotations))
    store.put("devkit_object.zip", zipped(_mapping(of_image, rng)))
    return truth


def _objects(place: int, rng: np.random.Generator) -> Objects:
    """The objects of the image at a place of a split."""
    if place < len(CASES):
        return list(CASES[place])
    kinds = rng.choice(("Car", "Van", "Truck", "Pedestrian", "Cyclist"), rng.integers(1, 6))
    return [(str(kind), float(rng.integers(8, 200) / 4)) for kind in kinds]


def _line(kind: str, z: float) -> str:
    """A line of an annotation file; the distance is its last number but one."""
    if kind == DONT_CARE[0]:
        return f"{kind} -1 -1 -10 50.00 20.00 90.00 60.00 -1 -1 -1 -1000 -1000 {z:.0f} -10"
    return f"{kind} 0.00 1 -0.20 100.00 50.00 300.00 200.00 1.50 1.60 3.70 -1.25 1.75 {z:.2f} 0.10"


def _mapping(films: list[int], rng: np.random.Generator) -> list[tuple[str, bytes]]:
    """Two files: film and frame in the order of filming, and each image's line (from 1) of it."""
    at = rng.permutation(len(films)).tolist()
    rows = [""] * len(films)
    for image, film in enumerate(films):
        rows[at[image]] = f"2011_09_26 2011_09_26_drive_{film:04d}_sync {image:010d}"
    return [
        (str(Path("mapping", "train_rand.txt")), ",".join(str(k + 1) for k in at).encode()),
        (str(Path("mapping", "train_mapping.txt")), lines(rows)),
    ]


def _films_of_splits(store: Store) -> dict[str, list[int]]:
    """The films of each split: what the builder draws for one image of each film."""
    mapping = _mapping(list(range(FILMS)), np.random.default_rng(0))
    drawn = store.module._build_splits((path, io.BytesIO(data)) for path, data in mapping)
    return dict(zip(("train", "validation", "test"), drawn, strict=True))
