"""Small backbones of every kind, adapted by LoRA and its relatives, and a toy training."""

from __future__ import annotations

from functools import partial

import torch

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402
from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

from resora.petl import make_method  # noqa: E402

FAMILY = ("lora-r2", "moslora-r2", "adalora-r2", "srlora-r2")
KINDS = ("vit", "swin", "convnext", "bert", "clip")
HEADS = {"vit": "head", "swin": "head.fc", "convnext": "head.fc", "bert": "", "clip": ""}
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def clip():
    text = CLIPTextConfig(hidden_size=24, vocab_size=50, eos_token_id=49, **SMALL)
    vision = CLIPVisionConfig(hidden_size=24, image_size=16, patch_size=8, **SMALL)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8
    )
    return CLIPModel(config)


BACKBONES = {
    "vit": partial(
        VisionTransformer,
        img_size=16,
        patch_size=8,
        embed_dim=24,
        depth=3,
        num_heads=2,
        num_classes=5,
    ),
    "swin": partial(
        SwinTransformer,
        img_size=32,
        patch_size=2,
        window_size=4,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=5,
    ),
    "convnext": partial(
        ConvNeXt,
        depths=(1, 1, 2, 1),
        dims=(8, 16, 24, 32),
        patch_size=2,
        num_classes=5,
        ls_init_value=None,
    ),
    "bert": lambda: BertModel(BertConfig(hidden_size=24, vocab_size=50, **SMALL)),
    "clip": clip,
}


def plain(kind="vit", dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return BACKBONES[kind]().to(dtype).eval()


def adapted(name, kind="vit", dtype=torch.float32, **options):
    model = plain(kind, dtype)
    method = make_method(name, **options)
    method.adapt(model, HEADS[kind])
    return method, model


def outputs(model, kind="vit"):
    generator = torch.Generator().manual_seed(1)
    dtype = next(model.parameters()).dtype
    size = 16 if kind in ("vit", "clip") else 32
    images = torch.randn(3, 3, size, size, generator=generator).to(dtype)
    words = torch.randint(1, 49, (3, 6), generator=generator)
    words[:, -1] = 49
    if kind == "bert":
        return model(input_ids=words).pooler_output
    if kind == "clip":
        return model(input_ids=words, pixel_values=images).logits_per_image
    return model(images)


def train(method, model, steps, total=None, kind="vit", optimizer=None, start=0):
    """Some steps of training; ``total`` is the length of the schedule."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.Adam(parameters, lr=1e-2)
    total = steps if total is None else total
    for step in range(start, start + steps):
        step = min(step, total)
        method.before_forward(model, step, total)
        loss = (outputs(model, kind) - 1).square().mean()
        if (extra := method.extra_loss(model)) is not None:
            loss = loss + extra
        optimizer.zero_grad()
        loss.backward()
        method.before_step(model, step, total)
        optimizer.step()
        method.after_step(model, step, total, optimizer)
    return optimizer


def trained(model, head="head"):
    return sum(
        p.numel()
        for name, p in model.named_parameters()
        if p.requires_grad and not (head and name.startswith(f"{head}."))
    )


def on_meta(make, name, head="", **options):
    with torch.device("meta"):
        model = make()
    method = make_method(name, **options)
    method.adapt(model, head)
    return method, model


VIT_B = partial(timm.create_model, "vit_base_patch16_224", num_classes=100)
BERT_B = partial(BertModel, BertConfig())
CLIP_B = partial(CLIPModel, CLIPConfig())
