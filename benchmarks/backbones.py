"""The backbones by the name that cells carry, built by timm, with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.provenance import ROOT, file_sha256
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402 - the guard has to come first
from safetensors.torch import load_file  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

EMBEDDED = ROOT / "data_prep" / "embedded" / "backbones"

HEAD = "head"
"""Name of the classification head in timm's vision transformers."""


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights came from.

    Attributes:
        id: Name of the file or of the published checkpoint.
        sha256: Hash of the file; None for a checkpoint that timm fetched itself.
    """

    id: str
    sha256: str | None


def build(config: dict[str, Any], num_classes: int) -> tuple[nn.Module, Weights]:
    """Build a pre-trained backbone with a fresh head.

    Args:
        config: The section ``backbone`` of a cell's configuration: name, weights, drop_path.
        num_classes: Outputs of the head.

    Raises:
        UsageError: There is no such backbone, or its weights are not at hand.
    """
    name = config["name"]
    if name not in BUILDERS:
        raise unknown("backbone", name, BUILDERS, "python -m benchmarks ls")
    return BUILDERS[name](config, num_classes)


def _vit_micro(config: dict[str, Any], num_classes: int) -> tuple[nn.Module, Weights]:
    model = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=160,
        depth=6,
        num_heads=5,
        num_classes=num_classes,
        drop_path_rate=config["drop_path"],
    )
    if config["weights"] == "random":
        return model, Weights("random", None)
    path = EMBEDDED / f"{config['weights']}.safetensors"
    _load_all_but_head(model, path)
    return model, Weights(path.relative_to(ROOT).as_posix(), file_sha256(path))


def _vit_b16(config: dict[str, Any], num_classes: int) -> tuple[nn.Module, Weights]:
    if config["weights"] == "random":
        model = timm.create_model(
            "vit_base_patch16_224", num_classes=num_classes, drop_path_rate=config["drop_path"]
        )
        return model, Weights("random", None)
    try:
        model = timm.create_model(
            config["weights"],
            pretrained=True,
            num_classes=num_classes,
            drop_path_rate=config["drop_path"],
        )
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"the weights {config['weights']!r} of vit_b16 could not be fetched by timm; "
            f"they have to be in the Hugging Face cache or reachable ({error})"
        ) from error
    return model, Weights(config["weights"], None)


BUILDERS = {"vit_micro": _vit_micro, "vit_b16": _vit_b16}


def _load_all_but_head(model: nn.Module, path: Path) -> None:
    if not path.exists():
        raise UsageError(
            f"{path.name} is missing; make it with `python -m data_prep.embedded.pretrain`"
        )
    state = {key: value.float() for key, value in load_file(path).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [key for key in missing if not key.startswith(f"{HEAD}.")] + unexpected
    if wrong:
        raise ValueError(f"{path.name} does not fit {type(model).__name__}: {', '.join(wrong[:3])}")
