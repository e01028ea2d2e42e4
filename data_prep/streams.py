"""Random streams by what they are for, and the labels that are drawn from them."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Labels: TypeAlias = npt.NDArray[np.int64]


def stream(*key: object) -> np.random.Generator:
    """Return the random stream of a key; the same on every machine and in every process."""
    digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
