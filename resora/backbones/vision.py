"""Descriptions of timm's ViT, Swin and ConvNeXt."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from resora.backbones.parts import Backbone, Block, Place, Tower, below, children, named_if_there

QKV = ("q", "k", "v")


def vit(module: Any, path: str) -> Backbone | None:
    """Describe a vision transformer: ``blocks`` with ``attn.qkv`` and ``mlp``, and ``patch_embed``."""
    blocks = children(module, "blocks")
    if not blocks or not _is_attention(blocks[0]) or not hasattr(module, "patch_embed"):
        return None
    tower = Tower(
        path=path,
        blocks=tuple(_attention_block(b, below(path, f"blocks.{i}")) for i, b in enumerate(blocks)),
        prefix=int(getattr(module, "num_prefix_tokens", 1)),
        embedding=below(path, "patch_embed.proj"),
        norms=tuple(
            named_if_there(module, path, ("patch_embed.norm", "norm_pre", "norm", "fc_norm"))
        ),
    )
    return Backbone(kind="vit", towers=(tower,))


def swin(module: Any, path: str) -> Backbone | None:
    """Describe a Swin transformer: ``layers`` of ``blocks`` with attention in windows."""
    stages = children(module, "layers")
    inner = children(stages[0], "blocks") if stages else []
    if not inner or not hasattr(getattr(inner[0], "attn", None), "relative_position_bias_table"):
        return None
    blocks = tuple(
        _attention_block(block, below(path, f"layers.{s}.blocks.{i}"), stage=s)
        for s, stage in enumerate(stages)
        for i, block in enumerate(children(stage, "blocks"))
    )
    merging = [f"layers.{s}.downsample.reduction" for s in range(len(stages))]
    between = [f"layers.{s}.downsample.norm" for s in range(len(stages))]
    tower = Tower(
        path=path,
        blocks=blocks,
        layout="grid",
        embedding=below(path, "patch_embed.proj"),
        norms=tuple(named_if_there(module, path, ("patch_embed.norm", *between, "norm"))),
        merging=tuple(named_if_there(module, path, tuple(merging))),
    )
    return Backbone(kind="swin", towers=(tower,))


def convnext(module: Any, path: str) -> Backbone | None:
    """Describe a ConvNeXt: ``stages`` of ``blocks`` with a depthwise convolution and an MLP."""
    stages = children(module, "stages")
    inner = children(stages[0], "blocks") if stages else []
    if not inner or not hasattr(inner[0], "conv_dw") or not hasattr(inner[0], "mlp"):
        return None
    blocks = tuple(
        _convolution_block(block, below(path, f"stages.{s}.blocks.{i}"), stage=s)
        for s, stage in enumerate(stages)
        for i, block in enumerate(children(stage, "blocks"))
    )
    between = [f"stages.{s}.downsample.0" for s in range(len(stages))]
    merging = [f"stages.{s}.downsample.1" for s in range(len(stages))]
    tower = Tower(
        path=path,
        blocks=blocks,
        layout="image",
        embedding=below(path, "stem.0"),
        norms=tuple(named_if_there(module, path, ("stem.1", *between, "norm_pre", "head.norm"))),
        merging=tuple(named_if_there(module, path, tuple(merging))),
    )
    return Backbone(kind="convnext", towers=(tower,))


def fused_attention(model: nn.Module) -> Backbone | None:
    """Describe any other model with fused ``qkv`` projections; nothing else of it is known."""
    blocks = tuple(
        Block(path=name, width=module.qkv.in_features, attention=(Place(below(name, "qkv"), QKV),))
        for name, module in model.named_modules()
        if isinstance(getattr(module, "qkv", None), nn.Linear)
    )
    return Backbone(kind="attention", towers=(Tower(blocks=blocks),)) if blocks else None


def _is_attention(block: Any) -> bool:
    attention = getattr(block, "attn", None)
    return isinstance(getattr(attention, "qkv", None), nn.Module) and hasattr(block, "mlp")


def _attention_block(block: Any, path: str, stage: int = 0) -> Block:
    qkv = cast(nn.Linear, block.attn.qkv)
    return Block(
        path=path,
        width=qkv.in_features,
        stage=stage,
        attention=(Place(below(path, "attn.qkv"), QKV),),
        attention_core=below(path, "attn"),
        attention_out=Place(below(path, "attn.proj"), ("proj",)),
        norms=(below(path, "norm1"), below(path, "norm2")),
        heads=block.attn.num_heads,
        **_mlp(path),
    )


def _convolution_block(block: Any, path: str, stage: int) -> Block:
    return Block(
        path=path,
        width=block.mlp.fc1.in_features,
        stage=stage,
        norms=(below(path, "norm"),),
        **_mlp(path),
    )


def _mlp(path: str) -> dict[str, Any]:
    return {
        "mlp": below(path, "mlp"),
        "mlp_in": Place(below(path, "mlp.fc1"), ("fc1",)),
        "mlp_out": Place(below(path, "mlp.fc2"), ("fc2",)),
    }
