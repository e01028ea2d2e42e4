"""What is prepared, and how it is read.

A folder ``<data>/<variant>/msrvtt`` holds, for each split (train: the list of 9,000; test: 1k-A):

- ``<split>.frames.safetensors``: ``frames`` uint8 (n, 12, 3, S, S), a row a clip; ``counts`` int64 (n,),
how many of the twelve
  are frames, from the first on. The others are zero, and so is the whole row of a clip that was left out,
  whose count
  is 0. 18 GB for MSR-VTT: map it to memory (``tensors_file.open_arrays``, or safetensors' ``safe_open``).
- ``<split>.captions.safetensors``: ``tokens`` int32 (C, 32), each with start and end, padded with 0;
``lengths`` int64 (C,), tokens
  with start and end; ``clips`` int64 (C,), the row of each caption's clip. No caption is of a clip that
  was left out.
- ``<split>.clips.txt``: the name of each row's clip; ``<split>.caps.txt``: each caption as text.

``lists.safetensors`` holds the rows of each list, without clips that were left out: ``train_9k``,
``train_7k``, ``test_1ka``, int64.
``<split>.journal.jsonl`` says from which videos the frames are: size and time of change of each.
``manifest.json`` is written last: counts, hashes, how was sampled, and by name each clip that was left out
or noted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep import tensors_file
from data_prep.errors import DataError
from data_prep.msrvtt import decoding, sampling, video
from data_prep.msrvtt.decoding import clips_file, frames_file
from data_prep.msrvtt.lists import Listing
from data_prep.msrvtt.tokens import PADDING, ClipTokens
from data_prep.pack import MANIFEST, SCHEMA, read_manifest
from data_prep.whole_files import move_folder, sha256, write_json

BENCHMARK = "msrvtt"
SPLITS = ("train", "test")
FITS = {
    "embedded": {"tokens in the vocabulary": 994, "pixels in height and width": 32},
    "folder": {"tokens in the vocabulary": 49_408, "pixels in height and width": 224},
}
"""What the backbone that a variant is for takes."""
LISTS = "lists.safetensors"
_STARTED = "started.json"


@dataclass(frozen=True)
class Job:
    """What is to be prepared.

    Attributes:
        listing: Clips and captions.
        videos: Clip -> file, or None.
        tokens: Cuts the captions.
        size: Height and width of frames.
        head: The part of the manifest that is known before: variant, and what made the data.
    """

    listing: Listing
    videos: Mapping[str, Path | None]
    tokens: ClipTokens
    size: int
    head: Mapping[str, Any]

    def identity(self) -> dict[str, Any]:
        """Return the part of the manifest that says whether what is prepared is what is asked for."""
        return {key: value for key, value in self.full_head().items() if key != video.LIBRARIES}

    def full_head(self) -> dict[str, Any]:
        """Return the part of the manifest that must be equal for a run to continue another one."""
        return (
            {"schema": SCHEMA, "benchmark": BENCHMARK}
            | dict(self.head)
            | video.about(self.size)
            | {"tokenizer": self.tokens.about(), "annotations": self.listing.sha256}
        )


def folder_of(data: Path, variant: str) -> Path:
    """Return the folder of what is prepared."""
    return data / variant / BENCHMARK


def captions_file(split: str) -> str:
    """Return the name of the file with a split's tokens."""
    return f"{split}.captions.safetensors"


def text_file(split: str) -> str:
    """Return the name of the file with a split's captions as text."""
    return f"{split}.caps.txt"


def packed_bytes(clips: int, size: int) -> int:
    """Return the size of packed frames on disk."""
    return clips * (sampling.MAX_FRAMES * 3 * size * size + 8)


def staging_of(folder: Path) -> Path:
    """Return the folder that is written to; it takes the place of ``folder`` when it is whole."""
    return folder.with_name(f".{folder.name}.partial")


