"""What a run leaves in the work folder: the last epoch, to go on from, and stage 1, to start from."""

from __future__ import annotations

import os
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


def save_epoch(folder: Path, state: dict[str, Any]) -> None:
    """Write all that is needed to go on after this epoch."""
    _atomically(folder / LAST_EPOCH, lambda path: torch.save(state, path))


def load_epoch(folder: Path, identity: str, device: str) -> dict[str, Any] | None:
    """Return the last epoch that a killed run of the same configuration left, if there is one."""
    path = folder / LAST_EPOCH
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state if state["identity"] == identity else None


def drop_epoch(folder: Path) -> None:
    """Delete the last epoch: the run has come to its end."""
    (folder / LAST_EPOCH).unlink(missing_ok=True)


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    write(temporary)
    temporary.replace(path)
