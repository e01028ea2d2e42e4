"""The published split lists: found, read and checked before anything is packed.

A line is a path and a label from 0 on, split at the last space. NOAH keeps the lists in
``ROOT/<set>/annotations`` and the images in ``ROOT/<set>/images`` (of the cars in ``ROOT/<set>``); DTL and
KARST keep the lists in ``ROOT/few-shot_split/<set>`` and the images in ``ROOT/<set>``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.errors import DataError
from data_prep.fewshot.sets import DRAW_SEEDS, SHOTS, FewShotSet
from data_prep.list_files import Entry, read_list, refuse_duplicates, with_its_ending

TEST, VAL = "test_meta.list", "val_meta.list"
Draws = dict[str, npt.NDArray[np.int64]]


def train_list(shots: int, seed: int) -> str:
    """Return the name of the list of one draw."""
    return f"train_meta.list.num_shot_{shots}.seed_{seed}"


def find(root: Path | None, one: FewShotSet) -> tuple[Path, tuple[Path, ...]]:
    """Return the folder of a set's lists, and the folders in which its images may be.

    Raises:
        DataError: There is no such folder, or more than one.
    """
    if root is None or not root.is_dir():
        raise DataError(f"{root}: no such folder; --root names the folder with one folder a set")
    lists = [
        place
        for name in one.folders
        for folder in (root / name, root / "few-shot_split" / name)
        for place in (folder / "annotations", folder)
        if (place / TEST).is_file()
    ]
    if not lists:
        raise DataError(
            f"{root}: no {TEST} of {one.name}; it is looked for in SET/annotations, SET, and the same below "
            f"few-shot_split, where SET is one of: {', '.join(one.folders)}"
        )
    if len(lists) > 1:
        places = ", ".join(str(place.relative_to(root)) for place in lists)
        raise DataError(f"{root}: more than one folder has lists of {one.name}: {places}; keep one")
    folders = [root / name for name in one.folders if (root / name).is_dir()]
    return lists[0], tuple(place for folder in folders for place in (folder / "images", folder))


def read_set(
    folder: Path, places: tuple[Path, ...], one: FewShotSet
) -> tuple[dict[str, list[Entry]], Draws, list[str]]:
    """Read all lists of a set.

    Args:
        folder: Where the lists are.
        places: Where the images may be.
        one: The set.

    Returns:
        The entries of ``train`` (each image of any draw once), ``val`` and ``test``; the draws, as indices
        into ``train``; remarks for the manifest.

    Raises:
        DataError: A list is missing or wrong; the message has file and line.
    """
    held_out: dict[str, Entry] = {}
    splits: dict[str, list[Entry]] = {}
    for split, name, count in (("val", VAL, one.n_val), ("test", TEST, one.n_test)):
        entries = _read(folder / name, places, one)
        refuse_duplicates(entries)
        if len(entries) != count:
            raise DataError(
                f"{folder / name}: {len(entries):,} images, the published list of {one.name} has {count:,}: "
                "an incomplete copy, or another data set"
            )
        _refuse_shared(entries, held_out)
        held_out |= entries_by_path(entries)
        splits[split] = entries
    pool: dict[str, Entry] = {}
    draws: Draws = {}
    notes: list[str] = []
    for shots in SHOTS:
        for seed in DRAW_SEEDS:
            path = folder / train_list(shots, seed)
            entries = _read(path, places, one)
            if is_doubled(entries):
                distinct = len(entries) // 2
                notes.append(
                    f"{path.name}: every line is there twice ({len(entries)} lines, {distinct} images); kept"
                )
            else:
                refuse_duplicates(entries)
            _refuse_shared(entries, held_out)
            _require_shots(path, entries, one, shots)
            for entry in entries:
                known = pool.setdefault(str(entry.path), entry)
                if known.label != entry.label:
                    raise DataError(
                        f"{entry.where}: label {entry.label}; the same image has {known.label} in "
                        f"{known.where}"
                    )
            order = {name: index for index, name in enumerate(pool)}
            index = [order[str(entry.path)] for entry in entries]
            draws[f"{shots}shot_seed{seed}"] = np.asarray(index, dtype=np.int64)
    return {"train": list(pool.values()), **splits}, draws, notes


def entries_by_path(entries: list[Entry]) -> dict[str, Entry]:
    """Return entries by the path of their image."""
    return {str(entry.path): entry for entry in entries}


def is_doubled(entries: list[Entry]) -> bool:
    """Whether every line is there exactly twice, as in the published 1-shot lists of the pets."""
    times = Counter((str(entry.path), entry.label) for entry in entries)
    return bool(times) and set(times.values()) == {2}


def _read(path: Path, places: tuple[Path, ...], one: FewShotSet) -> list[Entry]:
    return read_list(path, one, lambda name: _image(name, places))


def _image(name: str, places: tuple[Path, ...]) -> Path:
    """Return where an image is; where it would be, if it is nowhere."""
    found = [with_its_ending(place / name) for place in places]
    return next((path for path in found if path.is_file()), found[0] if found else Path(name))


def _refuse_shared(entries: list[Entry], held_out: Mapping[str, Entry]) -> None:
    for entry in entries:
        if (other := held_out.get(str(entry.path))) is not None:
            raise DataError(
                f"{entry.where}: {entry.path.name} is also an image of {other.where}; training, validation "
                "and test images must be disjoint"
            )


def _require_shots(path: Path, entries: list[Entry], one: FewShotSet, shots: int) -> None:
    """Require so many distinct images of each class."""
    counts = Counter(entry.label for entry in entries_by_path(entries).values())
    for label in range(one.num_classes):
        if counts[label] != shots:
            raise DataError(f"{path}: class {label} has {counts[label]} images, not {shots}")
