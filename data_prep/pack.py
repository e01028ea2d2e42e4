"""Packed data: one safetensors file a split, and a manifest that is written last.

A folder with a manifest holds a whole task. Every file is written beside its place and moved there,
so a run that is killed leaves either the old file or the new one, and no manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from data_prep.embedded.draw import SIZE, Images
from data_prep.embedded.vtab1k import GENERATOR_VERSION, SPLITS, Task, generate

SCHEMA = "resora.data/1"
BENCHMARK = "vtab1k"
VARIANT = "embedded"
MANIFEST = "manifest.json"


@dataclass
class Findings:
    """What is missing from, and what is wrong with, a packed task."""

    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the packed task is whole and right."""
        return not self.missing and not self.wrong


def task_folder(data: Path, task: Task) -> Path:
    """Return the folder of a packed task."""
    return data / VARIANT / BENCHMARK / task.name


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def pack_task(data: Path, task: Task, seed: int) -> Path:
    """Generate a task and pack it; return its folder."""
    folder = task_folder(data, task)
    (folder / MANIFEST).unlink(missing_ok=True)  # from here until the end the task is not whole
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        images, labels = generate(task, split, seed)
        content = save({"images": images, "labels": labels})
        replace_file(folder / f"{split}.safetensors", content)
        splits[split] = {
            "n": len(labels),
            "class_counts": np.bincount(labels, minlength=task.num_classes).tolist(),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    manifest = {**_identity(task), "seed": seed, "splits": splits}
    replace_file(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return folder


def _identity(task: Task) -> dict[str, Any]:
    """Return the part of a manifest that the task alone decides."""
    return {
        "schema": SCHEMA,
        "benchmark": BENCHMARK,
        "task": task.name,
        "variant": VARIANT,
        "generator_version": GENERATOR_VERSION,
        "num_classes": task.num_classes,
        "class_names": list(task.class_names),
        "image_size": SIZE,
    }


def check_task(data: Path, task: Task, seed: int | None = None) -> Findings:
    """Check a packed task: its manifest, the hash of every file, shapes, counts and labels.

    Args:
        data: the data folder.
        task: the task.
        seed: the seed that it must have been generated from; any if not given.
    """
    folder, findings = task_folder(data, task), Findings()
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        findings.missing.append(f"{path}: not prepared")
        return findings
    except (OSError, ValueError) as error:
        findings.wrong.append(f"{path}: not readable as JSON ({error})")
        return findings
    splits = manifest.get("splits") if isinstance(manifest, dict) else None
    if not isinstance(splits, dict):
        findings.wrong.append(f"{path}: not a manifest")
        return findings
    expected = _identity(task) | ({} if seed is None else {"seed": seed})
    for key, value in expected.items():
        if manifest.get(key) != value:
            findings.wrong.append(f"{path}: {key} is not {_short(value)}")
    for split, size in SPLITS.items():
        entry = splits.get(split)
        if isinstance(entry, dict):
            _check_split(folder / f"{split}.safetensors", entry, size, task.num_classes, findings)
        else:
            findings.wrong.append(f"{path}: no split {split}")
    return findings


def _short(value: object) -> str:
    """Shorten a value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_split(
    path: Path, entry: dict[str, Any], size: int, classes: int, findings: Findings
) -> None:
    """Check one file against its entry in the manifest; add what is found."""
    try:
        content = path.read_bytes()
    except OSError:
        findings.missing.append(f"{path}: no such file")
        return
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        findings.wrong.append(f"{path}: sha256 differs from the manifest")
        return
    try:
        images, labels = _unpack(content)
    except (SafetensorError, KeyError) as error:
        findings.wrong.append(f"{path}: not a packed split ({error})")
        return
    if images.shape != (size, 3, SIZE, SIZE) or images.dtype != np.uint8:
        findings.wrong.append(f"{path}: images are {images.dtype} {images.shape}")
    if labels.shape != (size,) or labels.dtype != np.int64:
        findings.wrong.append(f"{path}: labels are {labels.dtype} {labels.shape}")
    elif labels.min() < 0 or labels.max() >= classes:
        findings.wrong.append(f"{path}: labels outside 0 to {classes - 1}")
    elif np.bincount(labels, minlength=classes).tolist() != entry.get("class_counts"):
        findings.wrong.append(f"{path}: class_counts differ from the manifest")
    if entry.get("n") != size:
        findings.wrong.append(f"{path}: n in the manifest is not {size}")


def _unpack(content: bytes) -> tuple[Images, npt.NDArray[np.int64]]:
    """Return the images and labels of a packed split."""
    tensors = load(content)
    return tensors["images"], tensors["labels"]


def read_split(data: Path, task: Task, split: str) -> tuple[Images, npt.NDArray[np.int64]]:
    """Read a packed split."""
    return _unpack((task_folder(data, task) / f"{split}.safetensors").read_bytes())
