"""Pre-trains the embedded world's small CLIP: ``python -m data_prep.embedded.pretrain_clip``.

Pictures and captions of a broader world than the benchmark's clips are matched within the batch, both
ways. Writes a folder in Hugging Face's layout, in half precision.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_prep.embedded import pretrain_run
from data_prep.embedded.msrvtt import upstream, vocabulary
from data_prep.embedded.pretrain import replace
from data_prep.embedded.pretrain_run import Exported
from data_prep.msrvtt.tokens import PADDING, TEXT_LENGTH, ClipTokens
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from transformers import CLIPConfig, CLIPModel  # noqa: E402

PROGRAM = "data_prep.embedded.pretrain_clip"
NAME = "clip_micro"
FOLDER = Path(__file__).parent / "backbones" / NAME
SIZE = 32
VISION: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "image_size": SIZE,
    "patch_size": 8,
    "hidden_act": "quick_gelu",
}
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": TEXT_LENGTH,
    "hidden_act": "quick_gelu",
}
PROJECTION = 128
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's (openai/CLIP, ``clip/clip.py``)."""
LARGEST_SCALE = math.log(100)


def settings(words: ClipTokens) -> dict[str, Any]:
    """Return the network's configuration in transformers' terms."""
    special = words.about()["special"]
    text = {
        "vocab_size": len(words.vocabulary),
        "bos_token_id": special["start"],
        "eos_token_id": special["end"],
        "pad_token_id": PADDING,
    }
    return {
        "text_config": TEXT | text,
        "vision_config": VISION,
        "projection_dim": PROJECTION,
    }


def network(words: ClipTokens) -> CLIPModel:
    """Return a CLIP with random weights."""
    return CLIPModel(CLIPConfig(**settings(words)))


def pixels(images: Any) -> Tensor:
    """Turn uint8 (B, 3, S, S) into what the network takes."""
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    return (torch.from_numpy(images).float() / 255 - mean) / std


def scores(model: CLIPModel, batch: upstream.Batch) -> Tensor:
    """Return the scaled cosines (B, B) of each picture with each caption."""
    tokens = torch.from_numpy(batch.tokens)
    there = torch.arange(tokens.shape[1]) <= tokens.argmax(dim=1, keepdim=True)
    found = model(input_ids=tokens, attention_mask=there.long(), pixel_values=pixels(batch.images))
    logits: Tensor = found.logits_per_image
    return logits


def loss_of(logits: Tensor) -> Tensor:
    """Return the cross-entropy over the batch, in both directions."""
    rows = torch.arange(len(logits))
    one_way = functional.cross_entropy(logits, rows)
    return (one_way + functional.cross_entropy(logits.T, rows)) / 2


class Run(pretrain_run.Run):
    """One run of the program."""

    name = NAME
    program = PROGRAM
    weight_decay = 0.1
    decisive = (*pretrain_run.Run.decisive, "threads")

    def write_vocabulary(self, folder: Path) -> ClipTokens:
        """Write the vocabulary and return it."""
        for name, content in vocabulary.files().items():
            replace(folder / name, content)
        return ClipTokens(NAME, folder)

    def network(self) -> nn.Module:
        """Return a CLIP with random weights."""
        return network(self.words)

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether a parameter decays: matrices do, but not tables of positions."""
        return parameter.dim() >= 2 and "position" not in name

    def losses(self, seed: int, number: int) -> dict[str, Tensor]:
        """Return the loss of a batch, and how often the right one is found."""
        made = upstream.batch(self.words, seed, number, self.args.batch, SIZE)
        logits = scores(self.model, made)
        rows = torch.arange(len(logits))
        return {
            "loss": loss_of(logits),
            "caption_found": (logits.argmax(1) == rows).float().mean(),
            "picture_found": (logits.argmax(0) == rows).float().mean(),
        }

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the loss."""
        return losses["loss"]

    def update(self) -> dict[str, Tensor]:
        """Take one step; keep the scale of the cosines at or below 100."""
        found = super().update()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=LARGEST_SCALE)
        return found

    def exported(self) -> Exported:
        """Return the network in half precision."""
        state = {
            name: value.to(torch.float16).contiguous() if value.is_floating_point() else value
            for name, value in self.model.state_dict().items()
        }
        config = {"architectures": ["CLIPModel"], "model_type": "clip", "dtype": "float16"}
        return Exported(state, config | settings(self.words))

    def about(self) -> dict[str, Any]:
        """Return what the record says of network, data and target."""
        return {
            "architecture": {"class": "transformers.CLIPModel", **settings(self.words)},
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "input": "frames in [0, 255], then (x / 255 - mean) / std with CLIP's mean and std",
            "data": {
                "generator": "data_prep.embedded.msrvtt.upstream",
                "description": "pictures of a broader world with a caption each, every second one a twin of "
                "the one before; no clip, no frame and no caption of the benchmark, and nothing that moves",
            },
            "target": f"which caption of the batch of {self.args.batch} is the picture's, and which picture "
            "is the caption's; the scale of the cosines is learned, at most 100",
            "pairs_seen": self.step * self.args.batch,
        }


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    about = __doc__.splitlines()[0]
    batch = (128, "pictures, of a caption each")
    return pretrain_run.parser_of(PROGRAM, about, steps=4000, batch=batch, out=FOLDER)


def main(command: Sequence[str] | None = None) -> None:
    """Train or resume, and write the folder."""
    pretrain_run.start(Run, parser().parse_args(command))


if __name__ == "__main__":
    main()
