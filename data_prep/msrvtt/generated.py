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
CLIPS = msrvtt.SPLITS["train"] + msrvtt.SPLITS["test"]


def head(seed: int | None) -> dict[str, Any]:
    """Return the part of the manifest that the seed decides; None leaves the seed out."""
    about: dict[str, Any] = {"variant": VARIANT, "generator_version": msrvtt.GENERATOR_VERSION}
    return about if seed is None else about | {"seed": seed}


def files_folder(folder: Path) -> Path:
    """Return where videos, annotations and lists are written, beside what is packed of them."""
    return folder.with_name(f"{folder.name}-files")


def prepare(
    folder: Path, seed: int = 0, *, jobs: int = 1, tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Write the files and pack them; return the manifest.

    Args:
        folder: The folder of what is packed.
        seed: Of the data.
        jobs: Processes that draw, encode and decode.
        tick: Told of every clip that is written, and again when it is packed.
    """
    from data_prep.embedded.msrvtt import files  # imports FFmpeg

    root = files.write(files_folder(folder), seed, jobs=jobs, tick=tick)
    listing = lists.look(root, other_sizes=True)
    names = [clip for captions in listing.captions.values() for clip in captions]
    job = packed.Job(
        listing,
        lists.find_videos(root, names),
        ClipTokens(CLIP, VOCABULARY),
        SIZE,
        head(seed),
    )
    return packed.prepare(job, folder, jobs=jobs, tick=tick)
