"""The checkpoints of a run: the last epoch, to resume from, and stage 1, to start stage 2 from."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from benchmarks.harness.provenance import file_sha256
from data_prep import saved_tensors
from resora.adapted import adapter_state, load_adapter_state
from resora.adapted.values import sha256_of

STAGE1 = "stage1.safetensors"
LAST_EPOCH = "last-epoch.pt"


MADE_OF = "configuration and tensors"
"""The entry of a stage-1 checkpoint with the hashes of both."""
DIGEST_BYTES = 32
"""The last bytes of a kept epoch: the sha256 of all that comes before them."""


class Damaged(Exception):
    """A checkpoint is not what was written; the message says why."""


def save_stage1(folder: Path, model: nn.Module, config_hash: str) -> str:
    """Write the trained part of a stage-1 model, with the hash of its configuration and of its tensors.

    Returns:
        The sha256 of the file.
    """
    state = {name: value.cpu().contiguous() for name, value in adapter_state(model).items()}
    # One entry: safetensors writes several in any order, and the same run has to give the same file.
    metadata = {MADE_OF: f"{config_hash} {sha256_of(state)}"}
    path = folder / STAGE1
    _atomically(path, lambda to: save_file(state, to, metadata=metadata))
    return file_sha256(path)


def has_stage1(folder: Path, config_hash: str, sha256: str | None = None) -> bool:
    """Say whether there is a whole stage-1 checkpoint of this configuration; warn of one that is damaged.

    Args:
        folder: Where it lies.
        config_hash: Of the configuration.
        sha256: Of the file, by the record of the run that wrote it; None: unknown.
    """
    path = folder / STAGE1
    try:
        found = _read_stage1(path)
    except FileNotFoundError:
        return False
    except Damaged as problem:
        warnings.warn(f"{problem}; stage 1 is trained again", stacklevel=2)
        return False
    if found[1] != config_hash:
        return False
    if sha256 is not None and file_sha256(path) != sha256:
        told = f"{path} is not the checkpoint of its run's record; stage 1 is trained again"
        warnings.warn(told, stacklevel=2)
        return False
    return True


def load_stage1(folder: Path, model: nn.Module) -> str:
    """Load a stage-1 checkpoint into a model; return the sha256 of the file.

    Raises:
        Damaged: It is not what was written.
    """
    path = folder / STAGE1
    load_adapter_state(model, _read_stage1(path)[0])
    return file_sha256(path)


def _read_stage1(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Return the tensors of a checkpoint and the hash of its configuration, once its own hash is checked."""
    if not os.path.lexists(path):
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as problem:
        raise Damaged(f"{path} cannot be read ({problem})".splitlines()[0]) from problem
    config_hash, _, sha256 = metadata.get(MADE_OF, "").partition(" ")
    if sha256 != sha256_of(state):
        raise Damaged(f"{path} is damaged: its tensors do not have the hash written with them")
    return state, config_hash


class EpochWriter:
    """Writes the checkpoint of an epoch while the next one trains.

    The file is the old or the new one at any moment, and what is written is what the state was when it was
    handed over. One write is under way at most.
    """

    def __init__(self, folder: Path, *, waits: bool = False) -> None:
        """Take the folder.

        Args:
            folder: Where the file goes.
            waits: Return from ``write`` when the file is there.
        """
        self.path, self.waits = folder / LAST_EPOCH, waits
        self._thread: threading.Thread | None = None
        self._problem: Exception | None = None

    def write(self, state: dict[str, Any]) -> None:
        """Begin to write a state of tensors and plain values, once the one before is written.

        Raises:
            OSError: What was written before could not be.
        """
        if self.waits:
            self._save(state)
            return
        self.wait()
        copied = _copied(state)
        self._thread = threading.Thread(target=self._try, args=(copied,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until all is written.

        Raises:
            OSError: It could not be.
        """
        self.join()
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem

    def join(self) -> None:
        """Wait until no write is running, also after a failure."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _try(self, state: dict[str, Any]) -> None:
        try:
            self._save(state)
        except Exception as problem:  # noqa: BLE001 - it is raised where the file is waited for
            self._problem = problem

    def _save(self, state: dict[str, Any]) -> None:
        _atomically(self.path, lambda path: _save_epoch(state, path))


def load_epoch(folder: Path, identity: str, device: str) -> dict[str, Any] | None:
    """Return the last epoch that a killed run of the same configuration left, if there is one.

    One that is damaged is left out with a warning: the stage begins anew.
    """
    path = folder / LAST_EPOCH
    if not os.path.lexists(path):
        return None
    try:
        if _digest_of(path) != path.read_bytes()[-DIGEST_BYTES:]:
            raise Damaged("it does not have the hash written with it")
        state: dict[str, Any] = saved_tensors.read(path, device)
    except Exception as problem:  # noqa: BLE001 - damage shows in many ways
        told = f"{path} cannot be used ({problem})".splitlines()[0]
        warnings.warn(f"{told}; the stage begins anew", stacklevel=2)
        return None
    return state if state["identity"] == identity else None


def _save_epoch(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    with path.open("ab") as file:
        file.write(digest)


def _digest_of(path: Path) -> bytes:
    """Return the sha256 of all but the last bytes of a file, which have it."""
    return hashlib.sha256(path.read_bytes()[:-DIGEST_BYTES]).digest()


def drop_epoch(folder: Path) -> None:
    """Delete the checkpoint of the last epoch, since the run is complete."""
    path = folder / LAST_EPOCH
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)


def _copied(value: Any) -> Any:
    """Copy nested dictionaries and lists, and tensors to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is on disk, whole, before it takes the place of the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.not-a-file-{os.getpid()}"))
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
    except BaseException:  # a full disk, perhaps: what it has cut off is of no use
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
