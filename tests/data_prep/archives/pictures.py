"""Pictures that carry a 16-bit number through encoding, shuffling and resizing."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

GRID = 4
# Sizes of pictures where the original ones vary; uneven ones too, so that blocks differ by a pixel.
SIZES = ((120, 160), (160, 120), (100, 100), (131, 97))


def bits(identity: int) -> np.ndarray:
    """The 4 x 4 bits of a number, least significant first, row by row."""
    return (identity >> np.arange(GRID * GRID) & 1).reshape(GRID, GRID).astype(np.uint8)


def plane(identity: int, height: int, width: int) -> np.ndarray:
    """The bits as black (0) and white (1) blocks: 0/1 values, (height, width)."""
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    return bits(identity)[rows[:, None], columns[None, :]]


def picture(identity: int, height: int, width: int) -> np.ndarray:
    """The bits as black and white blocks: uint8, (height, width, 3)."""
    return np.repeat(plane(identity, height, width)[..., None] * np.uint8(255), 3, axis=2)


def identities(images: np.ndarray) -> np.ndarray:
    """The numbers of pictures (N, C, H, W) of 16 x 16 pixels or more, from the block centres."""
    height, width = images.shape[2:]
    found = np.zeros(len(images), np.int64)
    for bit in range(GRID * GRID):
        rows, columns = _centre(bit // GRID, height), _centre(bit % GRID, width)
        white = images[:, :, rows, columns].mean(axis=(1, 2, 3)) > 127
        found |= white.astype(np.int64) << bit
    return found


def _centre(block: int, length: int) -> slice:
    """A few pixels around the middle of a block: one or two alone would be at the resizer's mercy."""
    middle = (2 * block + 1) * length // (2 * GRID)
    half = max(1, length // (8 * GRID))
    return slice(middle - half, middle + half)


def size(index: int) -> tuple[int, int]:
    """Height and width of the index-th picture of a data set whose sizes vary."""
    return SIZES[index % len(SIZES)]


def encoded(image: np.ndarray, kind: str = "JPEG", mode: str | None = None) -> bytes:
    """The bytes of an image file; `mode` is one of Pillow's, such as L or CMYK."""
    content = io.BytesIO()
    options = {"quality": 90} if kind == "JPEG" else {"compress_level": 1} if kind == "PNG" else {}
    drawn = Image.fromarray(image)
    (drawn.convert(mode) if mode else drawn).save(content, kind, **options)
    return content.getvalue()


def jpeg(identity: int, height: int, width: int, mode: str | None = None) -> bytes:
    """A picture as a JPEG file."""
    return encoded(picture(identity, height, width), "JPEG", mode)


def png(identity: int, height: int, width: int) -> bytes:
    """A picture as a PNG file."""
    return encoded(picture(identity, height, width), "PNG")
