"""Small packed tasks for the tests: two-colour images whose label can be learnt in a few steps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def pack_task(root: Path, task: str, num_classes: int, *, n: int = 96, seed: int = 0) -> Path:
    """Write a packed task of ``n`` training images (and as many in each other split)."""
    folder = root / "embedded" / "vtab1k" / task
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for index, split in enumerate(("train800", "val200", "test")):
        random = np.random.default_rng([seed, index])
        labels = random.integers(0, num_classes, n)
        images = random.integers(0, 60, (n, 3, 32, 32))
        images[np.arange(n), labels % 3] += 60 + 20 * (labels[:, None, None] // 3 % 7)
        path = folder / f"{split}.safetensors"
        save_file({"images": images.astype(np.uint8), "labels": labels.astype(np.int64)}, path)
        splits[split] = {"n": n, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest = {"schema": "resora.data/1", "variant": "embedded", "task": task, "splits": splits}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
