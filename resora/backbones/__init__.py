"""Descriptions of the parts of a backbone, so that one implementation of a method fits all of them.

``describe`` looks at the structure of a model, not at its class: timm's ViT, Swin and ConvNeXt, the BERT
and CLIP of transformers, and anything else with fused ``qkv`` projections. The backbone may be a part of a
larger model, such as one with a task head.
"""

from __future__ import annotations

from torch import nn

from resora.backbones.parts import Backbone, Block, Place, Tower, UnknownBackbone
from resora.backbones.transformers_models import bert, clip
from resora.backbones.vision import convnext, fused_attention, swin, vit

__all__ = ["KINDS", "Backbone", "Block", "Place", "Tower", "UnknownBackbone", "describe"]

DESCRIBERS = (swin, vit, convnext, clip, bert)

KINDS = ("vit", "swin", "convnext", "bert", "clip")
"""The kinds of backbone whose every part is known. ``describe`` calls any other model with fused ``qkv``
projections ``attention``; of such a model only these projections are known."""


def describe(model: nn.Module) -> Backbone:
    """Return where the parts of the backbone in ``model`` are.

    Raises:
        UnknownBackbone: The model has no part of a known structure.
    """
    for name, module in model.named_modules():
        for describer in DESCRIBERS:
            if (found := describer(module, name)) is not None:
                return found
    if (found := fused_attention(model)) is not None:
        return found
    raise UnknownBackbone(
        f"{type(model).__name__} has no backbone that is known here: timm's vision transformers, Swin and "
        "ConvNeXt, BERT and CLIP of transformers, or attention with a fused `qkv` Linear"
    )
