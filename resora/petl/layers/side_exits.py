"""On which device a side network is built, and which frozen output it replaces."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from resora.backbones import Backbone, Tower

PROJECTIONS = {"vision": "visual_projection", "text": "text_projection"}


def check_sizes(name: str, **sizes: int | None) -> None:
    """Raise a ``ValueError`` if an option that is given is no positive integer."""
    for option, value in sizes.items():
        if value is not None and (value < 1 or value != int(value)):
            raise ValueError(f"{option} of {name} is a positive integer; got {value}")


def device_of(model: nn.Module, backbone: Backbone) -> torch.device:
    """Return the device of the backbone's first block; as a context, modules are built there."""
    return next(model.get_submodule(backbone.blocks[0].path).parameters()).device


def token_exit(tower: Tower, out_features: int | None) -> str:
    """Return the module of a BERT whose output is replaced.

    That is the encoder, before the pooler; if the width is not that of the pooler's input, the whole model.
    """
    if out_features is None or out_features == tower.width:
        return ".".join(filter(None, (tower.path, "encoder")))
    return tower.path


def embedding_exit(model: nn.Module, tower: Tower, name: str) -> tuple[str, int]:
    """Return the projection beside a tower of CLIP, whose output is replaced, and its width.

    Raises:
        ValueError: The model has a tower without it.
    """
    parent, _, _ = tower.path.rpartition(".")
    path = ".".join(filter(None, (parent, PROJECTIONS[tower.name])))
    try:
        projection: Any = model.get_submodule(path) if tower.path else None
    except AttributeError:
        projection = None
    if projection is None:
        raise ValueError(
            f"{name} needs the projection of CLIP's {tower.name} tower ({PROJECTIONS[tower.name]}), which "
            "CLIPModel has and a bare tower has not"
        )
    return path, int(projection.out_features)


def feature_exit(model: nn.Module, tower: Tower, name: str) -> str:
    """Return the module of timm's ViT that returns the pooled and normalised feature.

    Raises:
        ValueError: There is none.
    """
    if hasattr(holder := model.get_submodule(tower.path), "head_dist"):
        raise ValueError(
            f"{name} puts one feature before the head, and {type(holder).__name__} has two heads on two "
            "tokens (distilled)"
        )
    path = ".".join(filter(None, (tower.path, "fc_norm")))
    try:
        model.get_submodule(path)
    except AttributeError:
        raise ValueError(
            f"{name} needs a ViT that pools its tokens to one feature (fc_norm in timm), which "
            f"{type(model.get_submodule(tower.path)).__name__} has not"
        ) from None
    return path
