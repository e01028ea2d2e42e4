"""The few-shot sets from the published lists and a folder of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep.contents import Contents, Example, Split
from data_prep.errors import DataError
from data_prep.fewshot.lists import find, read_set
from data_prep.fewshot.sets import SETS, FewShotSet
from data_prep.pack import SCHEMA
from data_prep.pictures import decode, resizing
from data_prep.vtab1k.folder_source import Entry, require_images

SIZE = 224
RESIZED, TRAIN = 256, 384
"""What test images are resized to before their middle of ``SIZE`` is cut out, and what training images are
resized to, so that most random crops of them have no fewer pixels than the network sees."""


class FewShotFolder:
    """A folder of images with the published lists."""

    benchmark = "fewshot"
    variant = "folder"
    has_draws = True

    def __init__(self, root: Path | None = None, size: int | None = None) -> None:
        """Take the folder with one folder a set, and the size that the network sees.

        Packed data are checked without a root; without a size, those of any size are right.
        """
        self.root, self.size = root, size

    def tasks(self) -> tuple[FewShotSet, ...]:
        """Return the sets."""
        return SETS

    def identity(self, task: FewShotSet) -> dict[str, Any]:
        """Return the part of a manifest that the set and the size decide."""
        identity: dict[str, Any] = {
            "schema": SCHEMA,
            "benchmark": self.benchmark,
            "task": task.name,
            "variant": self.variant,
            "num_classes": task.num_classes,
        }
        if self.size is None:
            return identity
        return identity | {"image_size": self.size, "train_size": self._scaled(TRAIN)}

    def counts(self, task: FewShotSet) -> dict[str, int]:
        """Return split -> images; of ``train`` the most that there can be."""
        return {"train": task.most_train, "val": task.n_val, "test": task.n_test}

    def shape(self, task: FewShotSet, split: str) -> tuple[int, int, int]:
        """Return channels, height and width."""
        side = self._scaled(TRAIN) if split == "train" else self._scaled(SIZE)
        return (3, side, side)

    def open(self, task: FewShotSet) -> Contents:
        """Read and check all lists of a set before anything is packed.

        Raises:
            DataError: A list or an image is missing, or a line is wrong.
        """
        folder, places = find(self.root, task)
        splits, draws, notes = read_set(folder, places, task)
        require_images(splits)
        about = {
            "image_size": self._scaled(SIZE),
            "train_size": self._scaled(TRAIN),
            "channels": 3,
            "resize": resizing(self._scaled(RESIZED))
            | {"middle": self._scaled(SIZE), "of_training_images": self._scaled(TRAIN)},
            "source": {"kind": "published split lists", "folder": folder.name},
            "draw_source": "published lists",
            "notes": notes,
        }
        openers = {name: self._opener(name, entries) for name, entries in splits.items()}
        return Contents(about, openers, draws)

    def _scaled(self, side: int) -> int:
        """A side at the size that the network sees, of one at ``SIZE``."""
        return round(side * (self.size or SIZE) / SIZE)

    def _opener(self, split: str, entries: list[Entry]) -> Callable[[], Split]:
        text = "".join(f"{entry.path.name} {entry.label}\n" for entry in entries)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return lambda: Split(
            len(entries), lambda i: self._example(split, entries[i]), {"list_sha256": digest}
        )

    def _example(self, split: str, entry: Entry) -> Example:
        side = self._scaled(TRAIN if split == "train" else RESIZED)
        try:
            pixels, kind = decode(entry.path.read_bytes(), size=side, channels=3)
        except (DataError, OSError) as error:
            raise DataError(f"{entry.where}: {entry.path}: {error}") from error
        if split != "train":
            margin, seen = (side - self._scaled(SIZE)) // 2, self._scaled(SIZE)
            pixels = pixels[:, margin : margin + seen, margin : margin + seen]
        return Example(pixels, entry.label, kind)
