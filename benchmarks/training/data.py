"""Packed images, as ``data_prep`` wrote them.

What is trained on stays on the device, as uint8; what is only tested on is read in large batches from
the packed file, which may be larger than any memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.provenance import file_sha256

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation that are taken off the pixels, in [0, 1], by name."""


EVALUATION_BATCH = 250

PREFETCHED = 2
"""Batches of a stream that are read ahead of the one that is computed on."""


@dataclass(frozen=True)
class Normalisation:
    """What is done to pixels before the model sees them.

    Attributes:
        mean: (1, 3, 1, 1), in units of 0-255.
        std: (1, 3, 1, 1), in units of 0-255.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def named(cls, name: str, device: str) -> Normalisation:
        """Return the normalisation called ``name``, a key of ``NORMALISATIONS``."""
        if name not in NORMALISATIONS:
            known = ", ".join(NORMALISATIONS)
            raise unknown(
                "normalisation", name, NORMALISATIONS, f"data.normalisation is {known}; show CELL"
            )
        values = (
            255 * torch.tensor(v, device=device).view(1, 3, 1, 1) for v in NORMALISATIONS[name]
        )
        return cls(*values)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 (n, 3, H, W) of uint8 (n, 3, H, W), or of grey (n, 1, H, W)."""
        return (pixels.float() - self.mean) / self.std


@dataclass(frozen=True)
class Images:
    """One split on the device.

    Attributes:
        pixels: uint8 (N, C, H, W); C is 1 for grey images.
        labels: int64 (N,).
        normalise: Takes pixels to the model's input.
    """

    pixels: Tensor
    labels: Tensor
    normalise: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice) -> Tensor:
        """Return the chosen images, normalised, float32 (n, 3, H, W)."""
        return self.normalise(self.pixels[index])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate inputs and labels in order, the last batch perhaps smaller."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self.inputs(part), self.labels[part]


