"""From a video file to the few frames of it that are packed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from data_prep.errors import DataError
from data_prep.msrvtt import sampling

Pixels = npt.NDArray[np.uint8]

LIBRARIES = "libraries"
_LOST_SECONDS = sampling.PER_SECOND
"""A clip that ends this long before its announced end lacks a frame that would have been taken."""


@dataclass(frozen=True)
class Clip:
    """A clip that could be read.

    Attributes:
        pixels: uint8 (K, 3, S, S), 1 to ``sampling.MAX_FRAMES`` frames in the order of time.
        notes: What was not as it should be, although frames could be read.
    """

    pixels: Pixels
    notes: tuple[str, ...]


def about(size: int) -> dict[str, Any]:
    """Return what a manifest says of sampling, decoding and resizing."""
    return {
        "sampling": {
            "frames_a_second": sampling.PER_SECOND,
            "max_frames": sampling.MAX_FRAMES,
            "of_more": "linspace with the first and the last, cut to integers",
        },
        "resizing": {
            "short_side": size,
            "interpolation": "bicubic",
            "crop": [size, size],
        },
        LIBRARIES: {
            "av": av.__version__,
            "ffmpeg": av.ffmpeg_version_info,
            "pillow": PIL.__version__,
        },
    }


def read(path: Path, size: int) -> Clip:
    """Decode a video, turn it as its display matrix says, take its frames and resize them.

    Packets that are damaged are passed over, as OpenCV does, and noted.

    Args:
        path: A file of any kind that FFmpeg reads.
        size: Height and width of the result: the short side is resized to it, the middle kept.

    Raises:
        DataError: There is no frame to be had from it; the message says why.
    """
    notes: list[str] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                kinds = ", ".join(sorted({stream.type for stream in container.streams}))
                raise DataError(f"no video stream in it ({kinds or 'no stream at all'})")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # one process a clip is the faster way to use the cores
            rate = stream.guessed_rate or stream.average_rate or stream.base_rate
            rate = Fraction(rate) if rate else Fraction(25)
            decoding = _Decoding(container, stream)
            taken = _taken(decoding, rate, size, notes)
            notes += decoding.faults(rate)
    except (av.error.FFmpegError, OSError, EOFError) as error:
        raise DataError(f"not a readable video ({_short(error)})") from error
    if not taken:
        raise DataError("; ".join(["no frame of it can be decoded", *notes]))
    return Clip(np.stack(taken), tuple(notes))


def _short(error: Exception) -> str:
    """Return the text of an error without FFmpeg's number and the path, which the message has already."""
    return str(getattr(error, "strerror", None) or error)


class _Decoding:
    """The frames of a stream with their times, and what was wrong with them."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.stream = stream
        self.announced = _announced(container, stream)
        self.packets = container.demux(stream)
        self.first: Fraction | None = None
        self.last: Fraction | None = None
        self.count = self.damaged = 0

    def __iter__(self) -> Iterator[tuple[Any, Fraction | None]]:
        while True:
            try:
                packet = next(self.packets)
            except StopIteration:
                return
            except (
                av.error.FFmpegError
            ):  # the file ends, or is damaged, where a packet should begin
                self.damaged += 1
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                time = None
                if frame.pts is not None and frame.time_base:
                    time = frame.pts * Fraction(frame.time_base)
                    self.first = time if self.first is None else self.first
                    self.last = time
                self.count += 1
                yield frame, time

    def faults(self, rate: Fraction) -> list[str]:
        """Say what was wrong, after the last frame."""
        found = []
        if self.damaged:
            packets = "1 damaged packet" if self.damaged == 1 else f"{self.damaged} damaged packets"
            found.append(f"{packets} passed over")
        if self.announced and self.first is not None and self.last is not None:
            end = self.last - self.first + 1 / rate
            if self.announced - end > _LOST_SECONDS:
                found.append(f"ends after {float(end):.1f} of {float(self.announced):.1f} seconds")
        return found


def _announced(container: Any, stream: Any) -> Fraction | None:
    """Return how long the stream says it is, in seconds; None where nothing is said."""
    if stream.duration and stream.time_base:
        return Fraction(stream.duration * stream.time_base)
    said = stream.metadata.get("DURATION", "")  # Matroska's and WebM's: 00:00:04.000000000
    try:
        hours, minutes, seconds = said.split(":")
        return Fraction(int(hours) * 3600 + int(minutes) * 60) + Fraction(seconds)
    except ValueError:
        return Fraction(container.duration, 1_000_000) if container.duration else None


def _taken(decoding: _Decoding, rate: Fraction, size: int, notes: list[str]) -> list[Pixels]:
    """Return the frames that are kept, resized."""
    resized: list[Pixels] = []
    before: Any = None
    for frame in sampling.each_second(sampling.numbered(decoding, rate), sampling.step_of(rate)):
        if frame is not before:
            pixels = fit(_upright(frame, notes), size)
        before = frame
        resized.append(pixels)
    return [resized[index] for index in sampling.spread(len(resized))]


def _upright(frame: Any, notes: list[str]) -> Pixels:
    """Return a frame (H, W, 3) turned and mirrored as its display matrix says."""
    image: Pixels = frame.to_ndarray(format="rgb24", threads=1)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # Where a pixel is shown: x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 'tkhd').
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5].tolist()
    if a and d and not b and not c:
        across, down = a, d
    elif b and c and not a and not d:
        image, across, down = image.transpose(1, 0, 2), c, b
    else:
        text = "its display matrix turns by no multiple of 90 degrees, and is not applied"
        if text not in notes:
            notes.append(text)
        return image
    return image[:: 1 if down > 0 else -1, :: 1 if across > 0 else -1]


def fit(image: Pixels, size: int) -> Pixels:
    """Resize the short side of (H, W, 3) to ``size``, keep the middle, return (3, size, size).

    Sides and offsets are rounded as by torchvision's ``Resize`` and ``CenterCrop`` on a Pillow image, which
    CLIP's own preprocessing consists of (openai/CLIP, ``clip/clip.py``).
    """
    height, width = image.shape[:2]
    short = min(height, width)
    height, width = int(size * height / short), int(size * width / short)
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    left, top = round((width - size) / 2), round((height - size) / 2)
    square = np.asarray(resized.crop((left, top, left + size, top + size)))
    return np.ascontiguousarray(square.transpose(2, 0, 1))
