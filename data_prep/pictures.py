"""From the bytes of an image file to the square of pixels that is packed."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from data_prep.errors import DataError

Pixels = npt.NDArray[np.uint8]

INTERPOLATION = "bicubic"


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 (C, H, W).
        kind: Format and mode of the file, such as ``JPEG RGB`` or ``PNG L``.
    """

    pixels: Pixels
    kind: str


def resizing(size: int) -> dict[str, object]:
    """Return what a manifest says of the resizing."""
    return {
        "size": [size, size],
        "interpolation": INTERPOLATION,
        "antialias": True,
        "keeps_aspect": False,
        "library": f"pillow {PIL.__version__}",
    }


def decode(content: bytes, *, size: int, channels: int, brightest: int = 255) -> Picture:
    """Decode, convert to colour or grey, stretch to ``size`` x ``size`` pixels.

    What is neither colour nor grey (CMYK, a palette, an alpha channel) is converted by Pillow, as the
    loaders of the public repositories do; ``Picture.kind`` names it.

    Args:
        content: An image file.
        size: Height and width of the result.
        channels: 3 for colour, 1 for grey.
        brightest: The value that stands for white, where it is not 255.

    Raises:
        DataError: The file is damaged or not an image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = f"{image.format} {image.mode}"
            converted = image.convert("RGB" if channels == 3 else "L")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"not a complete image ({error})") from error
    if brightest != 255:
        converted = converted.point([min(255, value * 255 // brightest) for value in range(256)])
    square = np.asarray(converted.resize((size, size), Image.Resampling.BICUBIC))
    return Picture(square.transpose(2, 0, 1) if channels == 3 else square[None], kind)
