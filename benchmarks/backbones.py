"""The backbones by the name that cells carry, built by timm, with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks import weight_values, weights
from benchmarks.harness.errors import UsageError, unknown
from benchmarks.harness.provenance import ROOT, file_sha256
from benchmarks.weights import RANDOM, Weights
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402 - the guard has to come first
from safetensors.torch import load_file  # noqa: E402
from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

EMBEDDED = ROOT / "data_prep" / "embedded" / "backbones"


@dataclass(frozen=True)
class Files:
    """Where published weights are looked for on this machine.

    Attributes:
        folder: Files of weights by name; None: only the cache of the Hugging Face hub, and the hub.
        given: The file that a person gave.
    """

    folder: Path | None = None
    given: Path | None = None


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
    input_size: int = 32

    def build(
        self, config: dict[str, Any], num_classes: int, files: Files
    ) -> tuple[nn.Module, Weights]:
        """Build the network; all but the classification layer comes from the file."""
        model = self.kind(
            **self.settings, num_classes=num_classes, drop_path_rate=config["drop_path"]
        )
        if config["weights"] == RANDOM:
            return model, Weights(RANDOM, None)
        path = self.find(config, files, fetch=True)
        _load_all_but_head(model, self.head, path)
        return model, Weights(path.relative_to(ROOT).as_posix(), file_sha256(path))

    def find(self, config: dict[str, Any], files: Files, *, fetch: bool) -> Path:
        """Return the file of the weights."""
        if weights.is_given(config["weights"]):
            raise UsageError(
                f"{config['name']} has its own weights; --weights FILE is for the paper's networks"
            )
        path = EMBEDDED / f"{config['weights']}.safetensors"
        if not path.exists():
            raise UsageError(
                f"{path.name} is missing; make it with "
                f"`python -m data_prep.embedded.pretrain --backbone {config['name']}`"
            )
        weight_values.check_embedded(path, path.with_suffix(".json"))
        return path


@dataclass(frozen=True)
class Published:
    """A network of the paper.

    Attributes:
        architecture: timm's name of it; a checkpoint's name has a tag behind it.
        head: Name of the classification layer.
    """

    architecture: str
    head: str
    input_size: int = 224

    def build(
        self, config: dict[str, Any], num_classes: int, files: Files
    ) -> tuple[nn.Module, Weights]:
        """Build the network; all but the classification layer comes from the checkpoint."""
        name = config["weights"]
        file = None if name == RANDOM else self.find(config, files, fetch=True)
        model = timm.create_model(
            self.architecture, num_classes=num_classes, drop_path_rate=config["drop_path"]
        )
        if file is None:
            return model, Weights(RANDOM, None)
        weights.load(model, self.head, file)
        return model, weights.weights_of(name, file)

    def find(self, config: dict[str, Any], files: Files, *, fetch: bool) -> Path | None:
        """Return the file of the weights; None if it is on the hub and is not to be fetched."""
        name = config["weights"]
        if not weights.is_given(name):
            weights.check_name(name, self.architecture, config["name"])
        return weights.find(name, files.folder, files.given, fetch=fetch)


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


def build(
    config: dict[str, Any], num_classes: int, files: Files | None = None
) -> tuple[nn.Module, Weights]:
    """Build a pre-trained backbone with a fresh classification layer.

    What lies between the pooling and that layer, such as ConvNeXt's ``head.norm``, is pre-trained too.

    Args:
        config: The section ``backbone`` of a cell's configuration: name, weights, drop_path. The weights
            are ``random``, a file of the embedded world, timm's name of a checkpoint, or the name and hash
            of a file that a person gave.
        num_classes: Outputs of the head.
        files: Where published weights are looked for.

    Raises:
        UsageError: There is no such backbone, or its weights are not at hand or another network's.
    """
    return _known(config["name"]).build(config, num_classes, files or Files())


def find_weights(config: dict[str, Any], files: Files, *, fetch: bool) -> None:
    """Raise a ``UsageError`` unless the weights can be had and fit; it says which file to put where.

    Args:
        config: The section ``backbone`` of a cell's configuration.
        files: Where published weights are looked for.
        fetch: Whether to ask the Hugging Face hub; if not, weights that are there alone are missing.
    """
    name = config["weights"]
    if name == RANDOM:
        return
    if _known(config["name"]).find(config, files, fetch=fetch) is None:
        raise UsageError(
            f"the weights {name!r} of {config['name']} are not on this machine; a run fetches them from the "
            f"Hugging Face hub, or {weights.missing(name, files.folder)}"
        )
    build(config, 2, files)  # weights of another network are told here once, not by every cell


def head_of(name: str) -> str:
    """Return the name of a backbone's classification layer, the only one that is not pre-trained.

    Raises:
        UsageError: There is no such backbone.
    """
    return _known(name).head


def input_size(name: str) -> int:
    """Return the height and width of a backbone's input.

    Raises:
        UsageError: There is no such backbone.
    """
    return _known(name).input_size


def _known(name: str) -> Small | Published:
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES, "python -m benchmarks ls")
    return BACKBONES[name]


def _load_all_but_head(model: nn.Module, head: str, path: Path) -> None:
    try:
        state = load_file(path)
    except Exception as error:
        raise UsageError(f"{path.name} cannot be read as weights: {error}") from error
    ours = {
        key: value for key, value in model.state_dict().items() if not key.startswith(f"{head}.")
    }
    wrong = [key for key in ours.keys() | state.keys() if _shape(ours, key) != _shape(state, key)]
    if wrong:
        raise UsageError(
            f"{path.name} does not fit {type(model).__name__}: {', '.join(sorted(wrong)[:3])}"
        )
    weight_values.check_values(model, path, state)
    model.load_state_dict(state, strict=False)


def _shape(state: dict[str, Any], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None
