"""Safetensors files that are created at their full size and filled piece by piece.

The library writes a file from tensors that are all in memory; a packed test split may not fit there.
What is written here has the bytes that the library would have written, and the library reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("uint8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
ALIGNMENT = 8


class NotTensors(Exception):
    """A file is not a whole safetensors file of integers."""


def create(path: Path, specs: Mapping[str, tuple[type[np.generic], tuple[int, ...]]]) -> Arrays:
    """Create a file of zeros and return its arrays, mapped to memory: filling them fills the file.

    Args:
        path: the file; one that is there is replaced.
        specs: name -> type of number (uint8 or int64) and shape.
    """
    # The library's order: larger numbers first, then by name.
    order = sorted(specs, key=lambda name: (-np.dtype(specs[name][0]).itemsize, name))
    header, offset = {}, 0
    for name in order:
        dtype, shape = np.dtype(specs[name][0]), specs[name][1]
        end = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        header[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
        # A full disk is an error here; in the middle of filling mapped memory it would end the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, 8 + len(text) + offset)
    return open_arrays(path, mode="r+")


def open_arrays(path: Path, mode: str = "r") -> Arrays:
    """Return the arrays of a file, mapped to memory.

    Raises:
        NotTensors: The file is not whole, or not such a file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            start, end = entry["data_offsets"]
            if end - start != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
                raise ValueError(f"{name} has another size than its shape")
            if 8 + length + end > size:
                raise ValueError("it is shorter than its header says")
            arrays[name] = _mapped(path, dtype, mode, 8 + length + start, shape)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotTensors(str(error)) from error
    return arrays


def _mapped(
    path: Path, dtype: np.dtype[Any], mode: str, offset: int, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Map one array; an empty one has nothing to map."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode=mode, offset=offset, shape=shape)  # type: ignore[call-overload,no-any-return]
