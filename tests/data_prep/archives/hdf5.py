"""HDF5 files: dSprites and PatchCamelyon."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from . import draw
from .pictures import picture, plane
from .store import Store, gzipped

Truth = dict[str, dict[int, Any]]

PCAM_SPLITS = {"train": "train", "validation": "valid", "test": "test"}


def dsprites(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """One .hdf5 file: imgs (N, 64, 64) of 0 and 1, latents/classes and latents/values (N, 6).

    The columns are colour, shape, scale, orientation, x and y. All 32 x-positions and all 40
    orientations occur where there are as many examples.
    """
    numbers = ids["train"]
    n = len(numbers)
    columns = (1, 3, 6, 40, 32, 32)
    classes = np.stack([draw.labels(n, width, rng) for width in columns], axis=1)
    ranges = ((1, 1), (1, 3), (0.5, 1), (0, 2 * np.pi), (0, 1), (0, 1))
    values = np.stack(
        [
            np.linspace(first, last, width)[classes[:, column]]
            for column, ((first, last), width) in enumerate(zip(ranges, columns, strict=True))
        ],
        axis=1,
    )
    arrays = {
        "imgs": np.stack([plane(i, 64, 64) for i in numbers]),
        "latents/classes": classes,
        "latents/values": values,
    }
    store.put("dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5", _hdf5(arrays))
    return {
        "train": {
            i: {"label_x_position": int(row[4]), "label_orientation": int(row[3])}
            for i, row in zip(numbers, classes, strict=True)
        }
    }


def patch_camelyon(store: Store, ids: dict[str, list[int]], rng: np.random.Generator) -> Truth:
    """Two compressed .h5 files a split: x (N, 96, 96, 3) and y (N, 1, 1, 1)."""
    truth: Truth = {}
    for split, numbers in ids.items():
        truth[split] = dict(zip(numbers, draw.labels(len(numbers), 2, rng), strict=True))
        arrays = {
            "x": np.stack([picture(i, 96, 96) for i in numbers]),
            "y": np.array([*truth[split].values()], np.uint8)[:, None, None, None],
        }
        for name, array in arrays.items():
            filename = f"camelyonpatch_level_2_split_{PCAM_SPLITS[split]}_{name}.h5.gz"
            store.put(filename, gzipped(_hdf5({name: array})))
    return truth


def _hdf5(arrays: dict[str, np.ndarray]) -> bytes:
    """An HDF5 file."""
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return content.getvalue()
