"""VTAB-1K from exported files: the layout that the PETL repositories share since NOAH.

``ROOT/<data set>/{train800,val200,train800val200,test}.txt`` and images below ``images/``; a line is a
path and a label. The usual copies are JPEG files, which were encoded again when TFDS was exported.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from data_prep.contents import Contents, Example, Split
from data_prep.errors import DataError
from data_prep.list_files import Entry, fingerprint, read_list, refuse_duplicates, require_images
from data_prep.pictures import decode
from data_prep.vtab1k.source import SIZE, RealData
from data_prep.vtab1k.tasks import SPLITS, Task

JOINED = "train800val200"


class Folder(RealData):
    """A folder of exported files."""

    variant = "folder"

    def __init__(self, root: Path | None = None, size: int | None = None) -> None:
        """Take the folder that holds one folder a data set; packed data are checked without it."""
        super().__init__(size)
        self.root = root

    def open(self, task: Task) -> Contents:
        """Read and check all lists of a task before anything is packed.

        Raises:
            DataError: A list or an image is missing, a line is wrong, or there are too few or too many.
        """
        folder = find_folder(self.root, task)
        lists, notes = read_lists(folder, task)
        require_images(lists)
        about = self.about(
            task,
            class_names=list(task.class_names) if task.class_names else None,
            source={"kind": "list files", "folder": folder.name},
            notes=notes,
        )
        openers = {name: self._opener(entries) for name, entries in lists.items()}
        return Contents(about, openers, fingerprint=fingerprint(lists))

    def _opener(self, entries: list[Entry]) -> Callable[[], Split]:
        text = "".join(f"{entry.path.name} {entry.label}\n" for entry in entries)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return lambda: Split(
            len(entries), lambda i: self._example(entries[i]), {"list_sha256": digest}
        )

    def _example(self, entry: Entry) -> Example:
        try:
            picture = decode(entry.path.read_bytes(), size=self.size or SIZE, channels=3)
        except (DataError, OSError) as error:
            raise DataError(f"{entry.where}: {entry.path}: {error}") from error
        return Example(picture.pixels, entry.label, picture.kind)


def find_folder(root: Path | None, task: Task) -> Path:
    """Return a task's folder, whichever of the names in use it has.

    Raises:
        DataError: There is none, or more than one.
    """
    if root is None or not root.is_dir():
        raise DataError(
            f"{root}: no such folder; --root names the folder with one folder a data set"
        )
    wanted = {name.lower() for name in task.folders}
    found = sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in wanted)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{root}: more than one folder is {task.name}: {names}; keep one of them")
    if not found:
        names = ", ".join(task.folders)
        raise DataError(f"{root}: no folder of {task.name}; its name must be one of: {names}")
    return found[0]


def read_lists(folder: Path, task: Task) -> tuple[dict[str, list[Entry]], list[str]]:
    """Return the entries of each split, and remarks for the manifest.

    Where ``train800.txt`` and ``val200.txt`` are not there, the first 800 and the last 200 lines of
    ``train800val200.txt`` stand in for them: it is their concatenation.
    """
    lists, notes = {}, []
    first, second, test = SPLITS
    joined = folder / f"{JOINED}.txt"
    both = [folder / f"{first}.txt", folder / f"{second}.txt"]
    if not any(path.is_file() for path in both) and joined.is_file():
        entries = _read_list(joined, task, task.counts[first] + task.counts[second])
        lists = {first: entries[: task.counts[first]], second: entries[task.counts[first] :]}
        notes.append(f"{first} and {second} are the two parts of {joined.name}")
    else:
        for name in (first, second):
            lists[name] = _read_list(folder / f"{name}.txt", task, task.counts[name])
        if joined.is_file() and _labels(joined) != Counter(
            str(entry.label) for name in (first, second) for entry in lists[name]
        ):
            notes.append(
                f"{joined.name} has other labels than {first}.txt and {second}.txt together"
            )
    lists[test] = _read_list(folder / f"{test}.txt", task, task.counts[test])
    return lists, notes


def _read_list(path: Path, task: Task, count: int) -> list[Entry]:
    entries = read_list(path, task, lambda name: path.parent / name)
    refuse_duplicates(entries)
    if len(entries) != count:
        raise DataError(
            f"{path}: {len(entries):,} images, VTAB-1K's {task.name} has {count:,} there: "
            "an incomplete copy, or another data set"
        )
    return entries


def _labels(path: Path) -> Counter[str]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return Counter(line.strip().rpartition(" ")[2] for line in lines if line.strip())
