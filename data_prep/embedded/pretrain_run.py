"""What the programs that pre-train the embedded world's text networks share.

A run trains for a number of steps on batches that depend on seed and step alone, goes on from its
checkpoint after a kill, and writes a folder in Hugging Face's layout with a record of how it was made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
import transformers
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from data_prep import saved_tensors
from data_prep.embedded.pretrain import learning_rate, replace
from data_prep.progress import Bar

BETAS = (0.9, 0.98)
LARGEST_NORM = 1.0
HELD_OUT_SEED, HELD_OUT_BATCHES = 1_000_003, 8


class Words(Protocol):
    """A vocabulary.

    Attributes:
        vocabulary: Tokens and their numbers.
        sha256: Of its files.
    """

    vocabulary: Any
    sha256: str


class Exported(NamedTuple):
    """What is written.

    Attributes:
        state: Parameters and buffers by name.
        config: The configuration, in transformers' terms.
    """

    state: dict[str, Tensor]
    config: dict[str, Any]


class Run(ABC):
    """One run: its model, its optimiser and its checkpoint.

    Attributes:
        name: Of the network.
        program: The module that is started.
        weight_decay: Of what is a matrix.
        decisive: The arguments that decide the result (paths do not).
    """

    name: ClassVar[str]
    program: ClassVar[str]
    weight_decay: ClassVar[float]
    decisive: ClassVar[tuple[str, ...]] = ("steps", "batch", "lr", "seed")

    def __init__(self, args: argparse.Namespace) -> None:
        """Build the network with the seed of ``args``, as ``parser_of`` parses them."""
        self.args = args
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.threads)
        self.words = self.write_vocabulary(args.out)
        self.model: Any = self.network()
        named = list(self.model.named_parameters())
        decayed = [p for name, p in named if self.decays(name, p)]
        plain = [p for name, p in named if not self.decays(name, p)]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, betas=BETAS)
        self.step, self.seconds = 0, 0.0
        self.checkpoint = args.work / f"{self.name}.pt"

    @abstractmethod
    def write_vocabulary(self, folder: Path) -> Any:
        """Write the vocabulary and return it."""

    @abstractmethod
    def network(self) -> nn.Module:
        """Return the network with random weights."""

    @abstractmethod
    def losses(self, seed: int, number: int) -> dict[str, Tensor]:
        """Return losses and rates of a batch by name: what is trained on, and what else is of interest."""

    @abstractmethod
    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Return what a step descends."""

    @abstractmethod
    def exported(self) -> Exported:
        """Return what is written."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return what the record says of network, data and target."""

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether a parameter decays: matrices do."""
        del name
        return parameter.dim() >= 2

    def resume(self) -> bool:
        """Resume from the checkpoint of a run with the same arguments, except for the steps."""
        if not self.checkpoint.exists():
            return False
        state = saved_tensors.read(self.checkpoint)
        if state["arguments"] | {"steps": self.args.steps} != self.arguments():
            return False
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["rng"])
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "arguments": self.arguments(),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "rng": torch.get_rng_state(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that decide the result."""
        return {name: getattr(self.args, name) for name in self.decisive}

    def train(self) -> None:
        """Train for the steps that were asked for; save and export every few minutes."""
        exported = self.seconds
        self.model.train()
        with Bar(total=self.args.steps, initial=self.step, unit="step", mininterval=5.0) as bar:
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
        found = self.losses(self.args.seed, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        self.total(found).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        self.optimiser.step()
        self.step += 1
        return found

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Return the means of ``losses`` on what is not trained on."""
        self.model.eval()
        sums: dict[str, float] = {}
        for number in range(HELD_OUT_BATCHES):
            for name, loss in self.losses(HELD_OUT_SEED, number).items():
                sums[name] = sums.get(name, 0.0) + loss.item() / HELD_OUT_BATCHES
        self.model.train()
        return {name: round(value, 4) for name, value in sums.items()}

    def export(self, finished: bool) -> None:
        """Write the network, its configuration, and the record of how it was made."""
        held_out = self.held_out()
        state, config = self.exported()
        weights = to_safetensors(state, metadata={"format": "pt"})
        replace(self.args.out / "model.safetensors", weights)
        replace(self.args.out / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        text = json.dumps(self.record(held_out, weights, finished), indent=2) + "\n"
        replace(self.args.out / "record.json", text.encode())
        Bar.write(f"step {self.step}: held out {held_out}")

    def record(self, held_out: dict[str, float], weights: bytes, finished: bool) -> dict[str, Any]:
        """Say what was trained, on what, how long and how well."""
        threads = self.args.threads
        return {
            "schema": "resora.backbone/1",
            "name": self.name,
            "finished": finished,
            "program": f"python -m {self.program}",
            "arguments": self.arguments(),
            "vocabulary": {"size": len(self.words.vocabulary), "sha256": self.words.sha256},
            **self.about(),
            "optimiser": {
                "name": "AdamW",
                "weight_decay": self.weight_decay,
                "betas": list(BETAS),
                "schedule": "warm-up, cosine",
                "clip": LARGEST_NORM,
            },
            "steps": self.step,
            "wall_seconds": round(self.seconds),
            "held_out": held_out,
            "sha256": hashlib.sha256(weights).hexdigest(),
            "bytes": len(weights),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "numpy": np.__version__,
            },
            "hardware": f"CPU, {threads} thread{'s' * (threads > 1)}",
        }


def parser_of(
    program: str, about: str, *, steps: int, batch: tuple[int, str], out: Path
) -> argparse.ArgumentParser:
    """Return the command line of a program.

    Args:
        program: Its module.
        about: What it does.
        steps: How many there are if nothing is said.
        batch: Its size if nothing is said, and what it is of.
        out: The folder that is written if nothing is said.
    """
    p = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    p.add_argument("--steps", type=int, default=steps)
    p.add_argument("--batch", type=int, default=batch[0], help=batch[1])
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--export-every", type=float, default=5.0, help="minutes between exports")
    p.add_argument("--out", type=Path, default=out)
    p.add_argument("--work", type=Path, default=Path("work") / "pretrain", help="checkpoints")
    return p


def start(kind: type[Run], args: argparse.Namespace) -> None:
    """Train or resume, and write the folder."""
    args.work.mkdir(parents=True, exist_ok=True)
    run = kind(args)
    print("resumed" if run.resume() else "started", f"at step {run.step}")
    run.train()
