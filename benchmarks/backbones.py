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
from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

EMBEDDED = ROOT / "data_prep" / "embedded" / "backbones"


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights came from.

    Attributes:
        id: Name of the file or of the published checkpoint.
        sha256: Hash of the file; None for a checkpoint that timm fetched itself.
    """

    id: str
    sha256: str | None


@dataclass(frozen=True)
class Small:
    """A network of the embedded world, whose weights are files of this repository.

    Attributes:
        kind: timm's class.
        settings: Its arguments; ``EMBEDDED/<name>.json`` says the same.
        head: Name of the classification layer.
    """

    kind: type[nn.Module]
    settings: dict[str, Any]
    head: str

    def build(self, config: dict[str, Any], num_classes: int) -> tuple[nn.Module, Weights]:
        """Build the network; all but the classification layer comes from the file."""
        model = self.kind(
            **self.settings, num_classes=num_classes, drop_path_rate=config["drop_path"]
        )
        if config["weights"] == "random":
            return model, Weights("random", None)
        path = EMBEDDED / f"{config['weights']}.safetensors"
        if not path.exists():
            raise UsageError(
                f"{path.name} is missing; make it with "
                f"`python -m data_prep.embedded.pretrain --backbone {config['name']}`"
            )
        _load_all_but_head(model, self.head, path)
        return model, Weights(path.relative_to(ROOT).as_posix(), file_sha256(path))


@dataclass(frozen=True)
class Published:
    """A network of the paper, whose weights timm fetches from the Hugging Face hub.

    Attributes:
        architecture: timm's name of it; a checkpoint's name has a tag behind it.
        head: Name of the classification layer.
    """

    architecture: str
    head: str

    def build(self, config: dict[str, Any], num_classes: int) -> tuple[nn.Module, Weights]:
        """Build the network; all but the classification layer comes from the checkpoint."""
        weights = config["weights"]
        options = {"num_classes": num_classes, "drop_path_rate": config["drop_path"]}
        if weights == "random":
            return timm.create_model(self.architecture, **options), Weights("random", None)
        if weights.partition(".")[0] != self.architecture:
            raise UsageError(
                f"the weights {weights!r} are not those of {config['name']}, "
                f"which timm calls {self.architecture}"
            )
        try:
            model = timm.create_model(weights, pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"the weights {weights!r} of {config['name']} could not be fetched by timm; "
                f"they have to be in the Hugging Face cache or reachable ({error})"
            ) from error
        return model, Weights(weights, None)


BACKBONES: dict[str, Small | Published] = {
    "vit_micro": Small(
        VisionTransformer,
        {"img_size": 32, "patch_size": 8, "embed_dim": 160, "depth": 6, "num_heads": 5},
        head="head",
    ),
    "swin_micro": Small(
        SwinTransformer,
        {
            "img_size": 32,
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 40,
            "depths": (2, 2, 4),
            "num_heads": (2, 4, 8),
        },
        head="head.fc",
    ),
    "convnext_micro": Small(
        ConvNeXt,
        {"patch_size": 2, "depths": (2, 2, 4, 2), "dims": (32, 64, 128, 256), "ls_init_value": 0.1},
        head="head.fc",
    ),
    "vit_b16": Published("vit_base_patch16_224", head="head"),
    "swin_b": Published("swin_base_patch4_window7_224", head="head.fc"),
    "convnext_b": Published("convnext_base", head="head.fc"),
}


def build(config: dict[str, Any], num_classes: int) -> tuple[nn.Module, Weights]:
    """Build a pre-trained backbone with a fresh classification layer.

    What lies between the pooling and that layer, such as ConvNeXt's ``head.norm``, is pre-trained too.

    Args:
        config: The section ``backbone`` of a cell's configuration: name, weights, drop_path. The weights
            are ``random``, a file of the embedded world, or timm's name of a checkpoint.
        num_classes: Outputs of the head.

    Raises:
        UsageError: There is no such backbone, or its weights are not at hand or another network's.
    """
    return _known(config["name"]).build(config, num_classes)


def head_of(name: str) -> str:
    """Return the name of a backbone's classification layer, the only one that is not pre-trained.

    Raises:
        UsageError: There is no such backbone.
    """
    return _known(name).head


def _known(name: str) -> Small | Published:
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES, "python -m benchmarks ls")
    return BACKBONES[name]


def _load_all_but_head(model: nn.Module, head: str, path: Path) -> None:
    state = {key: value.float() for key, value in load_file(path).items()}
    ours = {
        key: value for key, value in model.state_dict().items() if not key.startswith(f"{head}.")
    }
    wrong = [key for key in ours.keys() | state.keys() if _shape(ours, key) != _shape(state, key)]
    if wrong:
        raise UsageError(
            f"{path.name} does not fit {type(model).__name__}: {', '.join(sorted(wrong)[:3])}"
        )
    model.load_state_dict(state, strict=False)


def _shape(state: dict[str, Any], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None
