"""Descriptions of timm's ViT, Swin and ConvNeXt."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from resora.backbones.parts import (
    Backbone,
    Block,
    Place,
    Tower,
    UnknownBackbone,
    below,
    children,
    named_if_there,
    takes_only,
)

QKV = ("q", "k", "v")
BLOCK_INPUTS = ("x", "attn_mask", "is_causal")


def vit(module: Any, path: str) -> Backbone | None:
    """Describe a vision transformer: ``blocks`` with ``attn.qkv`` and ``mlp``, and ``patch_embed``."""
    blocks = children(module, "blocks")
    if not blocks or not all(map(_is_attention, blocks)) or not hasattr(module, "patch_embed"):
        return None
    # In CaiT and XCiT the class token comes after these blocks.
    has_late_class = hasattr(module, "blocks_token_only") or hasattr(module, "cls_attn_blocks")
    is_convolution = isinstance(getattr(module.patch_embed, "proj", None), nn.Conv2d)
    tower = Tower(
        path=path,
        blocks=tuple(_attention_block(b, below(path, f"blocks.{i}")) for i, b in enumerate(blocks)),
        prefix=0 if has_late_class else getattr(module, "num_prefix_tokens", None),
        takes_more_tokens=all(map(_takes_more_tokens, blocks)),
        embedding=below(path, "patch_embed.proj") if is_convolution else None,
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
    if not isinstance(getattr(inner[0].mlp, "fc1", None), nn.Linear):
        raise UnknownBackbone(
            "this ConvNeXt has convolutions of 1 x 1 in place of the MLP's linear layers; make it with "
            "timm.create_model(..., conv_mlp=False), which loads the same weights"
        )
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
        Block(
            path=name,
            width=module.qkv.in_features,
            attention=(Place(below(name, "qkv"), ("qkv",) if _is_interleaved(module) else QKV),),
        )
        for name, module in model.named_modules()
        if isinstance(getattr(module, "qkv", None), nn.Linear)
    )
    return Backbone(kind="attention", towers=(Tower(blocks=blocks),)) if blocks else None


def call_projections(model: nn.Module, backbone: Backbone) -> None:
    """Make attention that reads the weight of its ``qkv`` layer call that layer, so that it can be wrapped.

    timm's BEiT, EVA and Swin V2 add the biases of q and v inside ``F.linear(x, qkv.weight, ...)`` unless
    ``qkv_bias_separate`` is set, and add them to the layer's output where it is. The result is the same but
    for rounding.

    Args:
        model: The model.
        backbone: Where its parts are.
    """
    for block in backbone.blocks:
        for place in block.attention:
            attention: Any = model.get_submodule(place.path.rpartition(".")[0])
            if getattr(attention, "qkv_bias_separate", None) is False:
                attention.qkv_bias_separate = True


def _is_attention(block: Any) -> bool:
    """Whether a block has the attention of a ViT, with q, k and v of its own width, and an MLP."""
    attention = getattr(block, "attn", None)
    qkv = getattr(attention, "qkv", None)
    if not isinstance(qkv, nn.Module) or not hasattr(attention, "num_heads"):
        return False
    return hasattr(block, "mlp") and not _is_interleaved(attention)


def _is_interleaved(attention: Any) -> bool:
    """Whether the rows of a fused ``qkv`` layer are q, k and v head by head, and not one after the other.

    This is so in timm's MaxViT and CoAtNet (``head_first``), and in TinyViT and EfficientFormer
    (``key_dim``).
    """
    return bool(getattr(attention, "head_first", False)) or hasattr(attention, "key_dim")


def _takes_more_tokens(block: Any) -> bool:
    own = (*block.attn.state_dict(), *(name for name, _ in block.attn.named_children()))
    has_positions = any("relative_position" in name or "rel_pos" in name for name in own)
    return takes_only(block.forward, BLOCK_INPUTS) and not has_positions


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
