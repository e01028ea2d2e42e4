"""The embedded world's MSR-VTT: files in the layout of the real ones, then prepared as those are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep.embedded import msrvtt
from data_prep.msrvtt import lists, packed
from data_prep.msrvtt.tokens import ClipTokens

VARIANT = "embedded"
CLIP = "clip_micro"
VOCABULARY = Path(msrvtt.__file__).parents[1] / "backbones" / CLIP
SIZE = 32
COUNTS = {split: msrvtt.SPLITS[split] for split in packed.SPLITS}


def head(seed: int | None, first: int | None = None) -> dict[str, Any]:
    """Return the part of the manifest that the arguments decide; None leaves one out."""
    about: dict[str, Any] = {"variant": VARIANT, "generator_version": msrvtt.GENERATOR_VERSION}
    given = {"seed": seed, "first": first}
    return about | {name: value for name, value in given.items() if value is not None}


def files_folder(folder: Path) -> Path:
    """Return the folder for videos, annotations and lists."""
    return folder.with_name(f"{folder.name}-files")


def prepare(
    folder: Path,
    seed: int = 0,
    *,
    first: int | None = None,
    jobs: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write the files and pack them; return the manifest.

    Args:
        folder: The folder of what is packed.
        seed: Of the data.
        first: Prepare only so many clips of each split; the same ones, bit for bit, as in the whole.
        jobs: Processes that draw, encode and decode.
        tick: Told of every clip that is written, and again when it is packed.
    """
    from data_prep.embedded.msrvtt import files  # imports FFmpeg

    root = files.write(files_folder(folder), seed, first=first, jobs=jobs, tick=tick)
    listing = lists.look(root, other_sizes=True).first(first)
    names = [clip for captions in listing.captions.values() for clip in captions]
    job = packed.Job(
        listing,
        lists.find_videos(root, names),
        ClipTokens(CLIP, VOCABULARY),
        SIZE,
        head(seed, first),
    )
    return packed.prepare(job, folder, jobs=jobs, tick=tick)
