"""Real MP4 and WebM files for the tests, each frame of which says its number."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np

CODECS = {".mp4": "libx264", ".webm": "libvpx-vp9"}
_STEP, _BASE, _LEVELS = 16, 24, 13


def numbered_frame(number, size):
    """A frame (H, W, 3) that says a number below 169 by the greys of its left and right half."""
    width, height = size
    frame = np.full((height, width, 3), _BASE + _STEP * (number % _LEVELS), np.uint8)
    frame[:, width // 2 :] = _BASE + _STEP * (number // _LEVELS)
    return frame


def numbers_of(pixels):
    """The numbers of frames (K, 3, S, S)."""
    side = pixels.shape[-1]
    left = pixels[..., : side // 3].mean(axis=(1, 2, 3))
    right = pixels[..., -(side // 3) :].mean(axis=(1, 2, 3))
    low, high = (np.round((half - _BASE) / _STEP).astype(int) for half in (left, right))
    return (low + _LEVELS * high).tolist()


def write(path, count=30, *, rate=10, size=(48, 36), times=None, frames=None, **more):
    """Write a video.

    Args:
        path: The file; its ending says the container.
        count: Frames.
        rate: Frames a second.
        size: Width and height.
        times: Times of the frames in milliseconds, where they do not come at the rate.
        frames: Images (H, W, 3) to write instead of numbered ones.
        more: ``rotation`` and ``flip`` of the display matrix, ``pix_fmt``, ``codec_options``, ``options``
        of the
            container.
    """
    if frames is None:
        frames = [numbered_frame(k, size) for k in range(len(times or range(count)))]
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options=more.get("options", {})) as container:
        stream = container.add_stream(CODECS[path.suffix], rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = more.get("pix_fmt", "yuv420p")
        stream.options = {"threads": "1"} | more.get("codec_options", {})
        if "rotation" in more:
            stream.set_display_rotation(more["rotation"], hflip=more.get("flip", False))
        base = Fraction(1, 1000) if times else 1 / Fraction(rate)
        if times:
            stream.time_base = stream.codec_context.time_base = base
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = times[number] if times else number, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path):
    """Write a file that has sound and no picture."""
    codec = {".mp4": "aac", ".webm": "libopus"}[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000)
        for number in range(20):
            samples = np.zeros((1, 960), np.float32)
            layout = {"format": "fltp" if codec == "aac" else "flt", "layout": "mono"}
            frame = av.AudioFrame.from_ndarray(samples, **layout)
            frame.rate, frame.pts = 48_000, 960 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(path, share=0.5):
    """Take the end of a file away."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def write_lists(root, train, smaller, test):
    """Write annotations and lists: clip -> captions for train, clip -> caption for test."""
    root.mkdir(parents=True, exist_ok=True)
    said = {**train, **{clip: [caption] for clip, caption in test.items()}}
    sentences = [
        {"sen_id": k, "video_id": clip, "caption": caption}
        for k, (clip, caption) in enumerate((c, s) for c, ss in said.items() for s in ss)
    ]
    # As in the file, sentences of a clip do not follow each other.
    sentences = sentences[::2] + sentences[1::2]
    (root / "MSRVTT_data.json").write_text(json.dumps({"info": {}, "sentences": sentences}))
    for name, clips in (("9k", train), ("7k", smaller)):
        (root / f"MSRVTT_train.{name}.csv").write_text("\n".join(["video_id", *clips]) + "\n")
    rows = [
        f'ret{k},{clip.replace("video", "msr")},{clip},"{caption}"'
        for k, (clip, caption) in enumerate(test.items())
    ]
    (root / "MSRVTT_JSFUSION_test.csv").write_text(
        "\n".join(["key,vid_key,video_id,sentence", *rows]) + "\n"
    )