def prepare(
    job: Job, folder: Path, *, jobs: int = 1, tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Decode and pack all splits; return the manifest. What was prepared before stays until this is whole.

    Args:
        job: What.
        folder: The folder; work is done beside it.
        jobs: Processes that decode.
        tick: Told of every clip.

    Raises:
        DataError: No clip of a split can be read, or a process was ended from without.
    """
    staging = staging_of(folder)
    head = job.full_head()
    _go_on_or_start(staging, head)
    is_same_kind = _decoded_as(folder) == video.about(job.size)
    entries: dict[str, Any] = {}
    rows: dict[str, npt.NDArray[np.int64]] = {}
    for split in SPLITS:
        captions = job.listing.captions[split]
        files = {clip: job.videos[clip] for clip in captions}
        path = staging / frames_file(split)
        done = decoding.decode_all(
            path,
            staging / decoding.journal_file(split),
            files,
            size=job.size,
            jobs=jobs,
            tick=tick,
            former=folder / frames_file(split) if is_same_kind else None,
        )
        if not any(one.count for one in done.values()):
            first = next(iter(done.values()))
            shutil.rmtree(staging)
            why = "; ".join(first.notes)
            raise DataError(
                f"{split}: none of its {len(done):,} clips can be read; {first.clip}: {why}"
            )
        rows |= _rows_of_lists(split, done, job.listing)
        entries[split] = _about_clips(done) | _write_captions(staging, split, captions, done, job)
        entries[split]["frames_sha256"] = sha256(path)
    _write_tensors(staging / LISTS, rows)
    lists = {name: len(found) for name, found in rows.items()}
    manifest = head | {
        "size": job.size,
        "lists": lists,
        "lists_sha256": sha256(staging / LISTS),
        "splits": entries,
    }
    write_json(staging / MANIFEST, manifest)
    (staging / _STARTED).unlink()
    move_folder(staging, folder)
    return manifest


def _decoded_as(folder: Path) -> dict[str, Any]:
    """Return what the manifest of a finished folder says of sampling, decoding and resizing."""
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError):
        return {}
    return {key: manifest.get(key) for key in video.about(0)}


def _go_on_or_start(staging: Path, head: Mapping[str, Any]) -> None:
    """Keep what a killed run left if it was after the same; else begin."""
    wanted = staging / "wanted.json"
    write_json(wanted, head)
    started = staging / _STARTED
    same = started.is_file() and started.read_bytes() == wanted.read_bytes()
    if not same:
        shutil.rmtree(staging)
        write_json(started, head)
    else:
        wanted.unlink()


def _rows_of_lists(
    split: str, done: Mapping[str, decoding.Done], listing: Listing
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rows of the lists that a split serves, without clips that were left out."""
    row_of = {clip: row for row, (clip, one) in enumerate(done.items()) if one.count}
    lists: dict[str, Sequence[str]] = {"test_1ka": tuple(done)}
    if split == "train":
        lists = {"train_9k": tuple(done), "train_7k": listing.train_7k}
    return {
        name: np.asarray([row_of[clip] for clip in clips if clip in row_of], dtype=np.int64)
        for name, clips in lists.items()
    }


def _about_clips(done: Mapping[str, decoding.Done]) -> dict[str, Any]:
    """Return what the manifest says of a split's clips."""
    there = [one for one in done.values() if one.count]
    return {
        "n_clips": len(there),
        "n_listed": len(done),
        "frames": sum(one.count for one in there),
        "left_out": {one.clip: "; ".join(one.notes) for one in done.values() if not one.count},
        "noted": {one.clip: "; ".join(one.notes) for one in there if one.notes},
    }


def _write_captions(
    staging: Path,
    split: str,
    captions: Mapping[str, Sequence[str]],
    done: Mapping[str, decoding.Done],
    job: Job,
) -> dict[str, Any]:
    """Write a split's captions, as tokens and as text, and the names of its clips; return what they are."""
    there = [
        (row, caption)
        for row, clip in enumerate(captions)
        if done[clip].count
        for caption in captions[clip]
    ]
    texts = [" ".join(caption.split()) for _, caption in there]
    tokens = job.tokens.rows(caption for _, caption in there)
    values: dict[str, npt.NDArray[Any]] = {
        "tokens": tokens,
        "lengths": (tokens == job.tokens.about()["special"]["end"]).argmax(axis=1).astype(np.int64)
        + 1,
        "clips": np.asarray([row for row, _ in there], dtype=np.int64),
    }
    path = staging / captions_file(split)
    _write_tensors(path, values)
    for name, lines in ((text_file(split), texts), (clips_file(split), list(captions))):
        text = "".join(f"{line}\n" for line in lines)
        (staging / name).write_text(text, encoding="utf-8", newline="\n")
    return {"n_captions": len(there), "captions_sha256": sha256(path)}


def _write_tensors(path: Path, values: Mapping[str, npt.NDArray[Any]]) -> None:
    arrays = tensors_file.create(
        path, {key: (value.dtype.type, value.shape) for key, value in values.items()}
    )
    for key, value in values.items():
        arrays[key][:] = value
        if isinstance(arrays[key], np.memmap):
            arrays[key].flush()  # type: ignore[attr-defined]


def faults_of_tokens(tokens: npt.NDArray[np.int32], special: Mapping[str, int]) -> list[str]:
    """Say what is wrong in rows of tokens; nothing if they are right."""
    start, end = special["start"], special["end"]
    wrong = []
    if (tokens[:, 0] != start).any() or ((tokens == end).sum(axis=1) != 1).any():
        wrong.append("a caption does not begin with the start, or has not one end")
    elif (tokens.argmax(axis=1) != (tokens == end).argmax(axis=1)).any():
        wrong.append("the end of a caption is not its largest token")
    else:
        after = np.arange(tokens.shape[1]) > tokens.argmax(axis=1)[:, None]
        if (tokens[after] != PADDING).any():
            wrong.append("there are tokens after the end of a caption")
    return wrong
