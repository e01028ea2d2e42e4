"""The few-shot sets without the published lists: our own seeded draw from the official splits.

Numbers on these draws are not comparable with those on the published lists, hence variants of their own. A
set without an official validation split gives a fifth of each class's training images to it. Flowers102
has 10 official training images a class, too few for 16 shots: all its images are split anew.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.contents import Contents, Example, Split
from data_prep.errors import DataError
from data_prep.fewshot.archives import read_official
from data_prep.fewshot.draw import draws, held_out, split_anew
from data_prep.fewshot.official import Official, joined
from data_prep.fewshot.real import RealFewShot
from data_prep.fewshot.sets import FewShotSet
from data_prep.streams import Labels
from data_prep.vtab1k.tfds_source import Tfds, stored

SHARE = 0.2
SPLIT_ANEW = {"flowers102": (0.5, 0.2)}
"""Set -> shares of ``train`` and ``val``: those of the published lists, 4,093, 1,633 and 2,463 of 8,189."""


class Drawn(RealFewShot):
    """Official splits, of which the draws are made here."""

    varying = ("train", "val", "test")

    @abstractmethod
    def official(self, task: FewShotSet) -> tuple[Mapping[str, Official], dict[str, Any]]:
        """Return the official splits ``train``, ``test``, perhaps ``val``, and where they come from."""

    def open(self, task: FewShotSet) -> Contents:
        """Read the official splits, hold images out, and draw.

        Raises:
            DataError: They are not there, or not as they should be.
        """
        found, source = self.official(task)
        for name, split in found.items():
            if set(split.labels.tolist()) != set(range(task.num_classes)):
                raise DataError(
                    f"{task.name}, official {name} images: not exactly the {task.num_classes} classes"
                )
        splits, notes = _partition(found, task)
        try:
            drawn = draws(splits["train"].labels, (task.name,))
        except ValueError as error:
            raise DataError(f"{task.name}: {error}") from error
        pool = np.unique(np.concatenate(list(drawn.values())))
        splits["train"] = splits["train"].taken(pool)
        of = "all images, split anew" if task.name in SPLIT_ANEW else "the official splits"
        about = self.about(source=source, draw_source=f"our own draw from {of}", notes=notes)
        return Contents(
            about,
            {name: self._opener(name, splits[name]) for name in ("train", "val", "test")},
            {name: np.searchsorted(pool, index) for name, index in drawn.items()},
            _fingerprint(splits),
        )

    def _opener(self, name: str, split: Official) -> Callable[[], Split]:
        def example(index: int) -> Example:
            try:
                return self.example(name, split.content(index), int(split.labels[index]))
            except (DataError, OSError) as error:
                raise DataError(f"{split.where(index)}: {error}") from error

        return lambda: Split(len(split.labels), example)


def _partition(
    found: Mapping[str, Official], task: FewShotSet
) -> tuple[dict[str, Official], list[str]]:
    """Return ``train``, ``val`` and ``test`` out of the official splits, and remarks for the manifest."""
    if task.name in SPLIT_ANEW:
        shares = SPLIT_ANEW[task.name]
        every = joined([found[name] for name in ("train", "val", "test")])
        parts = split_anew(every.labels, (task.name,), shares)
        fewest = np.bincount(found["train"].labels).min()
        note = (
            f"the official training images are {fewest} or more of each class; all images were split anew: "
            f"of each class {shares[0]:.0%} train, {shares[1]:.0%} val, the rest test"
        )
        return {name: every.taken(index) for name, index in parts.items()}, [note]
    if "val" in found:
        return dict(found), []
    train = found["train"]
    chosen = held_out(train.labels, (task.name,), SHARE)
    splits = {
        "train": train.taken(np.flatnonzero(~chosen)),
        "val": train.taken(np.flatnonzero(chosen)),
        "test": found["test"],
    }
    return splits, [f"val: {SHARE:.0%} of the training images of each class, drawn"]


def _fingerprint(splits: Mapping[str, Official]) -> str:
    """Return a hash of which images the splits have, in which order, and with which labels."""
    lines = (
        f"{name} {split.where(i)} {label}\n"
        for name, split in splits.items()
        for i, label in enumerate(split.labels.tolist())
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class FewShotArchives(Drawn):
    """The archives of the data sets, unpacked as torchvision unpacks them."""

    variant = "folder-drawn"

    def official(self, task: FewShotSet) -> tuple[Mapping[str, Official], dict[str, Any]]:
        """Return the official splits of an unpacked archive."""
        folder, splits = read_official(self.root, task.name)
        return splits, {"kind": "archive", "folder": folder.name}


@dataclass(frozen=True)
class Registered:
    """A data set of TFDS: its builder, and what the official splits are called there."""

    builder: str
    version: str
    splits: Mapping[str, str]
    by_hand: str | None = None


REGISTERED = {
    "food101": Registered("food101", "2.0.0", {"train": "train", "test": "validation"}),
    "cars": Registered("cars196", "2.1.0", {"train": "train", "test": "test"}),
    "flowers102": Registered(
        "oxford_flowers102", "2.1.1", {"train": "train", "val": "validation", "test": "test"}
    ),
    "pets": Registered("oxford_iiit_pet", "4.0.0", {"train": "train", "test": "test"}),
}


class FewShotTfds(Drawn):
    """The official splits through `tensorflow-datasets`."""

    variant = "tfds-drawn"

    def official(self, task: FewShotSet) -> tuple[Mapping[str, Official], dict[str, Any]]:
        """Return the official splits of a prepared builder.

        Raises:
            DataError: TFDS does not have the set, or cannot prepare it.
        """
        if task.name not in REGISTERED:
            raise DataError(
                f"TFDS has no {task.name}; use its archive with --source folder-drawn, or the "
                "published lists with --source folder"
            )
        registered = REGISTERED[task.name]
        tfds = Tfds(self.root)
        builder = tfds.prepared(registered)
        splits = {}
        for name, where in registered.splits.items():
            examples = stored(builder, where)
            labels: Labels = np.asarray(
                [int(example["label"]) for example in examples], dtype=np.int64
            )
            splits[name] = Official(
                labels,
                lambda i, examples=examples: bytes(examples[i]["image"]),  # type: ignore[misc]
                lambda i, where=where: f"{registered.builder}, {where}, example {i}",  # type: ignore[misc]
            )
        return splits, {
            "kind": "tensorflow-datasets",
            "builder": registered.builder,
            "version": registered.version,
        }
