"""Tiny backbones of the kinds that side networks fit, and what an adapted one gives out."""

from __future__ import annotations

import pytest
import torch

from data_prep.torchvision_guard import ensure_torchvision
from resora.petl import make_method

ensure_torchvision()  # timm and transformers import torchvision

import timm  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

transformers = pytest.importorskip("transformers")

METHODS = ("lst", "unipt")
KINDS = ("vit", "bert", "clip")


def vit(**options):
    torch.manual_seed(0)
    settings = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    return VisionTransformer(**{**settings, **options}, num_classes=5)


def swin():
    depths = {"depths": (2, 2), "num_heads": (2, 4)}
    sizes = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 16}
    return SwinTransformer(**sizes, **depths, num_classes=5)


def vit_b16():
    """ViT-B/16 without values."""
    with torch.device("meta"):
        return timm.create_model("vit_base_patch16_224")


def bert(**options):
    torch.manual_seed(0)
    settings = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 50,
    }
    return transformers.BertModel(transformers.BertConfig(**settings, **options))


def clip(eos=40):
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "vocab_size": 50,
        "max_position_embeddings": 12,
        "eos_token_id": eos,
        "bos_token_id": 1,
        "pad_token_id": 0,
        **layers,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "image_size": 16,
        "patch_size": 8,
        **layers,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    return transformers.CLIPModel(config)


TEXT = torch.tensor([[1, 7, 8, 9, 10, 40, 0, 0], [1, 5, 40, 0, 0, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
BUILD = {"vit": vit, "bert": bert, "clip": clip}
HEAD = {"vit": "head", "bert": "", "clip": ""}


def images(count=2):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def outputs(model, kind):
    """The adapted outputs, flat."""
    if kind == "vit":
        return model(images()).flatten()
    if kind == "bert":
        return model(TEXT, attention_mask=MASK).last_hidden_state.flatten()
    out = model(input_ids=TEXT, pixel_values=images())
    return torch.cat([out.image_embeds.flatten(), out.text_embeds.flatten()])


def adapted(method, kind, **options):
    model = BUILD[kind]()
    torch.manual_seed(2)
    make_method(method, **options).adapt(model, HEAD[kind])
    return model.eval()
