"""LoRA to and from the files of Hugging Face ``peft``: adapter_config.json and adapter_model.safetensors.

``peft`` is not needed for either. It has no updates of parts of a fused layer: an update of rank r for each
of M parts of ``qkv`` becomes one update of rank M r, whose A has the M matrices on top of each other, and
whose B has them on its block diagonal. That is the same function, and ``import_peft`` recognises the form.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from resora.adapted.applied import Applied, applied_to, check_plain, name_of
from resora.adapted.files import adapt_with, read_object, read_tensors, write_tensors
from resora.backbones import describe
from resora.petl.base import Factors
from resora.petl.layers.low_rank import MATRICES, LowRankLinear
from resora.petl.lora import LoRA

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
EXPORTED = ("lora", "moslora")
"""Methods whose update is B A x for fixed A and B; the mixer of ``moslora`` goes into A."""

UNKNOWN_HERE = (
    "use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "layer_replication",
    "target_parameters", "trainable_token_indices", "alora_invocation_tokens",
    "megatron_config", "velora_config", "kasa_config", "monteclora_config", "arrow_config",
)  # fmt: skip
"""Settings of ``peft`` with which the update is not B A x, or with which more than that is trained."""

NEEDED = ("r", "lora_alpha")
KINDS = {
    "r": "a whole number from 1",
    "lora_alpha": "a number",
    "rank_pattern": "whole numbers from 1 by the names of layers",
    "alpha_pattern": "numbers by the names of layers",
    "modules_to_save": "a list of names",
    "use_rslora": "true or false",
    "bias": "a text",
}
"""Settings that are read here, and what they are; all but the needed ones may be null or missing."""
LARGEST = 1e30


class _Update(NamedTuple):
    """The update of one layer as ``peft`` has it, scale x B A."""

    a: Tensor
    """(R, d_in)"""
    b: Tensor
    """(d_out, R)"""
    scale: float


def export_peft(
    model: nn.Module, folder: str | os.PathLike[str], *, base_model: str | None = None
) -> None:
    """Write a model's LoRA so that ``PeftModel.from_pretrained(backbone, folder)`` computes the same.

    The head becomes one of ``modules_to_save``.

    Args:
        model: A model that ``lora`` or ``moslora`` has adapted.
        folder: Where the two files go; it is made if need be.
        base_model: Name of the backbone for ``base_model_name_or_path``; None: left out.

    Raises:
        ValueError: The model is adapted by something else, or not at all, or a value is not finite.
        ImportError: safetensors is missing.
    """
    if (applied := applied_to(model)) is None:
        raise ValueError(f"{type(model).__name__} is not adapted: there is no LoRA to export")
    if name_of(applied.method).partition("-")[0] not in EXPORTED:
        raise ValueError(
            f"{name_of(applied.method)} has no form in peft's LoRA (exported: {', '.join(EXPORTED)}); "
            "resora.adapted.save keeps it"
        )
    tensors: dict[str, Tensor] = {}
    updates: dict[str, _Update] = {}
    for path, module in model.named_modules():
        if isinstance(module, LowRankLinear):
            updates[path] = update = _exported(module)
            tensors[f"{PREFIX}{path}.lora_A.weight"] = update.a
            tensors[f"{PREFIX}{path}.lora_B.weight"] = update.b
    if applied.head:
        for name, value in model.get_submodule(applied.head).state_dict().items():
            tensors[f"{PREFIX}{applied.head}.{name}"] = value.detach()
    kept = {name: t.to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    write_tensors(Path(folder) / WEIGHTS, kept, {})
    text = json.dumps(_config(updates, applied.head, base_model), indent=2) + "\n"
    (Path(folder) / CONFIG).write_text(text, encoding="utf-8")


def import_peft(
    model: nn.Module, folder: str | os.PathLike[str], *, head: str | None = None
) -> Applied:
    """Adapt a plain backbone by ``lora`` with the LoRA that ``peft`` has saved in ``folder``.

    The files do not say which weights the backbone had; nothing checks that it is the same one.

    Args:
        model: The plain backbone; changed in place.
        folder: With adapter_config.json and adapter_model.safetensors.
        head: Dotted name of the task head; None: that of ``modules_to_save``, or none.

    Returns:
        What is applied to the model now.

    Raises:
        ValueError: A file is damaged, or the adapter is something else than the same LoRA of the same
            matrices in every block, or does not fit the model. The model is not changed then.
        ImportError: safetensors is missing.
    """
    check_plain(model)
    path = Path(folder) / CONFIG
    config = read_object(path, path.read_bytes())
    _check_config(path, config)
    tensors, _ = read_tensors(Path(folder) / WEIGHTS)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    updates = _updates(tensors, config)
    rest = {n: t for n, t in tensors.items() if ".lora_A." not in n and ".lora_B." not in n}
    head = _head(model, rest, config) if head is None else head
    method, factors = _as_lora(model, updates)
    state = {f"{path}.lora_a": found.a for path, found in factors.items() if found.a is not None}
    state |= {f"{path}.lora_b": found.b for path, found in factors.items()}
    whole = model.get_submodule(head).state_dict() if head else {}
    own = {f"{head}.{name}": value for name, value in whole.items()}
    if strange := sorted(rest.keys() - own.keys()):
        raise ValueError(f"the files hold more than a LoRA and the head {head!r}: {strange[0]}")
    state |= {name: rest.get(name, value.detach().clone()) for name, value in own.items()}
    if wrong := [n for n, value in own.items() if state[n].shape != value.shape]:
        raise ValueError(
            f"{wrong[0]!r} is {tuple(state[wrong[0]].shape)} in the files and "
            f"{tuple(own[wrong[0]].shape)} in the model"
        )
    return adapt_with(model, method, head, state)


@torch.no_grad()
def _exported(layer: LowRankLinear) -> _Update:
    """Stack the A of the adapted parts, and put their B on the block diagonal."""
    factors = layer.factors()
    width = factors.b.shape[-1]
    b = factors.b.new_zeros(width * len(layer.parts), layer.rank * len(layer.adapted))
    for m, part in enumerate(layer.adapted):
        rows, columns = layer.parts.index(part) * width, m * layer.rank
        b[rows : rows + width, columns : columns + layer.rank] = factors.b[m].T
    return _Update(layer.rows().flatten(0, 1), b, factors.scale)


def _config(updates: Mapping[str, _Update], head: str, base_model: str | None) -> dict[str, Any]:
    ranks = {path: len(update.a) for path, update in updates.items()}
    ((rank, _),) = Counter(ranks.values()).most_common(1)
    scale = next(iter(updates.values())).scale
    others = {path: r for path, r in ranks.items() if r != rank}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _number(scale * rank),
        "rank_pattern": others,
        "alpha_pattern": {path: _number(scale * r) for path, r in others.items()},
        "target_modules": list(updates),
        "modules_to_save": [head] if head else None,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise ValueError(f"the adapter is peft's {config.get('peft_type')!r}, not LORA")
    for name, kind in KINDS.items():
        value = config.get(name)
        if not _is_right(name, value) and (value is not None or name in NEEDED):
            raise ValueError(f"{path}: {name} is {repr(value)[:60]}; it has to be {kind}")
    if strange := [name for name in UNKNOWN_HERE if config.get(name)]:
        raise ValueError(f"the adapter has {strange[0]}, which the LoRA here does not know")
    if config.get("bias", "none") != "none":
        raise ValueError(f"the adapter trains biases as well (bias={config['bias']!r})")


def _is_right(name: str, value: Any) -> bool:
    if name in ("rank_pattern", "alpha_pattern"):
        of = "r" if name == "rank_pattern" else "lora_alpha"
        return isinstance(value, dict) and all(_is_right(of, one) for one in value.values())
    if name == "modules_to_save":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name in NEEDED:
        kind, least = (int, 0) if name == "r" else ((int, float), -LARGEST)
        return isinstance(value, kind) and not isinstance(value, bool) and least < value < LARGEST
    return isinstance(value, bool if name == "use_rslora" else str)


def _updates(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, _Update]:
    found = {}
    for name, a in tensors.items():
        path, is_a, _ = name.partition(".lora_A.")
        if not is_a:
            continue
        b = tensors.get(f"{path}.lora_B.weight")
        if b is None or a.dim() != 2 or b.dim() != 2 or len(a) != b.shape[1]:
            raise ValueError(f"{path!r} is no linear layer with a lora_A and a lora_B")
        if len(a) != (r := _of_layer(config.get("rank_pattern"), path, config["r"])):
            raise ValueError(f"{path!r} has the rank {len(a)} in {WEIGHTS} and {r} in {CONFIG}")
        alpha = _of_layer(config.get("alpha_pattern"), path, config["lora_alpha"])
        rank = math.sqrt(len(a)) if config.get("use_rslora") else len(a)
        found[path] = _Update(a, b, alpha / rank)
    if not found:
        raise ValueError("the adapter has no LoRA of linear layers")
    return found


def _of_layer(pattern: Mapping[str, float] | None, path: str, default: float) -> float:
    """Return a layer's value: keys of ``peft``'s patterns are ends of names, or regular expressions."""
    for key, value in (pattern or {}).items():
        try:
            is_meant = re.match(rf"(.*\.)?({key})$", path)
        except re.error as error:
            raise ValueError(
                f"{key!r} in a pattern of {CONFIG} is no expression: {error}"
            ) from error
        if is_meant:
            return value
    return default


def _head(model: nn.Module, rest: Mapping[str, Tensor], config: Mapping[str, Any]) -> str:
    asked = config.get("modules_to_save") or []
    found = [
        path
        for path, _ in model.named_modules()
        if path
        and any(path == name or path.endswith(f".{name}") for name in asked)
        and any(name.startswith(f"{path}.") for name in rest)
    ]
    if len(found) > 1 or (asked and not found):
        raise ValueError(
            f"modules_to_save={asked} is not one module of {type(model).__name__}; name the task head"
        )
    return found[0] if found else ""


def _as_lora(model: nn.Module, updates: Mapping[str, _Update]) -> tuple[LoRA, dict[str, Factors]]:
    """Find the ``lora`` that computes these updates, and the factors of its layers."""
    backbone = describe(model)
    places = {place.path: place.parts for block in backbone.blocks for place in block.linears}
    if strange := [path for path in updates if path not in places]:
        raise ValueError(f"{strange[0]!r} is none of the layers that lora adapts in this model")
    for path, update in updates.items():
        base = cast(nn.Linear, model.get_submodule(path))
        sizes = (base.in_features, base.out_features)
        if sizes != (update.a.shape[1], update.b.shape[0]):
            raise ValueError(
                f"{path!r} is {update.a.shape[1]} -> {update.b.shape[0]} in the files and "
                f"{sizes[0]} -> {sizes[1]} in the model"
            )
    parted = {path: _parted(update, places[path]) for path, update in updates.items()}
    fused = any(found is None for found in parted.values())
    factors: dict[str, Factors] = {}
    for path, update in updates.items():
        found = parted[path]
        if fused or found is None:
            names = places[path]
            found = Factors(update.b.T[None], update.a[None], update.scale, names)
        factors[path] = found
    rank, scale = _in_common(factors)
    wanted = {name for found in factors.values() for name in found.names}
    targets = tuple(name for name in MATRICES if name in wanted)
    for method in (
        LoRA(rank=rank, scale=scale, fused=fused),
        LoRA(rank=rank, scale=scale, targets=targets, fused=fused),
    ):
        expected = {path: adapted for path, _, adapted in method.matrices(backbone)}
        if expected.keys() == factors.keys() and all(
            fused or factors[path].names == adapted for path, adapted in expected.items()
        ):
            return method, factors
    raise ValueError("the adapter does not have the same matrices in every block of the model")


def _in_common(factors: Mapping[str, Factors]) -> tuple[int, float]:
    """Return the rank and the scale of all layers."""
    (rank, scale), *others = [(found.b.shape[1], found.scale) for found in factors.values()]
    for other in others:
        # alpha is a rounded product, so that layers of one scale may differ in its last digit.
        if other[0] != rank or not math.isclose(other[1], scale):
            raise ValueError(
                f"the layers differ in rank and scale ({(rank, scale)} and {other}); lora has one of each"
            )
    return rank, scale


def _parted(update: _Update, parts: tuple[str, ...]) -> Factors | None:
    """Split an update into those of a layer's parts; None if B is not block diagonal."""
    a, b, scale = update
    by_part = b.unflatten(0, (len(parts), -1))
    is_used = by_part.ne(0).any(1)
    if len(parts) > 1 and not is_used.any():
        return None
    for count in range(len(parts), 0, -1):
        if len(a) % count:
            continue
        rank = len(a) // count
        for taken in combinations(range(len(parts)), count):
            blocks = torch.zeros_like(is_used)
            for m, part in enumerate(taken):
                blocks[part, m * rank : (m + 1) * rank] = True
            if not (is_used & ~blocks).any():
                each = [by_part[p, :, m * rank : (m + 1) * rank].T for m, p in enumerate(taken)]
                names = tuple(parts[part] for part in taken)
                return Factors(torch.stack(each), a.unflatten(0, (count, rank)), scale, names)
    return None
