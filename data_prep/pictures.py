"""From the bytes of an image file to the square of pixels that is packed."""

from __future__ import annotations

import io
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from data_prep.errors import DataError

Pixels = npt.NDArray[np.uint8]

INTERPOLATION = "bicubic"
LARGEST = 89_478_485
"""Pixels of an image. Pillow's own limit, above which it warns and names no file; here it is an error."""
Image.MAX_IMAGE_PIXELS = None


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 (C, H, W).
        kind: Format and mode of the file, such as ``PNG L``, and of a JPEG file its quality, such as
            ``JPEG RGB, quality 75``, where its table of quantisation is the common one of a quality.
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
    loaders of the public repositories do; ``Picture.kind`` names it. 16 bits of grey are scaled to 8, where
    Pillow would cut them off at 255.

    Args:
        content: An image file.
        size: Height and width of the result.
        channels: 3 for colour, 1 for grey.
        brightest: The value that stands for white, where it is not 255.

    Raises:
        DataError: The file is damaged or not an image, far too large, or has numbers of an unknown range.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = f"{image.format} {image.mode}{_quality(image)}"
            if (pixels := image.width * image.height) > LARGEST:
                raise DataError(
                    f"its header says {image.width:,} x {image.height:,} pixels, {pixels:,} in all; at most "
                    f"{LARGEST:,} are read"
                )
            converted = _eight_bits(image).convert("RGB" if channels == 3 else "L")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"not a complete image ({error})") from error
    if brightest != 255:
        converted = converted.point([min(255, value * 255 // brightest) for value in range(256)])
    square = np.asarray(converted.resize((size, size), Image.Resampling.BICUBIC))
    return Picture(square.transpose(2, 0, 1) if channels == 3 else square[None], kind)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits a channel."""
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
        return Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"a {image.format} of mode {image.mode}, whose values have no known range; save it with 8 bits"
        )
    return image


def _quality(image: Image.Image) -> str:
    table = getattr(image, "quantization", {}).get(0, ())
    quality = _qualities().get(tuple(table))
    return "" if quality is None else f", quality {quality}"


@cache
def _qualities() -> dict[tuple[int, ...], int]:
    """Return the first table of quantisation -> the quality from which libjpeg makes it."""
    found = {}
    for quality in range(100, 0, -1):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            found[tuple(image.quantization[0])] = quality  # type: ignore[attr-defined]
    return found
