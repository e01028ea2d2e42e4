"""The text backbones: BERT-base as published, and a small BERT of the embedded world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmarks.backbones import EMBEDDED, Files
from benchmarks.harness.errors import UsageError, unknown
from benchmarks.weights import RANDOM, Weights, is_given, weights_of
from benchmarks.weights import find as find_given
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

import torch  # noqa: E402 - the guard has to come before transformers, which imports torchvision
from safetensors.torch import load_file  # noqa: E402
from transformers import BertConfig, BertModel  # noqa: E402

HUB = "google-bert/bert-base-uncased"
HUB_FILE = "model.safetensors"


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
    """Return what is known of a backbone.

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
    name = config["weights"]
    if is_given(name):
        return find_given(name, files.folder, files.given)
    if config["name"] == "bert_micro":
        path: Path = EMBEDDED / name / "model.safetensors"
        if not path.exists():
            raise UsageError(
                f"{name}/model.safetensors is missing in data_prep/embedded/backbones; make it with "
                "`python -m data_prep.embedded.pretrain_bert`"
            )
        return path
    if files.folder is not None:
        for candidate in (files.folder / name / HUB_FILE, files.folder / f"{name}.safetensors"):
            if candidate.is_file():
                return candidate
    return _from_hub(name, files.folder, fetch=fetch)


def find_weights(config: dict[str, Any], files: Files, *, fetch: bool) -> None:
    """Raise a ``UsageError`` that says which file to put where, unless the weights can be had."""
    if config["weights"] != RANDOM and find(config, files, fetch=fetch) is None:
        raise UsageError(
            f"the weights {config['weights']!r} are not on this machine; a run fetches them from the Hugging "
            f"Face hub, or {_missing(config['weights'], files.folder)}"
        )


def load(model: nn.Module, path: Path) -> None:
    """Load weights into a BERT; takes the names of BertModel, and those of the published checkpoints.

    Raises:
        UsageError: The file is damaged, or of another network.
    """
    try:
        raw = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, weights_only=True)
        )
        state = {ours: value.float() for key, value in raw.items() if (ours := _renamed(key))}
    except Exception as error:  # whatever a damaged file brings about
        raise UsageError(
            f"{path.name} cannot be read as weights: {type(error).__name__}: {error}"
        ) from error
    own: dict[str, Tensor] = dict(model.named_parameters())
    wrong = sorted(k for k in own.keys() | state.keys() if _shape(own, k) != _shape(state, k))
    if wrong:
        key = wrong[0]
        raise UsageError(
            f"{path.name} does not fit: {len(wrong)} tensors differ, such as {key} "
            f"({_shape(state, key)} in the file, {_shape(own, key)} in the network)"
        )
    model.load_state_dict(state, strict=False)


def _renamed(key: str) -> str | None:
    """Return the name that a tensor of a published checkpoint has in BertModel; None: it is not used."""
    if key.startswith("cls.") or key.endswith("position_ids"):
        return None
    key = key.removeprefix("bert.")
    return key.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _from_hub(name: str, folder: Path | None, *, fetch: bool) -> Path | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    repository = f"google-bert/{name}"
    cached = try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    if not fetch:
        return None
    try:
        return Path(hf_hub_download(repository, HUB_FILE))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the weights {name!r} are not at hand, and the Hugging Face hub does not answer: "
            f"{_missing(name, folder)}"
        ) from error


def _missing(name: str, folder: Path | None) -> str:
    where = folder or Path("data") / "weights"
    return f"fetch {HUB_FILE} of {HUB} and put it as {where / name / HUB_FILE}, or name a file by --weights"


def _shape(state: dict[str, Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None
