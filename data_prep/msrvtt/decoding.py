"""Decodes videos in several processes into one file; a killed run resumes.

Each process writes the frames of its clip into the file, which is mapped to memory; the main process then
adds a line to
a journal, with a checksum of what was written. What the journal lacks, or what differs from it, is decoded
again.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from data_prep import tensors_file
from data_prep.errors import DataError
from data_prep.msrvtt import sampling

NO_FILE = "no such file"
_SYNC_EVERY = 50

Tick = Callable[[], None]
"""Told of every clip that is done."""


@dataclass(frozen=True)
class Done:
    """What became of one clip.

    Attributes:
        clip: Its name.
        count: Frames; 0 if there are none to be had.
        checksum: CRC-32 of its row of the file.
        notes: What was not as it should be; of a clip without frames, why.
        size: Bytes of the video.
        changed: When it was changed, in nanoseconds.
    """

    clip: str
    count: int
    checksum: int
    notes: tuple[str, ...]
    size: int
    changed: int


def decode_all(
    file: Path,
    journal: Path,
    videos: Mapping[str, Path | None],
    *,
    size: int,
    jobs: int,
    tick: Tick = lambda: None,
) -> dict[str, Done]:
    """Decode videos, each into its row of ``frames``; return what became of each.

    Args:
        file: Safetensors with ``frames`` uint8 (n, 12, 3, size, size) and ``counts`` int64 (n,): a row for
        each
            of ``videos``, in order. Rows of clips without frames, and frames beyond a clip's count, are zero.
        journal: The file of what is done; both are written, or gone on with.
        videos: Clip -> its file, or None where there is none.
        size: Height and width.
        jobs: Processes.
        tick: Told of every clip.

    Raises:
        DataError: A process was ended from without.
    """
    rows = {clip: row for row, clip in enumerate(videos)}
    shape = (len(videos), sampling.MAX_FRAMES, 3, size, size)
    done = _done_before(file, journal, videos, rows, shape)
    for _ in done:
        tick()
    waiting = []
    with journal.open("a", encoding="utf-8") as log:
        if not file.exists():
            log.truncate(0)
            tensors_file.create(
                file, {"frames": (np.uint8, shape), "counts": (np.int64, shape[:1])}
            )
        for clip, path in videos.items():
            if clip not in done and path is not None:
                waiting.append((clip, rows[clip], path))
            elif path is None:
                done[clip] = Done(clip, 0, 0, (NO_FILE,), 0, 0)
                tick()
        call = functools.partial(_decode, file, size)
        for number, found in enumerate(_over_processes(call, waiting, jobs), start=1):
            done[found.clip] = found
            _write(log, found, sync=number % _SYNC_EVERY == 0)
            tick()
    counts = tensors_file.open_arrays(file, mode="r+")["counts"]
    counts[:] = [done[clip].count for clip in videos]
    if isinstance(counts, np.memmap):
        counts.flush()
    return {clip: done[clip] for clip in videos}


def _write(log: TextIO, found: Done, *, sync: bool) -> None:
    log.write(json.dumps(asdict(found)) + "\n")
    log.flush()
    if sync:
        os.fsync(log.fileno())


def _done_before(
    file: Path,
    journal: Path,
    videos: Mapping[str, Path | None],
    rows: Mapping[str, int],
    shape: tuple[int, ...],
) -> dict[str, Done]:
    """Return what a killed run has done and what still holds; forget a file that is not whole."""
    try:
        frames = tensors_file.open_arrays(file)["frames"]
        lines = journal.read_text(encoding="utf-8").split("\n")
    except (OSError, KeyError, UnicodeDecodeError, tensors_file.NotTensors):
        file.unlink(missing_ok=True)
        return {}
    if frames.shape != shape:
        file.unlink()
        return {}
    done = {}
    for line in lines:
        try:
            found = Done(**json.loads(line))
        except (ValueError, TypeError):  # the line that was being written
            continue
        path = videos.get(found.clip)
        if path is None or not found.count or _state(path) != (found.size, found.changed):
            continue
        if zlib.crc32(frames[rows[found.clip]]) == found.checksum:
            done[found.clip] = found
    if lines[-1]:
        with journal.open("a", encoding="utf-8") as log:
            log.write("\n")
    return done


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _decode(file: Path, size: int, clip: str, row_number: int, path: Path) -> Done:
    """Decode one clip into its row."""
    from data_prep.msrvtt import video  # imports FFmpeg, in the process that decodes

    frames = tensors_file.open_arrays(file, mode="r+")["frames"]
    row = frames[row_number]
    state = _state(path)
    try:
        found = video.read(path, size)
        count, notes = len(found.pixels), found.notes
        row[:count] = found.pixels
        row[count:] = 0
    except DataError as error:
        count, notes = 0, (str(error),)
        row[:] = 0
    return Done(clip, count, zlib.crc32(row), notes, *state)


def _over_processes(
    call: Callable[..., Done], waiting: Sequence[tuple[str, int, Path]], jobs: int
) -> Iterator[Done]:
    """Call for each clip, and yield as they end."""
    jobs = min(jobs, len(waiting))
    if jobs <= 1:
        yield from (call(*one) for one in waiting)
        return
    # Not forked: FFmpeg, and the thread of a progress bar, do not belong into a copy of this process.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context)
    futures: dict[Any, str] = {}
    try:
        futures = {pool.submit(call, *one): one[0] for one in waiting}
        for future in as_completed(futures):
            yield future.result()
            del futures[future]
    except BrokenProcessPool as error:
        raise DataError(
            f"a decoding process was killed (out of memory?), {len(futures):,} clips "
            f"before the end; the "
            "same command continues; with --jobs 1 it stops at the clip that causes it"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
