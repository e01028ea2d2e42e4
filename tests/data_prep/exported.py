"""Folders of exported files for the tests: the layout of the PETL repositories, images drawn here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.vtab1k import TASKS, Task

SMALL = {"train800": 12, "val200": 4, "test": 6}


def small_task(name: str, counts: dict[str, int] = SMALL) -> Task:
    """A task as declared, but with few images."""
    task = next(task for task in TASKS if task.name == name)
    return dataclasses.replace(task, counts=counts)


def export(root: Path, task: Task, folder: str, *, size: int = 40, joined: bool = True) -> Path:
    """Write lists and JPEG files of a task; the i-th image of a split is a flat colour of its own."""
    place = root / folder
    for index, (split, count) in enumerate(task.counts.items()):
        (place / "images" / split).mkdir(parents=True)
        lines = []
        for number in range(count):
            path = place / "images" / split / f"{number:06d}.jpg"
            picture = np.full((size, size + 7, 3), colour(index, number), np.uint8)
            Image.fromarray(picture).save(path)
            lines.append(f"{path.relative_to(place).as_posix()} {number % task.num_classes}")
        (place / f"{split}.txt").write_text("\n".join(lines) + "\n")
    if joined:
        text = "".join((place / f"{name}.txt").read_text() for name in ("train800", "val200"))
        (place / "train800val200.txt").write_text(text)
    return place


def colour(split: int, number: int) -> tuple[int, int, int]:
    """The colour of an image."""
    return (60 + 60 * split, 10 * (number % 20), 200 - 10 * (number % 16))
