"""Published weights: which file they are, where it is looked for, and how it gets into a network."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.harness.errors import UsageError
from benchmarks.harness.provenance import file_sha256
from benchmarks.weight_values import check_values
from data_prep.saved_tensors import read
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402 - the guard has to come first
from safetensors.torch import load_file  # noqa: E402
from timm.models import clean_state_dict  # noqa: E402

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz")
FOLDER = "weights"
"""Folder of weights below the one of packed data."""

HUB_FILE = "model.safetensors"
RANDOM = "random"
DIGITS = 12


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights came from.

    Attributes:
        id: Name of the published checkpoint or of the file.
        sha256: Hash of the file; None for random weights.
        file: Name of the file; None for random weights.
    """

    id: str
    sha256: str | None
    file: str | None = None


@dataclass(frozen=True)
class Original:
    """The file in which the authors of a network published its weights.

    Attributes:
        file: Its name.
        url: Where it is.
        md5: First digits of its md5, as KMnP/vpt gives them; None where nobody does.
    """

    file: str
    url: str
    md5: str | None = None


ORIGINALS = {
    "vit_base_patch16_224.orig_in21k": Original(
        "ViT-B_16.npz",
        "https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz",
        "d9715d",
    ),
    "swin_base_patch4_window7_224.ms_in22k": Original(
        "swin_base_patch4_window7_224_22k.pth",
        "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
        "swin_base_patch4_window7_224_22k.pth",
        "bf9cc1",
    ),
    "convnext_base.fb_in22k": Original(
        "convnext_base_22k_224.pth",
        "https://dl.fbaipublicfiles.com/convnext/convnext_base_22k_224.pth",
    ),
}
"""timm's name of a checkpoint -> the file that it was converted from."""

ALIASES = {
    "vit_base_patch16_224_in21k": "timm means the augreg weights by it, and the baselines of the paper "
    "start from others, vit_base_patch16_224.orig_in21k (name vit_base_patch16_224.augreg_in21k if you "
    "mean augreg)",
}
"""Names that now mean other weights than in the repositories that use them."""


def given_id(file: Path) -> str:
    """Return the name under which a configuration knows a file that a person gave: name and hash.

    Raises:
        UsageError: There is no such file, or it is of an unknown kind.
    """
    if not file.is_file():
        raise UsageError(
            f"there is no file {file}; --weights takes a file or timm's name of a checkpoint"
        )
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file.name} is none of {', '.join(SUFFIXES)}")
    return f"{file.name}@{_sha256(file)[:DIGITS]}"


def is_given(name: str) -> bool:
    """Say whether a configuration's weights are a file that a person gave."""
    return "@" in name


def find(name: str, folder: Path | None, given: Path | None, *, fetch: bool = True) -> Path | None:
    """Return the file of weights.

    Args:
        name: timm's name of a checkpoint, or what ``given_id`` returned.
        folder: Where files of weights are looked for by name.
        given: The file that a person gave.
        fetch: Whether to ask the Hugging Face hub for what is not at hand; if not, the answer is None.

    Raises:
        UsageError: It cannot be had; the message says which file to put where.
    """
    if is_given(name):
        if given is None or given_id(given) != name:
            raise UsageError(
                f"the configuration asks for the weights {name}; give that file by --weights"
            )
        return given
    original = ORIGINALS.get(name)
    if folder is not None:
        names = [f"{name}{suffix}" for suffix in SUFFIXES] + ([original.file] if original else [])
        for candidate in (folder / file for file in names):
            if candidate.is_file():
                _check_original(candidate, original)
                return candidate
    return _from_hub(name, folder, fetch=fetch)


def check_name(name: str, architecture: str, backbone: str) -> None:
    """Raise a ``UsageError`` unless a checkpoint's name is one of this network's."""
    if name in ALIASES:
        raise UsageError(f"the name {name!r} is ambiguous: {ALIASES[name]}")
    if name.partition(".")[0] != architecture:
        raise UsageError(
            f"the weights {name!r} are not those of {backbone}, which timm calls {architecture}"
        )


