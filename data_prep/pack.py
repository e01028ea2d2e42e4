"""Packed data: one safetensors file a split, and a manifest that is written last.

A folder with a manifest holds a whole task. A task is packed beside its place, split after split, and
moved there when it is whole: a run that is killed goes on after its last whole split, and what was
there before stays until then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep import tensors_file
from data_prep.contents import Named, Source, Split
from data_prep.errors import DataError
from data_prep.whole_files import move_folder as _move_folder
from data_prep.whole_files import sha256 as _sha256
from data_prep.whole_files import write_json as _write_json

SCHEMA = "resora.data/1"
MANIFEST = "manifest.json"
PROGRESS = "progress.json"
DRAWS = "draws"

Tick = Callable[[str, int], None]
"""Told the split, and how many more examples of it are packed."""


@dataclass
class Findings:
    """What is missing from, and what is wrong with, a packed task."""

    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the packed task is whole and right."""
        return not self.missing and not self.wrong


def task_folder(data: Path, source: Source, task: Named) -> Path:
    """Return the folder of a packed task."""
    return data / source.variant / source.benchmark / task.name


def packed_bytes(source: Source, task: Named) -> int:
    """Return the size of a packed task on disk, headers aside."""
    return sum(
        count * (int(np.prod(source.shape(task, split))) + 8)
        for split, count in source.counts(task).items()
    )


def pack_task(
    data: Path, source: Source, task: Named, *, jobs: int = 1, tick: Tick = lambda split, n: None
) -> Path:
    """Open a task and pack it; return its folder.

    Args:
        data: The data folder.
        source: Where the task comes from.
        task: The task.
        jobs: Threads that decode.
        tick: Told of every example.

    Raises:
        DataError: The data are not as they should be; nothing is left of what was packed.
    """
    contents = source.open(task)
    folder = task_folder(data, source, task)
    staging = folder.with_name(f".{folder.name}.partial")
    head = source.identity(task) | dict(contents.about)
    asked = head | {"fingerprint": contents.fingerprint}
    splits = _packed_before(staging, asked)
    for split in source.counts(task).keys() & splits.keys():
        tick(split, splits[split]["n"])
    try:
        for name in source.counts(task):
            if name not in splits:
                opened = contents.splits[name]()
                splits[name] = _pack_split(staging, name, opened, source, task, jobs, tick)
                _write_json(staging / PROGRESS, {"head": asked, "splits": splits})
    except DataError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    ordered: dict[str, Any] = {"splits": {name: splits[name] for name in source.counts(task)}}
    if contents.draws:
        ordered[DRAWS] = _write_draws(staging, contents.draws)
    kinds: Counter[str] = Counter()
    for entry in splits.values():
        kinds.update(entry.get("files", {}))
    if kinds:
        head["jpeg"] = contents.jpeg(kinds)
    _write_json(staging / MANIFEST, head | ordered)
    (staging / PROGRESS).unlink(missing_ok=True)
    _move_folder(staging, folder)
    return folder


