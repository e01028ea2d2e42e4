"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path


def sha256(path: Path) -> str | None:
    """Return the sha256 of a file; None if it is not there."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def write_json(path: Path, value: object) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w") as file:
            file.write(json.dumps(value, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def move_folder(staging: Path, folder: Path) -> None:
    """Put a whole folder into its place; the former one goes only when the new one is whole."""
    former = folder.with_name(f".{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        folder.replace(former)
    staging.replace(folder)
    shutil.rmtree(former, ignore_errors=True)
