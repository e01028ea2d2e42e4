"""Pre-trains the embedded world's small CLIP: ``python -m data_prep.embedded.pretrain_clip``.

Pictures and captions of a broader world than the benchmark's clips are matched within the batch, both
ways. Writes a
folder in Hugging Face's layout, in half precision.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from data_prep.embedded.msrvtt import upstream, vocabulary
from data_prep.embedded.pretrain import learning_rate, replace
from data_prep.msrvtt.tokens import PADDING, TEXT_LENGTH, ClipTokens
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from transformers import CLIPConfig, CLIPModel  # noqa: E402

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
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.98)
LARGEST_SCALE = math.log(100)
HELD_OUT_SEED, HELD_OUT_BATCHES = 1_000_003, 8


def write_vocabulary(folder: Path) -> ClipTokens:
    """Write the vocabulary and return it."""
    for name, content in vocabulary.files().items():
        replace(folder / name, content)
    return ClipTokens(NAME, folder)


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
    """Return the cross-entropy over the batch, both ways."""
    rows = torch.arange(len(logits))
    one_way = functional.cross_entropy(logits, rows)
    return (one_way + functional.cross_entropy(logits.T, rows)) / 2


class Run:
    """One run: its model, its optimiser and its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.threads)
        self.words = write_vocabulary(args.out)
        self.model = network(self.words)
        named = list(self.model.named_parameters())
        plain = [p for name, p in named if p.dim() < 2 or "position" in name]
        chosen = {id(p) for p in plain}
        groups: list[dict[str, Any]] = [
            {
                "params": [p for _, p in named if id(p) not in chosen],
                "weight_decay": WEIGHT_DECAY,
            },
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, betas=BETAS)
        self.step, self.seconds = 0, 0.0
        self.checkpoint = args.work / f"{NAME}.pt"

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one of a run with the same arguments but for the steps."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, weights_only=False)
        if state["arguments"] | {"steps": self.args.steps} != arguments(self.args):
            return False
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["rng"])
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "arguments": arguments(self.args),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "rng": torch.get_rng_state(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def train(self) -> None:
        """Train for the steps that were asked for; save and export every few minutes."""
        exported = self.seconds
        self.model.train()
        with tqdm(total=self.args.steps, initial=self.step, unit="step", mininterval=5.0) as bar:
            while self.step < self.args.steps:
                tick = time.monotonic()
                loss = self.update()
                self.seconds += time.monotonic() - tick
                bar.update()
                if self.step % 50 == 0:
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                if self.seconds - exported > 60 * self.args.export_every:
                    exported = self.seconds
                    self.save()
                    self.export(finished=False)
        self.save()
        self.export(finished=True)

    def update(self) -> Tensor:
        """Take one step."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.args.lr, self.step / self.args.steps)
        args = self.args
        loss = loss_of(
            scores(self.model, upstream.batch(self.words, args.seed, self.step, args.batch, SIZE))
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=LARGEST_SCALE)
        self.step += 1
        return loss

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Return the loss, and how often the right one is found, on pictures that are not trained on."""
        self.model.eval()
        sums = dict.fromkeys(("loss", "caption_found", "picture_found"), 0.0)
        for number in range(HELD_OUT_BATCHES):
            made = upstream.batch(self.words, HELD_OUT_SEED, number, self.args.batch, SIZE)
            logits = scores(self.model, made)
            rows = torch.arange(len(logits))
            sums["loss"] += loss_of(logits).item()
            sums["caption_found"] += (logits.argmax(1) == rows).float().mean().item()
            sums["picture_found"] += (logits.argmax(0) == rows).float().mean().item()
        self.model.train()
        return {name: round(value / HELD_OUT_BATCHES, 4) for name, value in sums.items()}

    def export(self, finished: bool) -> None:
        """Write the weights, their configuration, and the record of how they were made."""
        found = self.held_out()
        state = {
            name: value.to(torch.float16).contiguous() if value.is_floating_point() else value
            for name, value in self.model.state_dict().items()
        }
        weights = to_safetensors(state, metadata={"format": "pt"})
        replace(self.args.out / "model.safetensors", weights)
        config = {"architectures": ["CLIPModel"], "model_type": "clip", "dtype": "float16"}
        text = json.dumps(config | settings(self.words), indent=2) + "\n"
        replace(self.args.out / "config.json", text.encode())
        text = json.dumps(record(self, found, weights, finished), indent=2) + "\n"
        replace(self.args.out / "record.json", text.encode())
        tqdm.write(f"step {self.step}: held out {found}")


def record(run: Run, held_out: dict[str, float], weights: bytes, finished: bool) -> dict[str, Any]:
    """Say what was trained, on what, how long and how well."""
    return {
        "schema": "resora.backbone/1",
        "name": NAME,
        "finished": finished,
        "program": "python -m data_prep.embedded.pretrain_clip",
        "arguments": arguments(run.args),
        "architecture": {"class": "transformers.CLIPModel", **settings(run.words)},
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "input": "frames in [0, 255], then (x / 255 - mean) / std with CLIP's mean and std",
        "vocabulary": {"size": len(run.words.vocabulary), "sha256": run.words.sha256},
        "data": {
            "generator": "data_prep.embedded.msrvtt.upstream",
            "description": "pictures of a broader world with a caption each, every second one a twin of the "
            "one before; no clip, no frame and no caption of the benchmark, and nothing that moves",
        },
        "target": f"which caption of the batch of {run.args.batch} is the picture's, and which "
        "picture is the "
        "caption's; the scale of the cosines is learned, at most 100",
        "optimiser": {
            "name": "AdamW",
            "weight_decay": WEIGHT_DECAY,
            "betas": list(BETAS),
            "schedule": "warm-up, cosine",
            "clip": 1.0,
        },
        "steps": run.step,
        "pairs_seen": run.step * run.args.batch,
        "wall_seconds": round(run.seconds),
        "held_out": held_out,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "hardware": f"CPU, {run.args.threads} thread{'s' * (run.args.threads > 1)}",
    }


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that decide the result (paths do not)."""
    return {name: getattr(args, name) for name in ("steps", "batch", "lr", "seed", "threads")}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(
        prog="python -m data_prep.embedded.pretrain_clip", description=__doc__.splitlines()[0]
    )
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--batch", type=int, default=128, help="pictures, of a caption each")
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--export-every", type=float, default=5.0, help="minutes between exports")
    p.add_argument("--out", type=Path, default=FOLDER)
    p.add_argument("--work", type=Path, default=Path("work") / "pretrain", help="checkpoints")
    return p


def main(command: Sequence[str] | None = None) -> None:
    """Train, or go on, and write the folder."""
    args = parser().parse_args(command)
    args.work.mkdir(parents=True, exist_ok=True)
    run = Run(args)
    print("resumed" if run.resume() else "started", f"at step {run.step}")
    run.train()


if __name__ == "__main__":
    main()
