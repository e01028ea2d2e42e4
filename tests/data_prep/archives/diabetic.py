"""Diabetic retinopathy: photographs and a list in the manual folder, another list downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import draw
from .pictures import GRID, bits, encoded
from .store import Store, lines

FOLDERS = {"sample": "sample", "train": "train", "validation": "test", "test": "test"}
USAGE = {"validation": "Public", "test": "Private"}
HEIGHT, WIDTH = 150, 300


def diabetic(
    store: Store, ids: dict[str, list[int]], rng: np.random.Generator
) -> dict[str, dict[int, Any]]:
    """Files sample/, train/ and test/<patient>_<eye>.jpeg and trainLabels.csv by hand.

    The downloaded retinopathy_solution.csv divides test/ into the validation split (Public) and
    the test split (Private). The images of sample/ have no label: -1.
    """
    truth: dict[str, dict[int, Any]] = {}
    rows: dict[str, list[str]] = {"train": [], "test": []}
    patients = rng.permutation(sum(map(len, ids.values()))).tolist()
    for split, numbers in ids.items():
        labels = draw.labels(len(numbers), 5, rng)
        truth[split] = dict.fromkeys(numbers, -1) if split == "sample" else {}
        for i, label in zip(numbers, labels, strict=True):
            name = f"{patients.pop() + 10}_{('left', 'right')[i % 2]}"
            folder = FOLDERS[split]
            store.put_by_hand(f"{folder}/{name}.jpeg", encoded(retina(i)))
            if split != "sample":
                truth[split][i] = label
                rows[folder].append(",".join([name, str(label), *filter(None, [USAGE.get(split)])]))
    rng.shuffle(rows["test"])
    store.put_by_hand("trainLabels.csv", lines(["image,level", *rows["train"]]))
    store.put("retinopathy_solution.csv", lines(["image,level,Usage", *rows["test"]]))
    return truth


def retina(identity: int) -> np.ndarray:
    """The bits of a number as spots that survive what the builder does: uint8, (150, 300, 3).

    The builder doubles this size, subtracts the local average, which leaves grey of all that is
    even, greys what is outside a circle of 0.9 times half the width, and cuts off the columns
    outside it. So a spot on grey stands for a block, and the image is low enough for all 16
    spots to lie in the circle.
    """
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    margin, half = WIDTH // 20, 8
    for (row, column), bit in np.ndenumerate(bits(identity)):
        y = int((row + 0.5) * HEIGHT / GRID)
        x = int(margin + (column + 0.5) * (WIDTH - 2 * margin) / GRID)
        image[y - half : y + half, x - half : x + half] = 255 * bit
    return image
