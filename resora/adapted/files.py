"""Saving and loading what a method trained: one safetensors file with the trained part and the head.

The file's metadata has the method with its options, the name of the head and a fingerprint of the backbone,
so that a plain backbone is enough to load it. It holds tensors and JSON, nothing that is executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resora.adapted.applied import Applied, applied_to, fingerprint, name_of
from resora.adapted.state import adapter_state, load_adapter_state

if TYPE_CHECKING:
    from resora.petl.base import Method

FORMAT = "resora.adapter/1"
KEY = "resora"


@dataclass(frozen=True)
class _Saved:
    """What the metadata of a file say; the values are those of ``Applied``, the method by name."""

    method: str
    options: dict[str, Any]
    head: str
    backbone: str


def save(
    model: nn.Module, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None
) -> None:
    """Write the trained part of an adapted model, its head included, to one safetensors file.

    Args:
        model: The model that was given to ``adapt``; it may be wrapped by ``torch.compile`` or
            ``DistributedDataParallel``.
        path: Of the file; an existing one is replaced, once the new one is written.
        dtype: Floating-point type in the file, such as ``torch.float16`` for half the size; None: that
            of the parameters.

    Raises:
        ValueError: The model is not adapted, or a value does not fit into ``dtype``.
        ImportError: safetensors is missing.
    """
    model = _unwrapped(model)
    if (applied := applied_to(model)) is None:
        raise ValueError(
            f"{type(model).__name__} is not adapted: there is no trained part to save. Save the model that "
            "was given to `adapt`; a merged or plain one is saved by torch.save(model.state_dict())"
        )
    state = {name: _for_file(name, value, dtype) for name, value in _state(model, applied).items()}
    about = {
        "format": FORMAT,
        "method": name_of(applied.method),
        "options": applied.method.options(),
        "head": applied.head,
        "backbone": applied.backbone,
    }
    write_tensors(Path(path), state, {KEY: json.dumps(about, sort_keys=True)})


def load(model: nn.Module, path: str | os.PathLike[str]) -> Applied:
    """Load what ``save`` wrote: into a plain backbone, which is adapted first, or into an adapted model.

    The backbone has to be the one that the adapter was trained on, in the same data type (convert it
    afterwards). That is not checked where one of the two was adapted without values, on the meta device.

    Args:
        model: The backbone with a head of the same shape, or a model that the same method has adapted;
            changed in place.
        path: Of the file.

    Returns:
        What is applied to the model now.

    Raises:
        ValueError: The file is of something else, or the model has another backbone, head or method. The
            model is not changed then.
        ImportError: safetensors is missing.
    """
    model = _unwrapped(model)
    tensors, metadata = read_tensors(Path(path))
    saved = _parsed(Path(path), metadata)
    _check_head(model, saved.head, tensors)
    if (applied := applied_to(model)) is not None:
        _check_same(applied, saved)
    else:
        _check_backbone(fingerprint(model, saved.head), saved.backbone)
        _rebuilt(saved).adapt(model, saved.head)
        applied = applied_to(model)
        assert applied is not None
    load_state(model, applied, tensors)
    return applied


def load_state(model: nn.Module, applied: Applied, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors by name into the trained part of an adapted model, and into its head."""
    trained = adapter_state(model).keys()
    rest = {name: value for name, value in _state(model, applied).items() if name not in trained}
    if wrong := sorted((tensors.keys() - trained) ^ rest.keys()):
        raise ValueError(f"the file and the model differ in what they hold: {', '.join(wrong[:3])}")
    load_adapter_state(model, {name: t for name, t in tensors.items() if name in trained})
    for name, value in rest.items():
        value.copy_(tensors[name])


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file by name, and its metadata.

    Raises:
        ValueError: It is no such file.
    """
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except library.SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all; folders are made as needed."""
    _safetensors()
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(dict(tensors), part, metadata={"format": "pt", **metadata})
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _safetensors() -> ModuleType:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "adapters are kept in safetensors files: pip install resora[save]"
        ) from error
    return safetensors


def _unwrapped(model: nn.Module) -> nn.Module:
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inner = model._modules.get("_orig_mod")
        inner = model.module if isinstance(model, parallel) else inner
        if inner is None:
            return model
        model = inner


def _state(model: nn.Module, applied: Applied) -> dict[str, Tensor]:
    """The trained part, and all of the head: also what is frozen in it, and its buffers."""
    state = adapter_state(model)
    if applied.head:
        whole = model.get_submodule(applied.head).state_dict()
        state |= {f"{applied.head}.{name}": value.detach() for name, value in whole.items()}
    return state


def _for_file(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    # A copy, because the file format does not know tensors that share their memory.
    kept = value.to("cpu", wanted, copy=True).contiguous()
    if wanted != value.dtype and not torch.equal(kept.isfinite(), value.isfinite().cpu()):
        raise ValueError(f"{name!r} has values that do not fit into {wanted}")
    return kept


def _parsed(path: Path, metadata: Mapping[str, str]) -> _Saved:
    if KEY not in metadata:
        raise ValueError(f"{path} was not written by resora: its metadata have no {KEY!r}")
    about = json.loads(metadata[KEY])
    if about["format"] != FORMAT:
        raise ValueError(
            f"{path} has the format {about['format']}, this version of resora reads {FORMAT}"
        )
    return _Saved(about["method"], about["options"], about["head"], about["backbone"])


def _rebuilt(saved: _Saved) -> Method:
    from resora.petl import make_method  # which itself needs this package

    try:
        return make_method(saved.method, **saved.options)
    except ValueError as error:
        raise ValueError(
            f"the file's method cannot be made here ({error}); adapt the model yourself, then load"
        ) from error


def _check_head(model: nn.Module, head: str, tensors: Mapping[str, Tensor]) -> None:
    if not head:
        return
    try:
        own = model.get_submodule(head).state_dict()
    except AttributeError as error:
        raise ValueError(
            f"the file was saved with the head {head!r}, which {type(model).__name__} does not have"
        ) from error
    start = f"{head}."
    saved = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    if (there := _shapes(saved)) != (here := _shapes(own)):
        raise ValueError(f"the head {head!r} has {there} in the file and {here} here")


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{n} {tuple(t.shape)}" for n, t in sorted(tensors.items())) or "no tensors"


def _check_same(applied: Applied, saved: _Saved) -> None:
    name, options = name_of(applied.method), json.loads(json.dumps(applied.method.options()))
    if (name, options) != (saved.method, saved.options):
        differing = {k: v for k, v in saved.options.items() if options.get(k) != v}
        raise ValueError(
            f"the model is adapted by {name}, the file is of {saved.method}"
            + (f" with {differing}" if name == saved.method else "")
        )
    if applied.head != saved.head:
        raise ValueError(f"the head is {applied.head!r} here and {saved.head!r} in the file")
    _check_backbone(applied.backbone, saved.backbone)


def _check_backbone(own: str, saved: str) -> None:
    if own and saved and own != saved:
        raise ValueError(
            f"the adapter was trained on another backbone (fingerprint {saved}, here {own}): other weights, "
            "another architecture, another head name, or the same weights in another data type"
        )
