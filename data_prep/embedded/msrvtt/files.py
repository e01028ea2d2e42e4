"""The embedded clips as files in MSR-VTT's own layout: MP4 videos, annotations, lists."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from data_prep.embedded import msrvtt
from data_prep.embedded.msrvtt import drawing
from data_prep.embedded.msrvtt.scene import Scene
from data_prep.msrvtt.lists import DATA, TEST_1KA, TRAIN_7K, TRAIN_9K
from data_prep.whole_files import move_folder, write_json

VIDEOS = "videos"
CODEC = "libx264"
# x264 decides about B-frames of so small pictures by memory that it has not written (two runs of the same
# process differ); without them and without the code for certain CPUs, the same frames give the same bytes.
ENCODING = {
    "crf": "22",
    "preset": "veryfast",
    "bf": "0",
    "threads": "1",
    "x264-params": "asm=0",
}
SHARE_OF_7K = 7_010 / 9_000
_HEAD = "head.json"


def write_video(path: Path, scene: Scene) -> None:
    """Draw a scene and write it as H.264 in MP4, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with av.open(str(part), "w", format="mp4") as container:
        stream: Any = container.add_stream(CODEC, rate=scene.rate)
        stream.width = stream.height = drawing.SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = dict(ENCODING)
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        for number, pixels in enumerate(drawing.frames(scene)):
            image = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, Fraction(1, scene.rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.replace(path)


def write(
    folder: Path,
    seed: int,
    *,
    first: int | None = None,
    jobs: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """Write the clips that are packed, with annotations and lists; a run that was killed goes on.

    Args:
        folder: Where; what is there already of the same seed is taken as it is.
        seed: Of the data.
        first: Write only so many clips of each split; a later call for all goes on from there.
        jobs: Processes that draw and encode.
        tick: Told of every video.

    Returns:
        The folder with the annotations; the videos are in it.
    """
    head = {"generator_version": msrvtt.GENERATOR_VERSION, "seed": seed}
    if _head_of(folder) == head:
        for _ in range(sum(msrvtt.SPLITS[split] for split in ("train", "test"))):
            tick()
        return folder
    staging = folder.with_name(f".{folder.name}.partial")
    if _head_of(staging) != head:
        shutil.rmtree(staging, ignore_errors=True)
        write_json(staging / _HEAD, head)
    (staging / VIDEOS).mkdir(exist_ok=True)
    clips: dict[str, list[tuple[str, msrvtt.Clip]]] = {}
    number = 0
    for split in ("train", "test"):
        clips[split] = []
        for clip in msrvtt.generate(split, seed):
            clips[split].append((f"video{number}", clip))
            number += 1
    every = [*clips["train"], *clips["test"]]
    waiting = [
        (path, clip.scene)
        for clips_of_split in clips.values()
        for name, clip in clips_of_split[:first]
        if not (path := staging / VIDEOS / f"{name}.mp4").is_file()
    ]
    written = sum(len(some[:first]) for some in clips.values())
    for _ in range(written - len(waiting)):
        tick()
    _write_videos(waiting, jobs, tick)
    _write_annotations(staging, every, clips)
    if first is not None:
        return staging
    move_folder(staging, folder)
    return folder


def _head_of(folder: Path) -> Any:
    try:
        return json.loads((folder / _HEAD).read_text())
    except (OSError, ValueError):
        return None


def _write_videos(
    waiting: Sequence[tuple[Path, Scene]], jobs: int, tick: Callable[[], None]
) -> None:
    jobs = min(jobs, len(waiting))
    if jobs <= 1:
        for one in waiting:
            write_video(*one)
            tick()
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(write_video, *one) for one in waiting]):
            future.result()
            tick()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_annotations(
    folder: Path,
    every: Sequence[tuple[str, msrvtt.Clip]],
    clips: dict[str, list[tuple[str, msrvtt.Clip]]],
) -> None:
    videos = [
        {"id": k, "video_id": name, "split": "train" if k < len(clips["train"]) else "test"}
        for k, (name, _) in enumerate(every)
    ]
    said = [(name, caption) for name, clip in every for caption in clip.captions]
    sentences = [
        {"sen_id": k, "video_id": name, "caption": caption}
        for k, (name, caption) in enumerate(said)
    ]
    text = json.dumps({"info": {}, "videos": videos, "sentences": sentences})
    (folder / DATA).write_text(text, encoding="utf-8")
    train = [[name] for name, _ in clips["train"]]
    _write_table(folder / TRAIN_9K, ["video_id"], train)
    _write_table(folder / TRAIN_7K, ["video_id"], train[: round(SHARE_OF_7K * len(train))])
    test = [
        [f"ret{k}", name.replace("video", "msr"), name, clip.captions[0]]
        for k, (name, clip) in enumerate(clips["test"])
    ]
    _write_table(folder / TEST_1KA, ["key", "vid_key", "video_id", "sentence"], test)


def _write_table(path: Path, names: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    path.write_text(table.getvalue(), encoding="utf-8")