@dataclass(frozen=True)
class Stream:
    """One split in its packed file, read batch by batch, the next ones while one is computed on.

    Attributes:
        path: The packed file.
        count: How many of its first images are read.
        normalise: Takes pixels to the model's input; its tensors are on the device.
        device: Where batches go; to a GPU from pinned memory, so that copying does not wait.
    """

    path: Path
    count: int
    normalise: Normalisation
    device: str

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate inputs and labels in order, the last batch perhaps smaller."""
        is_gpu = self.device.startswith("cuda")
        with safe_open(self.path, framework="pt") as file, ThreadPoolExecutor(1) as reader:
            images, labels = file.get_slice("images"), file.get_tensor("labels")[: self.count]
            labels = labels.to(self.device)

            def read(start: int) -> Tensor:
                pixels: Tensor = images[start : min(start + size, self.count)]
                return pixels.pin_memory() if is_gpu else pixels

            starts = range(0, self.count, size)
            ahead = [reader.submit(read, start) for start in starts[:PREFETCHED]]
            for index, start in enumerate(starts):
                pixels = ahead.pop(0).result().to(self.device, non_blocking=True)
                if index + PREFETCHED < len(starts):
                    ahead.append(reader.submit(read, starts[index + PREFETCHED]))
                yield self.normalise(pixels), labels[start : start + size]


def task_folder(root: Path, variant: str, benchmark: str, task: str) -> Path:
    """Return the folder of a packed task."""
    return root / variant / benchmark / task


def require_task(root: Path, data: dict[str, Any], benchmark: str, task: str) -> Path:
    """Return the folder of a packed task.

    Args:
        root: Root of the packed data.
        data: The section ``data`` of a configuration: ``variant``, and what the images have to be.
        benchmark: Name of the benchmark.
        task: Name of the task.

    Raises:
        UsageError: The task is not prepared, or not as the configuration says; the message gives the
            command that prepares it.
    """
    variant = data["variant"]
    folder = task_folder(root, variant, benchmark, task)
    command = f"python -m data_prep prepare {benchmark}/{task} --source {variant}"
    if variant.startswith("folder"):
        command += " --root ROOT"
    if not (folder / "manifest.json").exists():
        packed = root.glob(f"*/{benchmark}/{task}/manifest.json")
        real = sorted({path.parents[2].name for path in packed} - {"embedded"})
        hint = f" ({real[0]} is: --set data.variant={real[0]})" if real else ""
        raise UsageError(
            f"the {variant} data of {benchmark}/{task} are not prepared in {root}{hint}: "
            f"{command} --data {root}"
        )
    manifest = manifest_of(folder)
    found = {
        "image_size": manifest.get("image_size"),
        "train_size": manifest.get("train_size"),
        "interpolation": manifest.get("resize", {}).get("interpolation"),
    }
    for name, value in found.items():
        if data.get(name, value) != value:
            raise UsageError(
                f"the {variant} data of {benchmark}/{task} in {root} have {name} {value}, the "
                f"configuration has {data[name]}: {command} --size {data.get('image_size')} --data {root}"
            )
    return folder


def load_images(
    folder: Path, split: str, *, normalise: Normalisation, device: str, limit: int | None = None
) -> Images:
    """Load one split of a packed task onto a device.

    Args:
        folder: The packed task.
        split: ``train800``, ``val200``, ``test``; two joined by ``+`` are concatenated.
        normalise: Takes pixels to the model's input.
        device: Where the images stay.
        limit: Keep only the first images.

    Raises:
        UsageError: A file differs from the manifest.
    """
    parts = [load_file(checked_file(folder, part)) for part in split.split("+")]
    return Images(
        torch.cat([part["images"] for part in parts])[:limit].to(device),
        torch.cat([part["labels"] for part in parts])[:limit].to(device),
        normalise,
    )


def open_stream(
    folder: Path, split: str, *, normalise: Normalisation, device: str, limit: int | None = None
) -> Stream:
    """Open one split of a packed task to be read in order; the arguments are those of ``load_images``."""
    path = checked_file(folder, split)
    with safe_open(
        path, framework="pt"
    ) as file:  # whose hash is right; a manifest has none of its own
        count = file.get_slice("labels").get_shape()[0]
    return Stream(path, min(count, limit or count), normalise, device)


VERIFY = "python -m data_prep verify names the fault"
ABOUT = ("source", "resize", "jpeg", "notes", "generator_version")
"""What the manifest says besides hashes: of generated images the last, of real ones the others."""


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what identifies a packed task in a record, and where it came from."""
    manifest = manifest_of(folder)
    return {
        "variant": manifest["variant"],
        "manifest_sha256": file_sha256(folder / "manifest.json"),
        "splits": {name: split["sha256"] for name, split in manifest["splits"].items()},
    } | {key: manifest[key] for key in ABOUT if key in manifest}


def checked_file(folder: Path, split: str) -> Path:
    """Return the file of a split, or of what else the manifest has an entry for, if it is the one meant.

    Raises:
        UsageError: It is not there, or differs from the manifest.
    """
    path = folder / f"{split}.safetensors"
    manifest = manifest_of(folder)
    entry = manifest["splits"].get(split) or manifest.get(split) or {}
    expected = entry.get("sha256")
    if expected is None or not path.exists() or hash_of(path) != expected:
        raise UsageError(f"{path} is missing or differs from its manifest: {VERIFY}")
    return path


def hash_of(path: Path) -> str:
    """Return the sha256 of a file; one that has not changed is hashed once a process."""
    status = path.stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


@cache
def _sha256(path: Path, changed_ns: int, size: int) -> str:
    """Hash a file once a process: a test split may have gigabytes, and many cells read the same."""
    return file_sha256(path)


class Said(dict[str, Any]):
    """What a manifest says: a damaged one may lack anything."""

    def __missing__(self, key: str) -> Any:
        raise UsageError(f"a manifest of packed data says nothing of {key!r}: {VERIFY}")


def manifest_of(folder: Path) -> Said:
    """Return the manifest of packed data.

    Raises:
        UsageError: It cannot be read; also later, where something is asked for that it does not say.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"), object_hook=Said)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({error}): {VERIFY}") from error
    if not isinstance(manifest, Said):
        raise UsageError(f"{path} is not a manifest: {VERIFY}")
    return manifest
