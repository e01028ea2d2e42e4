"""Descriptions of the BERT and the CLIP of transformers, which have separate query, key and value layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from resora.backbones.parts import Backbone, Block, Place, Tower, below, children, named_if_there

# They follow each half of a BERT block; in RoBERTa-PreLayerNorm, ESM (LayerNorm) and MegatronBert (ln) they
# precede it.
BERT_NORMS = (
    "attention.output.LayerNorm",
    "attention.LayerNorm",
    "attention.ln",
    "output.LayerNorm",
    "LayerNorm",
    "ln",
)


def bert(module: Any, path: str) -> Backbone | None:
    """Describe a BERT: ``embeddings``, and ``encoder.layer`` with ``attention.self.query``."""
    encoder = getattr(module, "encoder", None)
    layers = children(encoder, "layer") if isinstance(encoder, nn.Module) else []
    if not layers or not hasattr(module, "embeddings"):
        return None
    if not hasattr(getattr(getattr(layers[0], "attention", None), "self", None), "query"):
        return None
    tower = Tower(
        name="text",
        path=path,
        blocks=tuple(
            _bert_block(layer, below(path, f"encoder.layer.{i}")) for i, layer in enumerate(layers)
        ),
        norms=tuple(named_if_there(module, path, ("embeddings.LayerNorm",))),
    )
    return Backbone(kind="bert", towers=(tower,))


def clip(module: Any, path: str) -> Backbone | None:
    """Describe a CLIP: one or both of ``vision_model`` and ``text_model``."""
    towers = tuple(
        tower
        for name in ("vision", "text")
        if (inner := getattr(module, f"{name}_model", None)) is not None
        and (tower := _clip_tower(inner, below(path, f"{name}_model"), name)) is not None
    )
    if not towers and hasattr(module, "embeddings"):
        is_vision = hasattr(module.embeddings, "patch_embedding")
        tower_here = _clip_tower(module, path, "vision" if is_vision else "text")
        towers = () if tower_here is None else (tower_here,)
    return Backbone(kind="clip", towers=towers) if towers else None


def _clip_tower(module: Any, path: str, name: str) -> Tower | None:
    encoder = getattr(module, "encoder", None)
    layers = children(encoder, "layers") if isinstance(encoder, nn.Module) else []
    if not layers or not hasattr(getattr(layers[0], "self_attn", None), "q_proj"):
        return None
    norms = ("pre_layrnorm", "post_layernorm", "final_layer_norm")
    return Tower(
        name=name,
        path=path,
        blocks=tuple(
            _clip_block(layer, below(path, f"encoder.layers.{i}")) for i, layer in enumerate(layers)
        ),
        prefix=1 if name == "vision" else 0,
        embedding=below(path, "embeddings.patch_embedding") if name == "vision" else None,
        norms=tuple(named_if_there(module, path, norms)),
    )


def _bert_block(layer: Any, path: str) -> Block:
    inner = layer.attention.self
    return Block(
        path=path,
        width=inner.query.in_features,
        attention=tuple(
            Place(below(path, f"attention.self.{name}"), (name[0],))
            for name in ("query", "key", "value")
        ),
        attention_core=below(path, "attention.self"),
        attention_out=Place(below(path, "attention.output.dense"), ("proj",)),
        mlp_in=Place(below(path, "intermediate.dense"), ("fc1",)),
        mlp_out=Place(below(path, "output.dense"), ("fc2",)),
        norms=tuple(named_if_there(layer, path, BERT_NORMS)),
        heads=inner.num_attention_heads,
    )


def _clip_block(layer: Any, path: str) -> Block:
    attention = layer.self_attn
    return Block(
        path=path,
        width=attention.q_proj.in_features,
        attention=tuple(
            Place(below(path, f"self_attn.{name}_proj"), (name,)) for name in ("q", "k", "v")
        ),
        attention_core=below(path, "self_attn"),
        attention_out=Place(below(path, "self_attn.out_proj"), ("proj",)),
        mlp=below(path, "mlp"),
        mlp_in=Place(below(path, "mlp.fc1"), ("fc1",)),
        mlp_out=Place(below(path, "mlp.fc2"), ("fc2",)),
        norms=(below(path, "layer_norm1"), below(path, "layer_norm2")),
        heads=attention.num_heads,
    )
