"""Small vision backbones, adapted as training might leave them, for the tests of files."""

from __future__ import annotations

import torch

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()
from timm.models import SwinTransformer, VisionTransformer  # noqa: E402

from resora.adapted import adapter_state  # noqa: E402
from resora.petl import make_method  # noqa: E402


def vit(seed=0, classes=5, width=24):
    torch.manual_seed(seed)
    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=width, depth=3, num_heads=2, num_classes=classes
    ).eval()


def swin():
    torch.manual_seed(0)
    return SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4),
        num_classes=5,
    ).eval()  # fmt: skip


def images(size=16):
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def trained(name="lora-r2", model=None, head="head", **options):
    """A model as training might leave it: everything that is trained has moved."""
    model = vit() if model is None else model
    make_method(name, **options).adapt(model, head)
    torch.manual_seed(7)
    for value in adapter_state(model).values():
        if value.is_floating_point():
            value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def unchanged(model, before):
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[n], before[n]) for n in now)
