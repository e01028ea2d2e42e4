"""The text backbones: BERT-base as published, and a small BERT of the embedded world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks import hub_weights
from benchmarks.backbones import Files
from benchmarks.harness.errors import unknown
from benchmarks.hub_weights import Family
from benchmarks.weights import RANDOM, Weights, weights_of
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from transformers import BertConfig, BertModel  # noqa: E402 - the guard has to come first

WEIGHTS = Family(
    owner="google-bert",
    embedded="bert_micro",
    program="python -m data_prep.embedded.pretrain_bert",
)


@dataclass(frozen=True)
class Text:
    """A BERT.

    Attributes:
        settings: Arguments of ``BertConfig``; what is left out has the values of BERT-base.
        width: Dimensions of its hidden states.
        pieces: Size of its vocabulary.
        longest: Pieces of the longest text that it takes, [CLS] and [SEP] among them.
    """

    settings: dict[str, Any]
    width: int = 768
    pieces: int = 30_522
    longest: int = 512


TEXTS = {
    "bert_micro": Text(
        {
            "vocab_size": 475,
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "max_position_embeddings": 64,
        },
        width=128,
        pieces=475,
        longest=64,
    ),
    "bert_base": Text({}),
}
"""By the name that cells carry."""


def text_named(name: str) -> Text:
    """Return the properties of a backbone.

    Raises:
        UsageError: There is no such backbone.
    """
    if name not in TEXTS:
        raise unknown("backbone", name, TEXTS, "python -m benchmarks ls flickr30k")
    return TEXTS[name]


def empty(name: str, dropout: float = 0.1) -> nn.Module:
    """Return the network with random weights, its pooler included; BERT's own dropout is 0.1."""
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    settings: dict[str, Any] = {**text_named(name).settings, **rates}
    return BertModel(BertConfig(**settings))


def build(config: dict[str, Any], files: Files) -> tuple[nn.Module, Weights]:
    """Build a pre-trained BERT.

    Args:
        config: The section ``backbone`` of a configuration: name, dropout, and weights (``random``, the
            name of published ones, or the name and hash of a file that a person gave).
        files: Where weights are looked for.

    Raises:
        UsageError: The weights are not at hand, or of another network.
    """
    name = config["weights"]
    model = empty(config["name"], config["dropout"])
    if name == RANDOM:
        return model, Weights(RANDOM, None)
    path = find(config, files, fetch=True)
    assert path is not None
    load(model, path)
    return model, weights_of(name, path)


def find(config: dict[str, Any], files: Files, *, fetch: bool) -> Path | None:
    """Return the file of the weights; None if it is on the hub and is not to be fetched.

    Raises:
        UsageError: It cannot be had; the message says which file to put where.
    """
    return WEIGHTS.find(config, files, fetch=fetch)


def find_weights(config: dict[str, Any], files: Files, *, fetch: bool) -> None:
    """Raise a ``UsageError`` unless the weights can be had and fit; it says which file to put where."""
    WEIGHTS.require(config, files, fetch=fetch)
    if config["weights"] != RANDOM:
        build(config, files)  # weights of another network are told here once, not by every cell


def load(model: nn.Module, path: Path) -> None:
    """Load weights into a BERT; takes the names of BertModel, and those of the published checkpoints.

    Raises:
        UsageError: The file is damaged, or of another network.
    """
    hub_weights.load(
        model, path, lambda raw: {o: v for key, v in raw.items() if (o := _renamed(key))}
    )


def _renamed(key: str) -> str | None:
    """Return the name that a tensor of a published checkpoint has in BertModel; None: it is not used."""
    if key.startswith("cls.") or key.endswith("position_ids"):
        return None
    key = key.removeprefix("bert.")
    return key.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )
