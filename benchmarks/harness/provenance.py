"""Where a number comes from: code, environment and hardware. No host, no user, no absolute path."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""

FOLDERS = ("resora", "benchmarks", "data_prep")
"""Folders whose code decides numbers; each has its own hash in a record."""

PACKAGES = ("torch", "torchvision", "timm", "numpy", "safetensors")


@functools.cache
def code() -> dict[str, Any]:
    """Return commit, dirty flag and a hash of each folder's tracked content."""
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain", "--", *FOLDERS)
    return {
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "trees": {folder: tree_hash(folder) for folder in FOLDERS},
    }


@functools.cache
def tree_hash(folder: str) -> str:
    """Return a hash over the Python files of a folder, as they are on disk."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / folder).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def environment() -> dict[str, Any]:
    """Return the versions of Python and of the packages that compute."""
    return {"python": platform.python_version(), "platform": platform.system()} | {
        name: _version(name) for name in PACKAGES
    }


def hardware(device: str) -> dict[str, Any]:
    """Return the processor, and the accelerator if ``device`` is one."""
    import torch

    facts: dict[str, Any] = {
        "device": device,
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": None,
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None
    )
