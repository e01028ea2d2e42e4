"""Saving and loading what a method trained: one safetensors file with the trained part and the head.

The file's metadata has the method with its options, the name of the head and a fingerprint of the backbone,
so that a plain backbone is enough to load it, and a checksum of all that. It holds tensors and JSON, nothing
that is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from resora.adapted.applied import Adapting, Applied, applied_to, fingerprint, name_of
from resora.adapted.state import adapter_state, copy_into
from resora.adapted.structure import restored_on_failure
from resora.adapted.values import check_finite, sha256_of

FORMAT = "resora.adapter/1"
KEY = "resora"
CHECKSUM = "sha256"
LARGEST_OPTION = 1 << 20


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
        ValueError: The model is not adapted, or a value is not finite or does not fit into ``dtype``.
        ImportError: safetensors is missing.
    """
    model = _unwrapped(model)
    if (applied := applied_to(model)) is None:
        raise ValueError(
            f"{type(model).__name__} is not adapted: there is no trained part to save. Save the model that "
            "was given to `adapt`; a merged or plain one is saved by torch.save(model.state_dict())"
        )
    state = {name: _for_file(name, value, dtype) for name, value in _state(model, applied).items()}
    method = applied.method
    about = _Saved(name_of(method), method.options(), applied.head, applied.backbone)
    text = json.dumps({"format": FORMAT, **asdict(about)}, sort_keys=True)
    write_tensors(Path(path), state, {KEY: text})


def load(model: nn.Module, path: str | os.PathLike[str]) -> Applied:
    """Load what ``save`` wrote: into a plain backbone, which is adapted first, or into an adapted model.

    The backbone has to be the one that the adapter was trained on, in the same data type (convert it
    afterwards). That is not checked where one of the two was adapted without values, on the meta device.
    If anything is raised, the model is what it was before.

    Args:
        model: The backbone with a head of the same shape, or a model that the same method has adapted;
            changed in place.
        path: Of the file.

    Returns:
        What is applied to the model now.

    Raises:
        ValueError: The file is damaged or of something else, or the model has another backbone, head or
            method.
        ImportError: safetensors is missing.
    """
    model = _unwrapped(model)
    tensors, metadata = read_tensors(Path(path))
    saved = _parsed(Path(path), metadata)
    _check_head(model, saved.head, tensors)
    if (applied := applied_to(model)) is None:
        _check_backbone(fingerprint(model, saved.head), saved.backbone)
        return adapt_with(model, _rebuilt(saved, tensors), saved.head, tensors)
    _check_same(applied, saved)
    copy_into(model, _state(model, applied), tensors)
    return applied


def adapt_with(
    model: nn.Module, method: Adapting, head: str, tensors: Mapping[str, Tensor]
) -> Applied:
    """Adapt a plain model, and copy tensors by name into its trained part and its head."""
    with restored_on_failure(model, all_values=method.changes_backbone):
        method.adapt(model, head)
        applied = applied_to(model)
        assert applied is not None
        copy_into(model, _state(model, applied), tensors)
    return applied


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file by name, and its metadata.

    Raises:
        ValueError: It is no such file, its checksum is wrong, or a value is not finite.
    """
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # of many types, by what is damaged
        raise ValueError(f"{path} is no whole safetensors file: {_one_line(error)}") from error
    if metadata.get(CHECKSUM, found := _checksum(tensors, metadata)) != found:
        raise ValueError(f"{path} is damaged: its content does not have the checksum in it")
    check_finite(path, tensors)
    return tensors, metadata


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with a checksum, whole or not at all; folders are made as needed.

    Raises:
        ValueError: A value is not finite.
    """
    _safetensors()
    from safetensors.torch import save_file

    check_finite("not saved", tensors)
    kept = {"format": "pt", **metadata, CHECKSUM: _checksum(tensors, metadata)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(dict(tensors), part, metadata=kept)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_object(source: object, text: str | bytes) -> dict[str, Any]:
    """Read a JSON object; a ``ValueError`` says in one line what is wrong with it."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{source} is not a JSON object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(f"{metadata.get(KEY, '')}\n{sha256_of(tensors)}".encode()).hexdigest()


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
    if strange := metadata.keys() - {"format", KEY, CHECKSUM}:
        raise ValueError(f"{path} is damaged: its metadata have {_short(strange.pop())}")
    about = read_object(f"{KEY!r} in the metadata of {path}", metadata[KEY])
    if (form := about.pop("format", None)) != FORMAT:
        raise ValueError(
            f"{path} has the format {_short(form)}, this version of resora reads {FORMAT}"
        )
    kinds = {"method": str, "options": dict, "head": str, "backbone": str}
    for name in sorted(kinds.keys() | about.keys()):
        if name not in kinds or not isinstance(about.get(name), kinds[name]):
            raise ValueError(
                f"{path} is damaged: {_short(name)} in its metadata is {_short(about.get(name))}"
            )
    return _Saved(**about)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a number with thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _rebuilt(saved: _Saved, tensors: Mapping[str, Tensor]) -> Adapting:
    from resora.petl import make_method  # which itself needs this package

    try:
        method = make_method(saved.method, **saved.options)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"the file's method cannot be made here ({_one_line(error)}); adapt the model yourself, then load"
        ) from error
    if differing := _differing(saved, method):
        raise ValueError(f"the file's method {_short(saved.method)} has no {_short(differing)}")
    # A larger size could take all memory before the comparison of shapes refuses it.
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for name, value in method.options().items():
        if isinstance(value, int) and value > (largest if name == "rank" else LARGEST_OPTION):
            raise ValueError(
                f"the option {name} of the file's method is {_short(value)}, which fits none of its tensors"
            )
    return method


def _differing(saved: _Saved, method: Adapting) -> dict[str, Any]:
    """Return the options of the file that are not those of a method, as JSON has them."""
    options = json.loads(json.dumps(method.options()))
    return {name: one for name, one in saved.options.items() if options.get(name) != one}


def _check_head(model: nn.Module, head: str, tensors: Mapping[str, Tensor]) -> None:
    if not head:
        return
    try:
        own = model.get_submodule(head).state_dict()
    except AttributeError as error:
        raise ValueError(
            f"the file was saved with the head {_short(head)}, which {type(model).__name__} does not have"
        ) from error
    start = f"{head}."
    saved = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    if (there := _shapes(saved)) != (here := _shapes(own)):
        raise ValueError(f"the head {head!r} has {there} in the file and {here} here")


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{n} {tuple(t.shape)}" for n, t in sorted(tensors.items())) or "no tensors"


def _check_same(applied: Applied, saved: _Saved) -> None:
    name, differing = name_of(applied.method), _differing(saved, applied.method)
    if name != saved.method or differing or saved.options.keys() != applied.method.options().keys():
        raise ValueError(
            f"the model is adapted by {name!r}, the file is of {_short(saved.method)}"
            + (f" with {_short(differing)}" if name == saved.method else "")
        )
    if applied.head != saved.head:
        raise ValueError(f"the head is {applied.head!r} here and {_short(saved.head)} in the file")
    _check_backbone(applied.backbone, saved.backbone)


def _check_backbone(own: str, saved: str) -> None:
    if own and saved and own != saved:
        raise ValueError(
            f"the adapter was trained on another backbone (fingerprint {_short(saved)}, here {own!r}): other "
            "weights, another architecture, another head name, or the same weights in another data type"
        )