def _packed_before(staging: Path, head: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries of the splits that a killed run of the same task and data left whole."""
    try:
        progress = json.loads((staging / PROGRESS).read_text())
    except (OSError, ValueError):
        progress = {}
    # As JSON has it: tuples are lists there.
    if progress.get("head") != json.loads(json.dumps(head)):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        return {}
    for half in staging.glob(".*.tmp"):
        half.unlink()
    entries: dict[str, dict[str, Any]] = progress["splits"]
    return {
        name: entry
        for name, entry in entries.items()
        if _sha256(staging / f"{name}.safetensors") == entry["sha256"]
    }


def _pack_split(
    staging: Path, name: str, split: Split, source: Source, task: Named, jobs: int, tick: Tick
) -> dict[str, Any]:
    """Write one split whole or not at all; return its entry in the manifest."""
    shape = (split.count, *source.shape(task, name))
    temporary = staging / f".{name}.{os.getpid()}.tmp"
    kinds: Counter[str] = Counter()
    try:
        arrays = tensors_file.create(
            temporary, {"images": (np.uint8, shape), "labels": (np.int64, (split.count,))}
        )

        def fill(index: int) -> str | None:
            example = split.example(index)
            if not 0 <= example.label < task.num_classes:
                raise DataError(
                    f"{task.name}, {name}, example {index}: label {example.label} is outside "
                    f"0 to {task.num_classes - 1}"
                )
            arrays["images"][index], arrays["labels"][index] = example.pixels, example.label
            return example.kind

        for kind in _over_threads(fill, split.count, jobs):
            kinds.update([kind] if kind is not None else [])
            tick(name, 1)
        entry = {
            "n": split.count,
            "class_counts": np.bincount(arrays["labels"], minlength=task.num_classes).tolist(),
        }
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        arrays.clear()
        entry["sha256"] = _sha256(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(staging / f"{name}.safetensors")
    finally:
        temporary.unlink(missing_ok=True)
    return entry | dict(split.about) | ({"files": dict(sorted(kinds.items()))} if kinds else {})


def _write_draws(staging: Path, draws: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, Any]:
    """Write which images each draw has; return the entry in the manifest."""
    path = staging / f"{DRAWS}.safetensors"
    shapes = {name: (np.int64, index.shape) for name, index in draws.items()}
    for name, array in tensors_file.create(path, shapes).items():
        array[:] = draws[name]
        if isinstance(array, np.memmap):
            array.flush()
    lists = {
        name: {"n": len(index), "distinct": len(np.unique(index))} for name, index in draws.items()
    }
    return {"sha256": _sha256(path), "lists": lists}


def _over_threads(call: Callable[[int], str | None], count: int, jobs: int) -> Iterator[str | None]:
    """Call for each index over threads, and yield in order; the first failure stops the rest."""
    if jobs <= 1:
        yield from map(call, range(count))
        return
    pool = ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(call, range(count))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a packed task.

    Raises:
        FileNotFoundError: The task is not packed.
        ValueError: The manifest is damaged.
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    if not isinstance(manifest, dict) or not isinstance(manifest.get("splits"), dict):
        raise ValueError("not a manifest")
    return manifest


def check_task(data: Path, source: Source, task: Named) -> Findings:
    """Check a packed task: its manifest, the hash of every file, shapes, counts and labels."""
    folder, findings = task_folder(data, source, task), Findings()
    path = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        findings.missing.append(f"{path}: not prepared")
        return findings
    except (OSError, ValueError) as error:
        findings.wrong.append(f"{path}: not readable as a manifest ({error})")
        return findings
    for key, value in source.identity(task).items():
        if manifest.get(key) != value:
            findings.wrong.append(
                f"{path}: {key} is {_short(manifest.get(key))}, not {_short(value)}"
            )
    for split, count in source.counts(task).items():
        entry = manifest["splits"].get(split)
        channels, *_ = source.shape(task, split)
        size = manifest.get(f"{split}_size", manifest.get("image_size"))
        if isinstance(entry, dict):
            if split in source.varying:
                count = entry.get("n", count)
            file = folder / f"{split}.safetensors"
            _check_split(file, entry, (count, channels, size, size), task.num_classes, findings)
        else:
            findings.wrong.append(f"{path}: no split {split}")
    if source.has_draws:
        _check_draws(folder, manifest, findings)
    return findings


def _short(value: object) -> str:
    """Shorten a value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_split(
    path: Path, entry: dict[str, Any], shape: tuple[Any, ...], classes: int, findings: Findings
) -> None:
    """Check one file against its entry in the manifest; add what is found."""
    found = _sha256(path)
    if found is None:
        findings.missing.append(f"{path}: no such file")
        return
    if found != entry.get("sha256"):
        findings.wrong.append(f"{path}: sha256 differs from the manifest")
        return
    try:
        arrays = tensors_file.open_arrays(path)
        images, labels = arrays["images"], arrays["labels"]
    except (tensors_file.NotTensors, KeyError) as error:
        findings.wrong.append(f"{path}: not a packed split ({error})")
        return
    if images.shape != shape or images.dtype != np.uint8:
        findings.wrong.append(f"{path}: images are {images.dtype} {images.shape}")
    if labels.shape != shape[:1] or labels.dtype != np.int64:
        findings.wrong.append(f"{path}: labels are {labels.dtype} {labels.shape}")
    elif labels.min() < 0 or labels.max() >= classes:
        findings.wrong.append(f"{path}: labels outside 0 to {classes - 1}")
    elif np.bincount(labels, minlength=classes).tolist() != entry.get("class_counts"):
        findings.wrong.append(f"{path}: class_counts differ from the manifest")
    if entry.get("n") != shape[0]:
        findings.wrong.append(f"{path}: n in the manifest is not {shape[0]}")


def _check_draws(folder: Path, manifest: dict[str, Any], findings: Findings) -> None:
    """Check the file of the draws against its entry in the manifest; add what is found."""
    path, entry = folder / f"{DRAWS}.safetensors", manifest.get(DRAWS)
    found = _sha256(path)
    if found is None:
        findings.missing.append(f"{path}: no such file")
        return
    if not isinstance(entry, dict) or found != entry.get("sha256"):
        findings.wrong.append(f"{path}: sha256 differs from the manifest")
        return
    count = manifest["splits"]["train"]["n"]
    for name, index in tensors_file.open_arrays(path).items():
        if len(index) and not 0 <= index.min() <= index.max() < count:
            findings.wrong.append(f"{path}: {name} has an image outside 0 to {count - 1}")


def read_split(data: Path, source: Source, task: Named, split: str) -> tensors_file.Arrays:
    """Return ``images`` and ``labels`` of a packed split, mapped to memory."""
    return tensors_file.open_arrays(task_folder(data, source, task) / f"{split}.safetensors")
