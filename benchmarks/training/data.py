"""Packed images, as ``data_prep`` wrote them, kept as uint8 on the device that trains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.harness.errors import UsageError
from benchmarks.harness.provenance import file_sha256

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation that are taken off the pixels, in [0, 1], by name."""


@dataclass(frozen=True)
class Images:
    """One split on the device.

    Attributes:
        pixels: uint8 (N, 3, H, W).
        labels: int64 (N,).
        mean: (1, 3, 1, 1), in units of 0-255.
        std: (1, 3, 1, 1), in units of 0-255.
    """

    pixels: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice) -> Tensor:
        """Return the chosen images, normalised, float32 (n, 3, H, W)."""
        return (self.pixels[index].float() - self.mean) / self.std


def task_folder(root: Path, variant: str, benchmark: str, task: str) -> Path:
    """Return the folder of a packed task."""
    return root / variant / benchmark / task


def require_task(root: Path, variant: str, benchmark: str, task: str) -> Path:
    """Return the folder of a packed task.

    Raises:
        UsageError: The task is not prepared; the message gives the command that prepares it.
    """
    folder = task_folder(root, variant, benchmark, task)
    if not (folder / "manifest.json").exists():
        raise UsageError(
            f"the {variant} data of {benchmark}/{task} are not prepared in {root}: "
            f"python -m data_prep prepare {benchmark}/{task} --source {variant} --data {root}"
        )
    return folder


def load_images(
    folder: Path, split: str, *, normalisation: str, device: str, limit: int | None = None
) -> Images:
    """Load one split of a packed task onto a device.

    Args:
        folder: The packed task.
        split: ``train800``, ``val200``, ``test``; two joined by ``+`` are concatenated.
        normalisation: A key of ``NORMALISATIONS``.
        device: Where the images stay.
        limit: Keep only the first images.

    Raises:
        UsageError: A file differs from the manifest.
    """
    parts = [_load_split(folder, part) for part in split.split("+")]
    mean, std = (
        255 * torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in NORMALISATIONS[normalisation]
    )
    return Images(
        torch.cat([part["images"] for part in parts])[:limit].to(device),
        torch.cat([part["labels"] for part in parts])[:limit].to(device),
        mean,
        std,
    )


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return what identifies a packed task in a record."""
    manifest = _manifest(folder)
    return {
        "variant": manifest["variant"],
        "manifest_sha256": file_sha256(folder / "manifest.json"),
        "splits": {name: split["sha256"] for name, split in manifest["splits"].items()},
    }


def _load_split(folder: Path, split: str) -> dict[str, Tensor]:
    path = folder / f"{split}.safetensors"
    expected = _manifest(folder)["splits"].get(split, {}).get("sha256")
    if expected is None or not path.exists() or file_sha256(path) != expected:
        raise UsageError(
            f"{path} is missing or differs from its manifest: python -m data_prep verify names what is wrong"
        )
    return load_file(path)


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest
