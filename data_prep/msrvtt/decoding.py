"""Decodes videos in several processes into one file; a killed run resumes.

Each process writes the frames of its clip into the file, which is mapped to memory; the main process then
adds a line to
a journal, with a checksum of what was written. What the journal lacks, or what differs from it, is decoded
again. The journal stays beside the finished file, so that a later run decodes new and changed videos alone.
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


def frames_file(split: str) -> str:
    """Return the name of the file with a split's frames."""
    return f"{split}.frames.safetensors"


def journal_file(split: str) -> str:
    """Return the name of the file that says from which videos a split's frames are."""
    return f"{split}.journal.jsonl"


def clips_file(split: str) -> str:
    """Return the name of the file with the names of a split's clips."""
    return f"{split}.clips.txt"


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
    former: Path | None = None,
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
        former: A finished ``file`` of the same kind, with its journal and the names of its clips beside it:
            rows of videos that have not changed since are copied.

    Raises:
        DataError: A process was ended from without.
    """
    rows = {clip: row for row, clip in enumerate(videos)}
    shape = (len(videos), sampling.MAX_FRAMES, 3, size, size)
    done, waiting = _done_before(file, journal, videos, rows, shape), []
    for _ in done:
        tick()
    with journal.open("a", encoding="utf-8") as log:
        if not file.exists():
            log.truncate(0)
            tensors_file.create(
                file, {"frames": (np.uint8, shape), "counts": (np.int64, shape[:1])}
            )
        _copy(former, file, videos, done, log, tick)
        for clip, path in videos.items():
            if clip not in done and path is not None:
                waiting.append((clip, rows[clip], path))
            elif path is None:
                done[clip] = Done(clip, 0, 0, (NO_FILE,), 0, 0)
                tick()
        call = functools.partial(_decode, file, size)
        for number, one in enumerate(_over_processes(call, waiting, jobs), start=1):
            done[one.clip] = one
            _write(log, one, sync=number % _SYNC_EVERY == 0)
            tick()
    counts = tensors_file.open_arrays(file, mode="r+")["counts"]
    counts[:] = [done[clip].count for clip in videos]
    if isinstance(counts, np.memmap):
        counts.flush()
    found = {clip: done[clip] for clip in videos}
    with journal.open("w", encoding="utf-8") as log:  # in order, as a run that nobody kills has it
        for one in found.values():
            if one.count:
                _write(log, one, sync=False)
    return found


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
    if lines[-1]:
        with journal.open("a", encoding="utf-8") as log:
            log.write("\n")
    return {found.clip: found for found in _unchanged(lines, frames, videos, rows)}


def _unchanged(
    lines: Sequence[str], frames: Any, videos: Mapping[str, Path | None], rows: Mapping[str, int]
) -> Iterator[Done]:
    """Iterate what a journal says of clips whose video and row are still those that it was written of."""
    for line in lines:
        try:
            found = Done(**json.loads(line))
        except (ValueError, TypeError):  # the line that was being written
            continue
        path = videos.get(found.clip)
        if path is None or not found.count or _state(path) != (found.size, found.changed):
            continue
        if found.clip in rows and zlib.crc32(frames[rows[found.clip]]) == found.checksum:
            yield found


def _copy(
    former: Path | None,
    file: Path,
    videos: Mapping[str, Path | None],
    done: dict[str, Done],
    log: TextIO,
    tick: Tick,
) -> None:
    """Copy the rows of a finished file that are still right."""
    if former is None:
        return
    split = former.name.partition(".")[0]
    try:
        frames = tensors_file.open_arrays(former)["frames"]
        lines = (former.parent / journal_file(split)).read_text(encoding="utf-8").split("\n")
        clips = (former.parent / clips_file(split)).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, KeyError, UnicodeDecodeError, tensors_file.NotTensors):
        return
    new = tensors_file.open_arrays(file, mode="r+")["frames"]
    if frames.shape != (len(clips), *new.shape[1:]):
        return
    there, here = ({clip: row for row, clip in enumerate(each)} for each in (clips, videos))
    for found in _unchanged(lines, frames, videos, there):
        if found.clip not in done:
            new[here[found.clip]] = frames[there[found.clip]]
            done[found.clip] = found
            _write(log, found, sync=False)
            tick()


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
