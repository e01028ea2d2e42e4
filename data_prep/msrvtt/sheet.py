"""Contact sheets of captioned clips: each clip's frames in a row, its captions beneath."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_prep import tensors_file
from data_prep.msrvtt import decoding, packed, sampling

TILE, GAP, LINE = 84, 6, 17
CAPTIONS = 3


def draw(data: Path, variant: str, out: Path, *, split: str = "test", count: int = 10) -> None:
    """Draw evenly spaced clips of a split that is prepared and write the sheet as PNG.

    Args:
        data: The data folder.
        variant: embedded or folder.
        out: The file.
        split: train or test.
        count: Clips.
    """
    folder = packed.folder_of(data, variant)
    arrays = tensors_file.open_arrays(folder / decoding.frames_file(split))
    clips = tensors_file.open_arrays(folder / packed.captions_file(split))["clips"]
    captions = (folder / packed.text_file(split)).read_text(encoding="utf-8").split("\n")
    names = (folder / decoding.clips_file(split)).read_text(encoding="utf-8").split("\n")
    there = np.unique(clips)
    chosen = there[np.linspace(0, len(there) - 1, min(count, len(there)), dtype=np.int64)]
    font = ImageFont.load_default(12)
    said = [np.flatnonzero(clips == row)[:CAPTIONS].tolist() for row in chosen]
    heights = [TILE + LINE * (1 + len(lines)) + 2 * GAP for lines in said]
    width = sampling.MAX_FRAMES * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, sum(heights) + GAP), "white")
    pen, top = ImageDraw.Draw(sheet), GAP
    for row, lines, height in zip(chosen.tolist(), said, heights, strict=True):
        frames = int(arrays["counts"][row])
        text = f"{names[row]}: {frames} frame{'s' * (frames != 1)}"
        pen.text((GAP, top), text, fill="grey", font=font)
        for column in range(frames):
            tile = _tile(np.asarray(arrays["frames"][row, column]))
            sheet.paste(tile, (GAP + column * (TILE + GAP), top + LINE))
        for number, line in enumerate(lines):
            at = (GAP, top + LINE + TILE + 3 + number * LINE)
            pen.text(at, captions[line], fill="black", font=font)
        top += height
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def _tile(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    """Turn (3, S, S) into a square that shows small frames pixel by pixel."""
    how = Image.Resampling.NEAREST if pixels.shape[-1] < TILE else Image.Resampling.BICUBIC
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).resize(
        (TILE, TILE), how
    )
