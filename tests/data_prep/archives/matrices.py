"""Arrays in the binary formats of CIFAR-100, SVHN and smallNORB."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from . import draw
from .pictures import picture
from .store import Store, gzipped, lines, tar_gz

Truth = dict[str, dict[int, Any]]

UINT8, INT32 = 507333717, 507333716
NORB_FILES = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training-{}.mat.gz",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing-{}.mat.gz",
}
# The toys of a category that are in either part.
NORB_INSTANCES = {"train": (4, 6, 7, 8, 9), "test": (0, 1, 2, 3, 5)}


def cifar100(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """A tar.gz of .bin files: for each image two label bytes and 3072 bytes, channel by channel.

    The class names in it are invented: fine_00 to fine_99.
    """
    truth: Truth = {}
    files = {
        "coarse_label_names.txt": lines(f"coarse_{i:02d}" for i in range(20)),
        "fine_label_names.txt": lines(f"fine_{i:02d}" for i in range(100)),
    }
    for split, numbers in ids.items():
        truth[split] = dict(zip(numbers, draw.labels(len(numbers), 100, rng), strict=True))
        files[f"{split}.bin"] = b"".join(
            bytes([label // 5, label]) + picture(i, 32, 32).transpose(2, 0, 1).tobytes()
            for i, label in truth[split].items()
        )
    store.put(
        "cifar-100-binary.tar.gz",
        tar_gz((f"cifar-100-binary/{name}", content) for name, content in files.items()),
    )
    return truth


def svhn(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """MATLAB files with X (32, 32, 3, N) and y (N, 1), where the digit zero is a 10."""
    from scipy.io import savemat

    truth: Truth = {}
    for split, numbers in ids.items():
        digits = draw.labels(len(numbers), 10, rng)
        truth[split] = dict(zip(numbers, digits, strict=True))
        images = np.stack([picture(i, 32, 32) for i in numbers], axis=-1)
        y = np.array([digit or 10 for digit in digits], np.uint8)[:, None]
        content = io.BytesIO()
        savemat(content, {"X": images, "y": y}, do_compression=True)
        store.put(f"{split}_32x32.mat", content.getvalue())
    return truth


def smallnorb(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """Three binary matrices a split, compressed: image pairs, categories, and annotations.

    The second image of a pair is the negative of the first: its number is in no split. The
    annotations are toy, elevation, azimuth (0, 2, ..., 34: the truth has its half) and lighting.
    """
    truth: Truth = {}
    for split, numbers in ids.items():
        n = len(numbers)
        elevation, azimuth = draw.labels(n, 9, rng), draw.labels(n, 18, rng)
        toys = rng.choice(NORB_INSTANCES[split], n)
        pairs = [np.stack([p, 255 - p]) for p in (picture(i, 96, 96)[..., 0] for i in numbers)]
        info = np.stack(
            [toys, np.array(elevation), 2 * np.array(azimuth), rng.integers(6, size=n)], axis=1
        )
        arrays = {"dat": np.stack(pairs), "cat": rng.integers(5, size=n), "info": info}
        for kind, array in arrays.items():
            store.put(NORB_FILES[split].format(kind), gzipped(_binary_matrix(array)))
        truth[split] = {
            i: {"label_azimuth": a, "label_elevation": e}
            for i, a, e in zip(numbers, azimuth, elevation, strict=True)
        }
    return truth


def _binary_matrix(array: np.ndarray) -> bytes:
    """smallNORB's format: magic number, number of axes, at least three lengths, the values."""
    magic, kind = (UINT8, "u1") if array.dtype == np.uint8 else (INT32, "<i4")
    lengths = [*array.shape, 1, 1][: max(3, array.ndim)]
    header = np.array([magic, array.ndim, *lengths], "<i4")
    return header.tobytes() + array.astype(kind).tobytes()
