"""The checkpoints of a run: the last epoch, to resume from, and stage 1, to start stage 2 from."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from benchmarks.harness.provenance import file_sha256
from resora.adapted import adapter_state, load_adapter_state

STAGE1 = "stage1.safetensors"
LAST_EPOCH = "last-epoch.pt"


def save_stage1(folder: Path, model: nn.Module, config_hash: str) -> None:
    """Write the trained part of a stage-1 model, with the hash of the configuration that made it."""
    state = {name: value.cpu().contiguous() for name, value in adapter_state(model).items()}
    _atomically(
        folder / STAGE1,
        lambda path: save_file(state, path, metadata={"config_hash": config_hash}),
    )


def has_stage1(folder: Path, config_hash: str) -> bool:
    """Say whether there is a stage-1 checkpoint of this configuration."""
    path = folder / STAGE1
    if not path.exists():
        return False
    with safe_open(path, framework="pt") as file:
        return bool((file.metadata() or {}).get("config_hash") == config_hash)


def load_stage1(folder: Path, model: nn.Module) -> str:
    """Load a stage-1 checkpoint into a model; return the sha256 of the file."""
    path = folder / STAGE1
    with safe_open(path, framework="pt") as file:
        load_adapter_state(model, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return file_sha256(path)


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
        _atomically(self.path, lambda path: torch.save(state, path))


def load_epoch(folder: Path, identity: str, device: str) -> dict[str, Any] | None:
    """Return the last epoch that a killed run of the same configuration left, if there is one."""
    path = folder / LAST_EPOCH
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state if state["identity"] == identity else None


def drop_epoch(folder: Path) -> None:
    """Delete the checkpoint of the last epoch, since the run is complete."""
    (folder / LAST_EPOCH).unlink(missing_ok=True)


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    try:
        write(temporary)
        temporary.replace(path)
    except BaseException:  # a full disk, perhaps: what it has cut off is of no use
        temporary.unlink(missing_ok=True)
        raise
