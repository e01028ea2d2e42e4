"""The two-tower backbones: CLIP ViT-B/32 as published, and a small CLIP of the embedded world."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import hub_weights
from benchmarks.backbones import Files
from benchmarks.harness.errors import unknown
from benchmarks.hub_weights import SAFE, Family
from benchmarks.weights import RANDOM, Weights, weights_of
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

import torch  # noqa: E402 - the guard has to come before transformers, which imports torchvision
from torch import Tensor, nn  # noqa: E402
from transformers import CLIPConfig, CLIPModel  # noqa: E402

WEIGHTS = Family(
    owner="openai",
    embedded="clip_micro",
    program="python -m data_prep.embedded.pretrain_clip",
    published=(SAFE, "pytorch_model.bin"),
    original=("ViT-B-32.pt",),
)

PROJECTIONS = {"visual.proj": "visual_projection", "text_projection": "text_projection"}
NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
INSIDE = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""Names of OpenAI's checkpoint -> names of transformers' CLIP."""


@dataclass(frozen=True)
class Towers:
    """A CLIP.

    Attributes:
        settings: Arguments of ``CLIPConfig``; what is left out has the values of ViT-B/32.
        size: Height and width of a frame.
        tokens: Size of its vocabulary.
        longest: Tokens of the longest text that it takes, start and end among them.
        width: Of the common space, and of the text tower.
    """

    settings: dict[str, Any]
    size: int = 224
    tokens: int = 49_408
    longest: int = 77
    width: int = 512


TOWERS = {
    "clip_micro": Towers(
        {
            "vision_config": {
                "hidden_size": 96,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "intermediate_size": 384,
                "image_size": 32,
                "patch_size": 8,
            },
            "text_config": {
                "hidden_size": 128,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "intermediate_size": 512,
                "max_position_embeddings": 32,
                "vocab_size": 994,
                "bos_token_id": 992,
                "eos_token_id": 993,
                "pad_token_id": 0,
            },
            "projection_dim": 128,
        },
        size=32,
        tokens=994,
        longest=32,
        width=128,
    ),
    "clip_vit_b32": Towers({}),
}
"""By the name that cells carry."""


def towers_named(name: str) -> Towers:
    """Return the properties of a backbone.

    Raises:
        UsageError: There is no such backbone.
    """
    if name not in TOWERS:
        raise unknown("backbone", name, TOWERS, "python -m benchmarks ls msrvtt")
    return TOWERS[name]


def empty(name: str) -> nn.Module:
    """Return the network with random weights."""
    return CLIPModel(CLIPConfig(**towers_named(name).settings))


def build(config: dict[str, Any], files: Files) -> tuple[nn.Module, Weights]:
    """Build a pre-trained CLIP, in float32.

    Args:
        config: The section ``backbone`` of a configuration: name and weights (``random``, the name of
            published ones, or the name and hash of a file that a person gave).
        files: Where weights are looked for.

    Raises:
        UsageError: The weights are not at hand, or of another network.
    """
    name = config["weights"]
    model = empty(config["name"])
    if name == RANDOM:
        return model, Weights(RANDOM, None)
    path = WEIGHTS.find(config, files, fetch=True)
    assert path is not None
    load(model, path)
    return model, weights_of(name, path)


def find_weights(config: dict[str, Any], files: Files, *, fetch: bool) -> None:
    """Raise a ``UsageError`` unless the weights can be had and fit; it says which file to put where."""
    WEIGHTS.require(config, files, fetch=fetch)
    if config["weights"] != RANDOM:
        build(config, files)  # weights of another network are told here once, not by every cell


def load(model: nn.Module, path: Path) -> None:
    """Load weights into a CLIP: those of transformers, or OpenAI's own file (``ViT-B-32.pt``).

    Raises:
        UsageError: The file is damaged, or of another network.
    """
    hub_weights.load(model, path, named)


def named(raw: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names of transformers' CLIP."""
    if "visual.conv1.weight" not in raw:
        return {key: value for key, value in raw.items() if not key.endswith("position_ids")}
    found: dict[str, Tensor] = {}
    for key, value in raw.items():
        found |= _translated(key, value)
    return found


def _translated(key: str, value: Tensor) -> dict[str, Tensor]:
    """Return what a tensor of OpenAI's checkpoint is in transformers' CLIP; nothing: it is not used."""
    if key in NAMES:
        return {NAMES[key]: value}
    if key in PROJECTIONS:  # a matrix that is multiplied from the right
        return {f"{PROJECTIONS[key]}.weight": value.T}
    stem, _, last = key.rpartition(".")
    if stem in NORMS:
        return {f"{NORMS[stem]}.{last}": value}
    inside = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)", key)
    if inside is None:
        return {}
    tower = "vision_model" if inside[1] else "text_model"
    block, part = f"{tower}.encoder.layers.{inside[2]}", inside[3]
    if part.startswith("attn.in_proj_"):
        kind = part.removeprefix("attn.in_proj_")
        pieces = zip("qkv", torch.chunk(value, 3), strict=True)
        return {f"{block}.self_attn.{which}_proj.{kind}": piece for which, piece in pieces}
    stem, _, last = part.rpartition(".")
    return {f"{block}.{INSIDE[stem]}.{last}": value}
