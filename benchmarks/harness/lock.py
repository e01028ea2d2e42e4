"""A lock a cell: of two runs one trains it, and the other goes on with other cells.

A lock is a file in the cell's work folder. Where the file system has ``flock``, as NFS has by its server,
the kernel lets go of it when its process ends, however that is. Where it has not, a second file is the lock:
it names its owner, who touches it from time to time, and one whose owner is dead or silent is taken over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT_SECONDS = 10.0
SILENT_SECONDS = 120.0
"""An owner who has not touched its file for so long is taken for dead."""

HELD = (errno.EAGAIN, errno.EACCES)
NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
    """The right to work on what a file stands for, of one process at a time."""

    def __init__(self, path: Path) -> None:
        """Take the path of the lock's file; nothing is locked yet."""
        self.path = path
        self._marker = path.with_name(f"{path.name}.owner")
        self._file: int | None = None
        self._ended: threading.Event | None = None

    def take(self) -> bool:
        """Lock, unless somebody else has; return whether it is ours now.

        Raises:
            OSError: The file cannot be made.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno in HELD:
                    return False
                if error.errno in NO_FLOCK:
                    return self._take_marker()
                raise
            if _is_at(file, self.path):
                break
            os.close(file)  # its last owner has removed it
        with suppress(OSError):  # a full disk: the lock holds, its owner has no name
            os.ftruncate(file, 0)
            os.pwrite(file, _own_name().encode(), 0)
        self._file = file
        return True

    def release(self) -> None:
        """Let go, and leave nothing behind."""
        if self._file is not None:
            with suppress(OSError):
                self.path.unlink()
            os.close(self._file)
            self._file = None
        if self._ended is not None:
            self._ended.set()
            self._ended = None
            for path in (self._marker, self.path):
                with suppress(OSError):
                    path.unlink()

    @property
    def owner(self) -> str:
        """The machine and the process that have it, as far as they are known."""
        for path in (self._marker, self.path):
            with suppress(OSError, ValueError):
                host, pid = path.read_text(encoding="utf-8").split()
                return f"process {pid} on {host}"
        return "another process"

    def _take_marker(self) -> bool:
        for _ in range(2):
            try:
                file = os.open(self._marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not self._drop_stale():
                    return False
                continue
            with suppress(OSError):
                os.write(file, _own_name().encode())
            os.close(file)
            self._ended = threading.Event()
            threading.Thread(target=self._beat, args=(self._ended,), daemon=True).start()
            return True
        return False

    def _drop_stale(self) -> bool:
        """Remove the file of an owner that is dead; of several processes one does so at a time."""
        guard = self._marker.with_name(f"{self._marker.name}.check")
        try:
            os.close(os.open(guard, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            with suppress(OSError):
                age = _now(self.path) - guard.stat().st_mtime
                if age > SILENT_SECONDS:  # left by one that was killed in here
                    guard.unlink()
            return False
        try:
            # By the clock of the file system, since those of two machines differ.
            silent = guard.stat().st_mtime - self._marker.stat().st_mtime > SILENT_SECONDS
            if not _is_dead(self._marker, silent):
                return False
            self._marker.unlink()
            return True
        except FileNotFoundError:
            return True  # its owner has let go
        finally:
            guard.unlink(missing_ok=True)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(self._marker)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock in the block if it can be had at once; yields whether it is."""
    lock = Lock(path)
    is_ours = lock.take()
    try:
        yield is_ours
    finally:
        lock.release()


def is_free(path: Path) -> bool:
    """Whether nobody has a lock."""
    if not path.parent.exists():
        return True
    with held(path) as is_ours:
        return is_ours


def _own_name() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _is_dead(marker: Path, is_silent: bool) -> bool:
    host, _, pid = marker.read_text(encoding="utf-8").partition(" ")
    if host != socket.gethostname() or not pid.isdecimal():
        return is_silent
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return is_silent  # a process of the same number may be another one


def _now(beside: Path) -> float:
    """The time by the clock of a file system."""
    os.utime(beside)
    return beside.stat().st_mtime


def _is_at(file: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), path.stat())
    return False
