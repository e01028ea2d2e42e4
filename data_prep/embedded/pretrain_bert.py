"""Pre-trains the embedded world's small BERT: ``python -m data_prep.embedded.pretrain_bert``.

Masked language modelling, and finding the other caption of the same scene in the batch, on captions of a
broader world than the benchmark's. Writes a folder in Hugging Face's layout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
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

from data_prep.embedded.flickr30k import upstream, vocabulary
from data_prep.embedded.pretrain import learning_rate, replace
from data_prep.flickr30k.tokens import WordPieces
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from transformers import BertConfig, BertForMaskedLM, BertModel  # noqa: E402

NAME = "bert_micro"
FOLDER = Path(__file__).parent / "backbones" / NAME
SETTINGS: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 64,
}
WEIGHT_DECAY = 0.01
BETAS = (0.9, 0.98)
TEMPERATURE = 0.07
WEIGHTS = {"words": 1.0, "pairs": 0.5}
HELD_OUT_SEED, HELD_OUT_BATCHES = 1_000_003, 8


def write_vocabulary(folder: Path) -> WordPieces:
    """Write the vocabulary and return it."""
    replace(folder / "vocab.txt", ("\n".join(vocabulary.pieces()) + "\n").encode())
    return WordPieces(NAME, folder / "vocab.txt")


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


class Run:
    """One run: its model, its optimiser and its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.threads)
        self.words = write_vocabulary(args.out)
        self.model = network(len(self.words.vocabulary))
        plain = [p for p in self.model.parameters() if p.dim() < 2]
        decayed = [p for p in self.model.parameters() if p.dim() >= 2]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": WEIGHT_DECAY},
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
                found = self.update()
                self.seconds += time.monotonic() - tick
                bar.update()
                if self.step % 50 == 0:
                    bar.set_postfix({name: f"{loss.item():.3f}" for name, loss in found.items()})
                if self.seconds - exported > 60 * self.args.export_every:
                    exported = self.seconds
                    self.save()
                    self.export(finished=False)
        self.save()
        self.export(finished=True)

    def update(self) -> dict[str, Tensor]:
        """Take one step."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.args.lr, self.step / self.args.steps)
        found = losses(
            self.model, upstream.batch(self.words, self.args.seed, self.step, self.args.batch)
        )
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack([WEIGHTS[name] * loss for name, loss in found.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return found

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Return mean losses on captions that are not trained on."""
        self.model.eval()
        sums: dict[str, float] = {}
        for number in range(HELD_OUT_BATCHES):
            batch = upstream.batch(self.words, HELD_OUT_SEED, number, self.args.batch)
            for name, loss in losses(self.model, batch).items():
                sums[name] = sums.get(name, 0.0) + loss.item() / HELD_OUT_BATCHES
        self.model.train()
        return {name: round(value, 4) for name, value in sums.items()}

    def export(self, finished: bool) -> None:
        """Write the encoder with its pooler, its configuration, and the record of how it was made."""
        found = self.held_out()
        bert = self.model.bert
        state = {name: value.contiguous() for name, value in bert.state_dict().items()}
        weights = to_safetensors(state, metadata={"format": "pt"})
        replace(self.args.out / "model.safetensors", weights)
        settings: dict[str, Any] = {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "torch_dtype": "float32",
        }
        settings |= {"vocab_size": len(self.words.vocabulary), **SETTINGS}
        replace(self.args.out / "config.json", (json.dumps(settings, indent=2) + "\n").encode())
        text = json.dumps(record(self, found, weights, finished), indent=2) + "\n"
        replace(self.args.out / "record.json", text.encode())
        tqdm.write(f"step {self.step}: held-out losses {found}")


def record(run: Run, losses: dict[str, float], weights: bytes, finished: bool) -> dict[str, Any]:
    """Say what was trained, on what, how long and how well."""
    return {
        "schema": "resora.backbone/1",
        "name": NAME,
        "finished": finished,
        "program": "python -m data_prep.embedded.pretrain_bert",
        "arguments": arguments(run.args),
        "architecture": {"class": "transformers.BertModel", **SETTINGS},
        "parameters": sum(p.numel() for p in run.model.bert.parameters()),
        "vocabulary": {"size": len(run.words.vocabulary), "sha256": run.words.sha256},
        "data": {
            "generator": "data_prep.embedded.flickr30k.upstream",
            "description": "two captions of each scene of a broader world, every second scene a twin of the "
            "one before; no scene and no caption of the benchmark",
        },
        "targets": {
            "words": "15 % of the pieces, 80 % [MASK], 10 % random, 10 % as they were",
            "pairs": "which caption of the batch is of the same scene, by the mean state and by the "
            f"pooler's output; cosines divided by {TEMPERATURE}",
        },
        "weights_of_targets": WEIGHTS,
        "optimiser": {
            "name": "AdamW",
            "weight_decay": WEIGHT_DECAY,
            "betas": list(BETAS),
            "schedule": "warm-up, cosine",
            "clip": 1.0,
        },
        "steps": run.step,
        "captions_seen": 2 * run.step * run.args.batch,
        "wall_seconds": round(run.seconds),
        "held_out_losses": losses,
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
    return {name: getattr(args, name) for name in ("steps", "batch", "lr", "seed")}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(
        prog="python -m data_prep.embedded.pretrain_bert", description=__doc__.splitlines()[0]
    )
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--batch", type=int, default=96, help="scenes, of two captions each")
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
