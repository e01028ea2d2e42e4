"""The few-shot sets from the published lists and a folder of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from data_prep.contents import Contents, Example, Split
from data_prep.errors import DataError
from data_prep.fewshot.lists import find, read_set
from data_prep.fewshot.real import RealFewShot
from data_prep.fewshot.sets import FewShotSet
from data_prep.list_files import Entry, fingerprint, require_images


class FewShotFolder(RealFewShot):
    """A folder of images with the published lists."""

    variant = "folder"

    def open(self, task: FewShotSet) -> Contents:
        """Read and check all lists of a set before anything is packed.

        Raises:
            DataError: A list or an image is missing, or a line is wrong.
        """
        folder, places = find(self.root, task)
        splits, draws, notes = read_set(folder, places, task)
        require_images(splits)
        about = self.about(
            source={"kind": "split lists", "folder": folder.name},
            draw_source="lists with the published names and counts",
            notes=notes,
        )
        openers = {name: self._opener(name, entries) for name, entries in splits.items()}
        return Contents(about, openers, draws, fingerprint(splits))

    def _opener(self, split: str, entries: list[Entry]) -> Callable[[], Split]:
        text = "".join(f"{entry.path.name} {entry.label}\n" for entry in entries)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return lambda: Split(
            len(entries), lambda i: self._example(split, entries[i]), {"list_sha256": digest}
        )

    def _example(self, split: str, entry: Entry) -> Example:
        try:
            return self.example(split, entry.path.read_bytes(), entry.label)
        except (DataError, OSError) as error:
            raise DataError(f"{entry.where}: {entry.path}: {error}") from error
