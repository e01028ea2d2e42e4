"""MSR-VTT's annotations and lists, read and checked before any video is opened.

``MSRVTT_data.json`` has 20 sentences for each of 10,000 clips. Clips are trained on by a list of 9,000 or
of 7,010, and
tested by the list 1k-A (``MSRVTT_JSFUSION_test.csv``): 1,000 clips with one sentence each.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.errors import DataError

DATA, TRAIN_9K, TRAIN_7K, TEST_1KA = (
    "MSRVTT_data.json",
    "MSRVTT_train.9k.csv",
    "MSRVTT_train.7k.csv",
    "MSRVTT_JSFUSION_test.csv",
)
CLIPS = {TRAIN_9K: 9_000, TRAIN_7K: 7_010, TEST_1KA: 1_000}
CAPTIONS_PER_CLIP = 20
OTHER_SIZES = "--other-sizes"
SUBFOLDERS = (".", "msrvtt_data", "annotation", "annotations")
VIDEO_FOLDERS = (
    ".",
    "MSRVTT_Videos",
    "videos",
    "videos/all",
    "MSRVTT/videos/all",
    "TrainValVideo",
    "TestVideo",
)
ENDINGS = (".mp4", ".webm")


@dataclass(frozen=True)
class Listing:
    """What the annotations say.

    Attributes:
        captions: Split -> clip -> its captions; train has the clips of the list of 9,000, in its order, each
            with its sentences; test those of 1k-A, each with the one sentence that the list has.
        train_7k: The clips of the smaller list.
        sha256: A hash of each file, by its name.
    """

    captions: dict[str, dict[str, tuple[str, ...]]]
    train_7k: tuple[str, ...]
    sha256: dict[str, str]

    def first(self, count: int | None) -> Listing:
        """Return the listing of the first clips of each split."""
        captions = {split: dict(list(of.items())[:count]) for split, of in self.captions.items()}
        smaller = tuple(clip for clip in self.train_7k if clip in captions["train"])
        return Listing(captions, smaller, self.sha256)


def find(root: Path) -> Path:
    """Return the folder below a root, or the root itself, that has the annotations.

    Raises:
        DataError: There is none, or a file is absent.
    """
    names = (DATA, TRAIN_9K, TRAIN_7K, TEST_1KA)
    for name in SUBFOLDERS:
        folder = root / name
        absent = [file for file in names if not (folder / file).is_file()]
        if not absent:
            return folder.resolve()
        if len(absent) < len(names):
            raise DataError(f"{folder.resolve()}: no {', '.join(absent)}: an incomplete copy")
    raise DataError(
        f"{root}: no {', '.join(names)} there, nor in {', '.join(SUBFOLDERS[1:])} below it; "
        f"--root is the folder "
        "of CLIP4Clip's 'msrvtt_data'"
    )


def look(folder: Path, *, other_sizes: bool = False) -> Listing:
    """Read annotations and lists and check that they fit.

    Args:
        folder: The folder with the files.
        other_sizes: Take other numbers of clips and of captions a clip than MSR-VTT's.

    Raises:
        DataError: They do not fit, or are not what they should be; the message has file and line.
    """
    sentences = _sentences(folder / DATA)
    train = _column(folder / TRAIN_9K, ("video_id",))
    smaller = _column(folder / TRAIN_7K, ("video_id",))
    test = _column(folder / TEST_1KA, ("video_id", "sentence"))
    for path, rows in ((TRAIN_9K, train), (TRAIN_7K, smaller), (TEST_1KA, test)):
        if not other_sizes and len(rows) != CLIPS[path]:
            raise DataError(
                f"{folder / path}: {len(rows):,} clips; MSR-VTT's has {CLIPS[path]:,}: an incomplete copy or "
                f"another list ({OTHER_SIZES} takes it)"
            )
        _refuse_twice(folder / path, [row[0] for row in rows])
    listed = [row[0] for row in train]
    _refuse_strangers(folder / TRAIN_7K, [row[0] for row in smaller], set(listed), TRAIN_9K)
    both = sorted(set(listed) & {row[0] for row in test})
    if both:
        raise DataError(
            f"{folder / TEST_1KA}: {_some(both)} also in {TRAIN_9K}: a clip for training and test"
        )
    _refuse_strangers(folder / TRAIN_9K, listed, set(sentences), DATA)
    said = {clip: tuple(sentences[clip]) for clip in listed}
    if not other_sizes:
        odd = [clip for clip in listed if len(said[clip]) != CAPTIONS_PER_CLIP]
        if odd:
            raise DataError(
                f"{folder / DATA}: {odd[0]} has {len(said[odd[0]])} sentences instead of {CAPTIONS_PER_CLIP} "
                f"({len(odd):,} such clips; {OTHER_SIZES} takes them)"
            )
    return Listing(
        {"train": said, "test": {clip: (sentence,) for clip, sentence in test}},
        tuple(row[0] for row in smaller),
        {name: _hash(folder / name) for name in (DATA, *CLIPS)},
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sentences(path: Path) -> dict[str, list[str]]:
    """Return the sentences of each clip, in the order of the file."""
    try:
        entries: list[Any] = json.loads(path.read_text(encoding="utf-8-sig"))["sentences"]
        found: dict[str, list[str]] = {}
        for number, entry in enumerate(entries):
            caption = entry["caption"].strip()
            if not caption:
                raise DataError(f"{path}: sentence {number} (from 0 on) is empty")
            found.setdefault(entry["video_id"], []).append(caption)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not MSR-VTT's annotations ({type(error).__name__}: {error}); a table with "
            f"'sentences', each "
            "of them with 'video_id' and 'caption', is expected"
        ) from error
    return found


def _column(path: Path, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return columns of a list, row by row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
            absent = [name for name in names if rows and name not in rows[0]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 table ({error})") from error
    if absent or not rows:
        raise DataError(f"{path}: no {' and no '.join(absent or names)} in it")
    found = []
    for number, row in enumerate(rows, start=1):
        values = tuple((row[name] or "").strip() for name in names)
        if not all(values):
            raise DataError(f"{path}, row {number}: no {names[values.index('')]}")
        found.append(values)
    return found


def _refuse_twice(path: Path, clips: list[str]) -> None:
    seen: dict[str, int] = {}
    for number, clip in enumerate(clips, start=1):
        if clip in seen:
            raise DataError(f"{path}, row {number}: {clip} is already in row {seen[clip]}")
        seen[clip] = number


def _refuse_strangers(path: Path, clips: list[str], known: set[str], where: str) -> None:
    strangers = [clip for clip in clips if clip not in known]
    if strangers:
        raise DataError(f"{path}: {_some(strangers)} not in {where}")


def _some(clips: list[str]) -> str:
    shown = ", ".join(clips[:3])
    more = f" and {len(clips) - 3:,} more" if len(clips) > 3 else ""
    return f"{shown}{more} {'is' if len(clips) == 1 else 'are'}"


def find_videos(root: Path, clips: Iterable[str]) -> dict[str, Path | None]:
    """Return the file of each clip; None where there is none.

    Args:
        root: The folder with ``<clip>.mp4`` or ``<clip>.webm``, or one above it with a usual name.
        clips: Their names.

    Raises:
        DataError: There is none of them.
    """
    folders = [root / name for name in VIDEO_FOLDERS if (root / name).is_dir()]
    # With the ending in lower case: the recorder's card may have .MP4. Of both, the lower case is taken.
    names = {
        folder: {path.stem + path.suffix.lower(): path for path in sorted(folder.iterdir())}
        for folder in folders
    }
    found = {
        clip: next(
            (
                names[folder][clip + ending]
                for folder in folders
                for ending in ENDINGS
                if clip + ending in names[folder]
            ),
            None,
        )
        for clip in clips
    }
    if not any(found.values()):
        first = next(iter(found))
        raise DataError(
            f"{root}: no {first}{ENDINGS[0]} or {first}{ENDINGS[1]}, nor another video of the "
            f"lists, there or in "
            f"{', '.join(VIDEO_FOLDERS[1:])} below it; --videos names the folder"
        )
    return found