def missing(name: str, folder: Path | None) -> str:
    """Say which file to fetch and where to put it."""
    original = ORIGINALS.get(name)
    where = folder or Path("data") / FOLDER
    if original is None:
        return f"put the file as {where / name}.safetensors, or name it by --weights"
    return (
        f"fetch {original.url} and put it as {where / original.file}, or name a file by --weights"
    )


def load(model: nn.Module, head: str, file: Path) -> None:
    """Load all but the classification layer ``head``, which stays as it is.

    Takes timm's own format, and the one that the network's authors published (for a vision transformer
    also the ``.npz`` of JAX); timm converts.

    Raises:
        UsageError: The file is damaged or of another network, or has values that no training gives.
    """
    fresh = {key: value.clone() for key, value in model.get_submodule(head).state_dict().items()}
    if file.suffix == ".npz":
        _load_npz(model, head, file)
    else:
        _load_state(model, head, file)
    model.get_submodule(head).load_state_dict(fresh)


def weights_of(name: str, file: Path) -> Weights:
    """Return what a record says of weights."""
    return Weights(name.partition("@")[0], _sha256(file), file.name)


def _load_npz(model: nn.Module, head: str, file: Path) -> None:
    load: Any = getattr(model, "load_pretrained", None)
    if load is None:
        raise UsageError(f"{file.name}: {type(model).__name__} has no weights in the format .npz")
    try:
        load(str(file))
    except Exception as error:  # a damaged archive, a missing name, another shape
        raise UsageError(f"{file.name} does not fit {type(model).__name__}: {error}") from error
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(f"{head}.")}
    check_values(model, file, state)


def _load_state(model: nn.Module, head: str, file: Path) -> None:
    try:
        found: Any = load_file(file) if file.suffix == ".safetensors" else read(file)
        # Options of the training may stand beside the weights.
        found = found.get("state_dict", found.get("model", found))
        state: dict[str, Tensor] = clean_state_dict(found)
        # timm converts what the authors published; each of its modules has its own conversion.
        convert: Any = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        state = convert(state, model) if convert else state
        state = {key: value.detach() for key, value in state.items()}
    except Exception as error:
        raise UsageError(
            f"{file.name} cannot be read as weights: {type(error).__name__}: {error}"
        ) from error
    of_head = (f"{head}.", "pre_logits.")
    state = {key: value for key, value in state.items() if not key.startswith(of_head)}
    ours = {key: v for key, v in model.state_dict().items() if not key.startswith(f"{head}.")}
    wrong = sorted(
        key for key in ours.keys() | state.keys() if _shape(ours, key) != _shape(state, key)
    )
    if wrong:
        key = wrong[0]
        raise UsageError(
            f"{file.name} does not fit {type(model).__name__}: {len(wrong)} tensors differ, such as {key} "
            f"({_shape(state, key)} in the file, {_shape(ours, key)} in the network)"
        )
    check_values(model, file, state)
    model.load_state_dict(state, strict=False)


def _shape(state: dict[str, Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None


def _check_original(file: Path, original: Original | None) -> None:
    if original is None or file.name != original.file or original.md5 is None:
        return
    found = _md5(file, file.stat().st_mtime_ns)
    if not found.startswith(original.md5):
        raise UsageError(
            f"{file} is not the published file: its md5 is {found}, that of {original.url} begins with "
            f"{original.md5}; fetch it again, or name the file by --weights"
        )


def _from_hub(name: str, folder: Path | None, *, fetch: bool) -> Path | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None or not known.hf_hub_id:
        raise UsageError(f"timm knows no weights {name!r}; {missing(name, folder)}")
    repository = known.hf_hub_id if "/" in known.hf_hub_id else f"timm/{name}"
    cached = try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    if not fetch:
        return None
    try:
        return Path(hf_hub_download(repository, HUB_FILE))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the weights {name!r} are not on this machine, and the Hugging Face hub does not answer: "
            f"{missing(name, folder)}"
        ) from error


def _sha256(file: Path) -> str:
    return _hashed(file, file.stat().st_mtime_ns)


@cache
def _hashed(file: Path, changed_ns: int) -> str:
    return file_sha256(file)


@cache
def _md5(file: Path, changed_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
