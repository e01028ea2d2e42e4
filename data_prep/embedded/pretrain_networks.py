"""The networks that are pre-trained: how timm builds each, and what its heads read.

Three families over 32 x 32 pixels, each below 4 MB in half precision: a vision transformer, a Swin
transformer and a ConvNeXt. They end with different maps (a class token and 4 x 4 patches; 4 x 4 cells; one
cell); ``pooled_and_cells`` brings them to one form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer, WindowAttention  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402


@dataclass(frozen=True)
class Network:
    """How one backbone is built.

    Attributes:
        kind: timm's class.
        settings: its arguments, but for the number of classes.
        width: channels of its final map.
        side: cells of its final map along an edge.
    """

    kind: type[nn.Module]
    settings: dict[str, Any]
    width: int
    side: int

    def build(self) -> nn.Module:
        """The network without a classifier, with random weights, in its faster form on a CPU."""
        model: Any = self.kind(num_classes=0, **self.settings)
        for block in model.modules():
            # Written out, Swin's attention with its bias takes a fifth less time.
            if isinstance(block, WindowAttention):
                block.fused_attn = False
        model.to(memory_format=torch.channels_last)
        return model


NETWORKS = {
    "vit_micro": Network(
        VisionTransformer,
        {"img_size": 32, "patch_size": 8, "embed_dim": 160, "depth": 6, "num_heads": 5},
        width=160,
        side=4,
    ),
    "swin_micro": Network(
        SwinTransformer,
        {
            "img_size": 32,
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 40,
            "depths": (2, 2, 4),
            "num_heads": (2, 4, 8),
            "drop_path_rate": 0.0,
        },
        width=160,
        side=4,
    ),
    "convnext_micro": Network(
        ConvNeXt,
        # Stem and first stage both halve the map: its sides are 16, then 8, 4, 2 and 1. The layer scale of
        # long trainings (1e-6) would leave the blocks idle for most of a short one.
        {"patch_size": 2, "depths": (2, 2, 4, 2), "dims": (32, 64, 128, 256), "ls_init_value": 0.1},
        width=256,
        side=1,
    ),
}


def pooled_and_cells(backbone: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """What a classifier would see of each image, and the final map.

    Args:
        backbone: a network of this module.
        images: (B, 3, 32, 32).

    Returns:
        The class token, or the mean over the map with the norm that follows it (B, width); the final map
        row by row, without the class token (B, side * side, width).
    """
    network: Any = backbone
    final = network.forward_features(images)
    pooled = network.forward_head(final, pre_logits=True)
    if isinstance(backbone, VisionTransformer):
        return pooled, final[:, 1:]
    if isinstance(backbone, ConvNeXt):
        final = final.permute(0, 2, 3, 1)
    return pooled, final.flatten(1, 2)


def onto_patches(answers: Tensor, side: int, grid: int) -> Tensor:
    """Deal out a coarser map's answers to the patches beneath each of its cells.

    Args:
        answers: (B, side * side, (grid / side)^2 * size); a cell's answers lie side by side, row by row.
        side: cells along an edge.
        grid: patches along an edge, a multiple of ``side``.

    Returns:
        The same answers, (B, grid * grid, size), patches row by row.
    """
    under = grid // side
    parts = answers.unflatten(1, (side, side)).unflatten(3, (under, under, -1))
    return parts.transpose(2, 3).flatten(1, 4)
