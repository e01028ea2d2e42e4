"""Which frames of a clip are used: what is on the screen at each second, at most twelve, evenly spread.

CLIP4Clip (ArrowLuo/CLIP4Clip, ``rawvideo_util.py`` and ``dataloader_msrvtt_retrieval.py``, with
``feature_framerate`` 1, ``max_frames`` 12 and ``slice_framepos`` 2) takes the frames 0, r, 2r, ... of a clip
with r frames a second, r cut to an integer, until there are no more; of more than twelve it keeps
``linspace(0, L - 1, 12)``, cut to integers. Frames are numbered by their time here, which is the same
where they come
at a constant rate; where they do not, a frame counts for as long as it is on the screen,
to half a frame's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

import numpy as np

PER_SECOND = 1
MAX_FRAMES = 12

Frame = TypeVar("Frame")


def step_of(rate: Fraction) -> int:
    """Return how many frames lie between two that are taken; at least one."""
    return max(int(rate) // PER_SECOND, 1)


def numbered(
    frames: Iterable[tuple[Frame, Fraction | None]], rate: Fraction
) -> Iterator[tuple[Frame, int]]:
    """Number frames by their time, as if they had come at a constant rate.

    Args:
        frames: Frames with their time in seconds, in the order in which they are shown; None where a file has
            no time for a frame, which is then the next one.
        rate: Frames a second.

    Yields:
        Frames with their number; the first is 0, and a time that lies before the one of the frame before
        is taken to be the same.
    """
    first: Fraction | None = None
    before = -1
    for frame, time in frames:
        if time is None:
            number = before + 1
        else:
            first = time - Fraction(before + 1) / rate if first is None else first
            number = int((time - first) * rate + Fraction(1, 2))
        before = max(number, before, 0)
        yield frame, before


def each_second(frames: Iterable[tuple[Frame, int]], step: int) -> Iterator[Frame]:
    """Yield the frame that is on the screen at the numbers 0, step, 2 step, ... up to the last frame's.

    Args:
        frames: Frames with numbers that do not fall; the first is 0.
        step: Numbers between two that are taken.
    """
    wanted = 0
    shown: list[Frame] = []
    last = -1
    for frame, number in frames:
        while shown and wanted < number:
            yield shown[0]
            wanted += step
        shown, last = [frame], number
    if shown and wanted <= last:
        yield shown[0]


def spread(count: int, most: int = MAX_FRAMES) -> list[int]:
    """Return which of ``count`` frames are kept: all, or ``most`` from the first to the last."""
    if count <= most:
        return list(range(count))
    chosen: list[int] = np.linspace(0, count - 1, most, dtype=np.int64).tolist()
    return chosen
