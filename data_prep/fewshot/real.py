"""What all sources of real few-shot data have in common: sizes, identity, decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.contents import Example
from data_prep.fewshot.sets import SETS, FewShotSet
from data_prep.pack import SCHEMA
from data_prep.pictures import decode, resizing

SIZE = 224
RESIZED, TRAIN = 256, 384
"""What test images are resized to before their middle of ``SIZE`` is cut out, and what training images are
resized to, so that most random crops of them have no fewer pixels than the network sees."""


class RealFewShot:
    """The five sets at one size of image."""

    benchmark = "fewshot"
    variant: str
    has_draws = True
    varying: tuple[str, ...] = ("train",)  # as many as the draws have together

    def __init__(self, root: Path | None = None, size: int | None = None) -> None:
        """Take the folder of the source's own files, and the size that the network sees.

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
        return identity | {"image_size": self.size, "train_size": self.scaled(TRAIN)}

    def counts(self, task: FewShotSet) -> dict[str, int]:
        """Return split -> images; of ``train`` the most that there can be."""
        return {"train": task.most_train, "val": task.n_val, "test": task.n_test}

    def shape(self, task: FewShotSet, split: str) -> tuple[int, int, int]:
        """Return channels, height and width."""
        side = self.scaled(TRAIN) if split == "train" else self.scaled(SIZE)
        return (3, side, side)

    def scaled(self, side: int) -> int:
        """Return a side at the size that the network sees, of one at ``SIZE``."""
        return round(side * (self.size or SIZE) / SIZE)

    def about(self, **more: Any) -> dict[str, Any]:
        """Return what a manifest says of the data besides the identity."""
        middle, train = self.scaled(SIZE), self.scaled(TRAIN)
        resize = resizing(self.scaled(RESIZED)) | {"middle": middle, "of_training_images": train}
        return {
            "image_size": middle,
            "train_size": train,
            "channels": 3,
            "resize": resize,
            **more,
        }

    def example(self, split: str, content: bytes, label: int) -> Example:
        """Decode an image as its split needs it.

        Raises:
            DataError: It is damaged.
        """
        side = self.scaled(TRAIN if split == "train" else RESIZED)
        pixels, kind = decode(content, size=side, channels=3)
        if split != "train":
            middle = self.scaled(SIZE)
            margin = (side - middle) // 2
            pixels = pixels[:, margin : margin + middle, margin : margin + middle]
        return Example(pixels, label, kind)
