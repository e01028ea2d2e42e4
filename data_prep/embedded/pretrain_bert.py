"""Pre-trains the embedded world's small BERT: ``python -m data_prep.embedded.pretrain_bert``.

Masked language modelling, and finding the other caption of the same scene in the batch, on captions of a
broader world than the benchmark's. Writes a folder in Hugging Face's layout.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_prep.embedded import pretrain_run
from data_prep.embedded.flickr30k import upstream, vocabulary
from data_prep.embedded.pretrain import replace
from data_prep.embedded.pretrain_run import Exported
from data_prep.flickr30k.tokens import WordPieces
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from transformers import BertConfig, BertForMaskedLM, BertModel  # noqa: E402

PROGRAM = "data_prep.embedded.pretrain_bert"
NAME = "bert_micro"
FOLDER = Path(__file__).parent / "backbones" / NAME
SETTINGS: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 64,
}
TEMPERATURE = 0.07
WEIGHTS = {"words": 1.0, "pairs": 0.5}


def network(size: int, **settings: Any) -> BertForMaskedLM:
    """Return a BERT with pooler and the head that fills gaps, with random weights."""
    model = BertForMaskedLM(BertConfig(vocab_size=size, **SETTINGS | settings))
    model.bert = BertModel(model.config)
    model.tie_weights()
    return model


def losses(model: BertForMaskedLM, batch: upstream.Batch) -> dict[str, Tensor]:
    """Return the mean losses over the gaps and over the pairs.

    A pair is found by its mean state and, apart from that, by the pooler's output: cross-entropy over the
    batch, of cosines divided by ``TEMPERATURE``.
    """
    pieces, hidden = torch.from_numpy(batch.pieces), torch.from_numpy(batch.hidden)
    there = pieces != 0
    found = model.bert(pieces, attention_mask=there.long())
    states = found.last_hidden_state
    gaps = hidden != upstream.IGNORED
    mean = (states * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    return {
        "words": functional.cross_entropy(model.cls(states[gaps]), hidden[gaps]),
        "pairs": (_finding(mean) + _finding(found.pooler_output)) / 2,
    }


def _finding(states: Tensor) -> Tensor:
    """Return the loss of finding row k + B from row k and the other way around."""
    first, second = functional.normalize(states, dim=-1).chunk(2)
    scores = first @ second.T / TEMPERATURE
    rows = torch.arange(len(scores))
    one_way = functional.cross_entropy(scores, rows)
    return (one_way + functional.cross_entropy(scores.T, rows)) / 2


class Run(pretrain_run.Run):
    """One run of the program."""

    name = NAME
    program = PROGRAM
    weight_decay = 0.01

    def write_vocabulary(self, folder: Path) -> WordPieces:
        """Write the vocabulary and return it."""
        replace(folder / "vocab.txt", ("\n".join(vocabulary.pieces()) + "\n").encode())
        return WordPieces(NAME, folder / "vocab.txt")

    def network(self) -> nn.Module:
        """Return a BERT with random weights."""
        return network(len(self.words.vocabulary))

    def losses(self, seed: int, number: int) -> dict[str, Tensor]:
        """Return the mean losses of a batch."""
        return losses(self.model, upstream.batch(self.words, seed, number, self.args.batch))

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return their weighted sum."""
        return torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()

    def exported(self) -> Exported:
        """Return the encoder with its pooler, in float32."""
        state = {name: value.contiguous() for name, value in self.model.bert.state_dict().items()}
        config = {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "torch_dtype": "float32",
            "vocab_size": len(self.words.vocabulary),
            **SETTINGS,
        }
        return Exported(state, config)

    def about(self) -> dict[str, Any]:
        """Return what the record says of network, data and target."""
        return {
            "architecture": {"class": "transformers.BertModel", **SETTINGS},
            "parameters": sum(p.numel() for p in self.model.bert.parameters()),
            "data": {
                "generator": "data_prep.embedded.flickr30k.upstream",
                "description": "two captions of each scene of a broader world, every second scene a twin of "
                "the one before; no scene and no caption of the benchmark",
            },
            "targets": {
                "words": "15 % of the pieces, 80 % [MASK], 10 % random, 10 % as they were",
                "pairs": "which caption of the batch is of the same scene, by the mean state and by the "
                f"pooler's output; cosines divided by {TEMPERATURE}",
            },
            "weights_of_targets": WEIGHTS,
            "captions_seen": 2 * self.step * self.args.batch,
        }


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    about = __doc__.splitlines()[0]
    batch = (96, "scenes, of two captions each")
    return pretrain_run.parser_of(PROGRAM, about, steps=2500, batch=batch, out=FOLDER)


def main(command: Sequence[str] | None = None) -> None:
    """Train or resume, and write the folder."""
    pretrain_run.start(Run, parser().parse_args(command))


if __name__ == "__main__":
    main()
