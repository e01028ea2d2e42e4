"""The sources of each data set, by the name of their variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.contents import Source
from data_prep.embedded.fewshot.source import EmbeddedFewShot
from data_prep.embedded.source import Embedded

SOURCES = ("embedded", "tfds", "folder", "folder-drawn", "tfds-drawn")
"""All there are."""

OF = {
    "vtab1k": ("embedded", "tfds", "folder"),
    "fewshot": ("embedded", "folder", "folder-drawn", "tfds-drawn"),
}
"""Data set -> its sources."""


def make_source(
    name: str,
    data_set: str = "vtab1k",
    *,
    root: Path | None = None,
    size: int | None = None,
    seed: int | None = None,
) -> Source:
    """Return a source of data.

    Args:
        name: One of the data set's sources.
        data_set: A key of ``OF``.
        root: Where its own files are: TFDS' data folder, or the folder of exported files.
        size: Height and width to pack real images at; None takes what is packed, whatever it is.
        seed: The seed of the embedded world; None takes what is packed, whatever it is.
    """
    if name == "embedded":
        return EmbeddedFewShot(seed) if data_set == "fewshot" else Embedded(seed)
    source: Any
    if name == "folder-drawn":
        from data_prep.fewshot.drawn import FewShotArchives as source
    elif name == "tfds-drawn":
        from data_prep.fewshot.drawn import FewShotTfds as source
    elif data_set == "fewshot":
        from data_prep.fewshot.folder_source import FewShotFolder as source
    elif name == "tfds":  # real data need Pillow, which generated data do without
        from data_prep.vtab1k.tfds_source import Tfds as source
    else:
        from data_prep.vtab1k.folder_source import Folder as source
    made: Source = source(root, size)
    return made
