"""Pre-trains the embedded world's backbones: ``python -m data_prep.embedded.pretrain --backbone NAME``.

The pooled feature learns which shapes, materials, palette and style are in view and the rough layout of the
colours; the final map learns which shapes and materials cover each patch and to restore the clean pixels.
Only the backbone is written: the heads belong to the pre-training and go with it.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional

from data_prep import saved_tensors
from data_prep.embedded import library, pool
from data_prep.embedded.pool import Targets
from data_prep.embedded.pretrain_networks import NETWORKS, Network, onto_patches, pooled_and_cells
from data_prep.embedded.upstream import Scenes
from data_prep.progress import Bar

WEIGHTS = {
    "shapes": 1.0,
    "materials": 0.5,
    "palette": 0.3,
    "style": 0.2,
    "layout": 5.0,
    "edges": 40.0,
    "patch_shapes": 0.5,
    "patch_materials": 0.3,
    "patch_edges": 30.0,
    "pixels": 4.0,
}
WEIGHT_DECAY = 0.05
WARM_UP = 0.04
EMA = 0.998
HELD_OUT = 2048


class Pretrainer(nn.Module):
    """A backbone with one linear head for each target."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.backbone = network.build()
        self.side = network.side
        patches = pool.GRID**2
        whole = {
            "shapes": library.SHAPES + 1,
            "materials": library.MATERIALS,
            "palette": library.PALETTES,
            "style": len(library.STYLES),
            "layout": 4 * patches,
            "edges": pool.DIRECTIONS * patches,
        }
        dense = {
            "patch_edges": 4 * pool.DIRECTIONS,
            "patch_shapes": library.SHAPES + 1,
            "patch_materials": library.MATERIALS,
            "pixels": 3 * pool.PATCH**2,
        }
        # A cell of a coarser map answers for all patches beneath it.
        beneath = patches // self.side**2
        sizes = whole | {name: beneath * size for name, size in dense.items()}
        self.dense = frozenset(dense)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(network.width, size) for name, size in sizes.items()}
        )

    def losses(self, images: Tensor, targets: Targets) -> dict[str, Tensor]:
        """One loss a target, unweighted."""
        pooled, cells = pooled_and_cells(self.backbone, images)
        losses = {}
        for name, head in self.heads.items():
            is_dense = name in self.dense
            answer = onto_patches(head(cells), self.side, pool.GRID) if is_dense else head(pooled)
            wanted = getattr(targets, name)
            if name in ("layout", "pixels", "edges", "patch_edges"):
                losses[name] = functional.smooth_l1_loss(answer, wanted, beta=0.5)
            elif wanted.dim() == 1:
                losses[name] = functional.cross_entropy(answer, wanted)
            else:
                losses[name] = functional.cross_entropy(
                    answer.flatten(0, -2), wanted.flatten(0, -2)
                )
        return losses


def total(losses: dict[str, Tensor]) -> Tensor:
    """The weighted sum that is minimised."""
    return torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()


@dataclass
class Progress:
    """How far a run is; all of it survives an interruption."""

    step: int = 0
    seconds: float = 0.0

    def fraction(self, args: argparse.Namespace) -> float:
        """Share of the budget that is spent, by images or by minutes, whichever is further."""
        by_images = self.step * args.batch / args.images if args.images else 0.0
        by_time = self.seconds / (60 * args.minutes) if args.minutes else 0.0
        return min(max(by_images, by_time), 1.0)


def learning_rate(peak: float, fraction: float) -> float:
    """Linear warm-up, then a cosine to (almost) zero."""
    if fraction < WARM_UP:
        return peak * max(fraction / WARM_UP, 0.01)
    return peak * (
        0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))
    )


def optimiser(model: nn.Module) -> torch.optim.AdamW:
    """AdamW without weight decay on vectors (biases, norms, layer scales) and on tables of positions."""
    tables = ("pos_embed", "cls_token", "relative_position_bias_table")
    plain = [
        p
        for name, p in model.named_parameters()
        if p.dim() < 2 or any(table in name for table in tables)
    ]
    chosen = {id(p) for p in plain}
    decayed = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


class Run:
    """One pre-training run: its model, the average of its weights, its optimiser and its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.threads)
        self.model = Pretrainer(NETWORKS[args.backbone])
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = optimiser(self.model)
        self.progress = Progress()
        self.rng = np.random.default_rng([args.seed, 3])
        self.checkpoint = args.work / f"{args.backbone}.pt"

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one of a run with the same arguments."""
        if not self.checkpoint.exists():
            return False
        state = saved_tensors.read(self.checkpoint)
        budget = {"minutes", "images"}
        then, now = state["arguments"], arguments(self.args)
        if any(then[name] != now[name] for name in now.keys() - budget):
            return False
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        self.rng.bit_generator.state = state["rng"]
        return True

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "arguments": arguments(self.args),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": vars(self.progress),
            "rng": self.rng.bit_generator.state,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def train(self, scenes: Scenes, held_out: Scenes) -> None:
        """Train until the budget is spent; export and save every few minutes."""
        bar = Bar(desc="pretrain", unit="img", unit_scale=True, mininterval=5.0)
        stream = pool.batches(scenes, self.args.batch, self.rng)
        exported = self.progress.seconds
        tick = time.monotonic()
        while (fraction := self.progress.fraction(self.args)) < 1.0:
            images, targets = next(stream)
            losses = self.step(images, targets, fraction)
            now = time.monotonic()
            self.progress.seconds += now - tick
            tick = now
            bar.update(self.args.batch)
            if self.progress.step % 50 == 0:
                shown = {name: f"{loss.item():.3f}" for name, loss in losses.items()}
                bar.set_postfix(done=f"{fraction:.1%}", **shown)
            if self.progress.seconds - exported > 60 * self.args.export_every:
                exported = self.progress.seconds
                self.save()
                self.export(self.held_out_losses(held_out), finished=False)
        bar.close()
        self.save()
        self.export(self.held_out_losses(held_out), finished=True)

    def step(self, images: Tensor, targets: Targets, fraction: float) -> dict[str, Tensor]:
        """One update of the model and of its running average."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.args.lr, fraction)
        losses = self.model.losses(images, targets)
        self.optimiser.zero_grad(set_to_none=True)
        total(losses).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.progress.step += 1
        # Early on, a long memory would keep the random start alive.
        keep = min(EMA, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            ours: list[Tensor] = list(self.average.parameters())
            theirs: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(ours, theirs, 1.0 - keep)
        return losses

    @torch.no_grad()
    def held_out_losses(self, scenes: Scenes) -> dict[str, float]:
        """Mean losses of the averaged weights on scenes that were not trained on, uncorrupted."""
        rng = np.random.default_rng(0)
        sums: dict[str, float] = {}
        parts = np.split(np.arange(len(scenes.images)), len(scenes.images) // 256)
        for rows in parts:
            images, targets = pool.crop(scenes, rows, rng, corrupt=False)
            for name, loss in self.average.losses(images, targets).items():
                sums[name] = sums.get(name, 0.0) + loss.item() / len(parts)
        return {name: round(value, 4) for name, value in sums.items()}

    def export(self, losses: dict[str, float], finished: bool) -> None:
        """Write the averaged backbone in half precision, and the record of how it was made."""
        state = {
            name: value.to(torch.float16).contiguous()
            for name, value in self.average.backbone.state_dict().items()
        }
        settings = json.dumps(NETWORKS[self.args.backbone].settings)
        weights = to_safetensors(state, metadata={"architecture": settings})
        replace(self.args.out / f"{self.args.backbone}.safetensors", weights)
        text = json.dumps(record(self, losses, weights, finished), indent=2) + "\n"
        replace(self.args.out / f"{self.args.backbone}.json", text.encode())
        Bar.write(f"step {self.progress.step}: held-out losses {losses}")


def record(run: Run, losses: dict[str, float], weights: bytes, finished: bool) -> dict[str, Any]:
    """Say what was trained, on what, how long and how well."""
    network = NETWORKS[run.args.backbone]
    return {
        "schema": "resora.backbone/1",
        "name": run.args.backbone,
        "finished": finished,
        "program": "python -m data_prep.embedded.pretrain",
        "arguments": arguments(run.args),
        "architecture": {
            "class": f"{network.kind.__module__}.{network.kind.__name__}",
            **network.settings,
        },
        "parameters": sum(p.numel() for p in run.average.backbone.parameters()),
        "input": "images in [0, 255], then (x / 255 - 0.5) / 0.5",
        "data": {
            "generator": "data_prep.embedded.upstream",
            "description": "backgrounds of procedural materials with up to four objects of fixed random "
            "contours; no image and no label of a downstream task",
            "pool_images": run.args.pool,
            "shape_categories": library.SHAPES,
            "materials": library.MATERIALS,
            "palettes": library.PALETTES,
            "styles": list(library.STYLES),
        },
        "targets": WEIGHTS,
        "optimiser": {
            "name": "AdamW",
            "weight_decay": WEIGHT_DECAY,
            "betas": [0.9, 0.98],
            "schedule": "warm-up, cosine",
            "warm_up": WARM_UP,
            "clip": 1.0,
            "weights_written": f"exponential moving average, {EMA}",
        },
        "steps": run.progress.step,
        "images_seen": run.progress.step * run.args.batch,
        "wall_seconds": round(run.progress.seconds),
        "held_out_losses": losses,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": metadata.version("timm"),
            "numpy": np.__version__,
        },
        "hardware": f"CPU, {run.args.threads} thread{'s' * (run.args.threads > 1)}",
    }


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that decide the result (paths do not)."""
    names = ("backbone", "minutes", "images", "pool", "batch", "lr", "seed")
    return {name: getattr(args, name) for name in names}


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m data_prep.embedded.pretrain", description=__doc__.splitlines()[0]
    )
    p.add_argument("--backbone", choices=NETWORKS, default="vit_micro")
    p.add_argument("--minutes", type=float, default=30.0, help="budget in minutes; 0: none")
    p.add_argument("--images", type=int, default=0, help="budget in images seen; 0: none")
    p.add_argument("--pool", type=int, default=120_000, help="scenes to generate")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--export-every", type=float, default=5.0, help="minutes between exports")
    p.add_argument("--out", type=Path, default=Path(__file__).parent / "backbones")
    p.add_argument(
        "--work", type=Path, default=Path("work") / "pretrain", help="pool and checkpoints"
    )
    return p


def main(command: Sequence[str] | None = None) -> None:
    """Generate the pool if it is not there, train, write the backbone and its record."""
    args = parser().parse_args(command)
    if not (args.minutes or args.images):
        raise SystemExit("pretrain: give a budget, --minutes or --images")
    args.work.mkdir(parents=True, exist_ok=True)
    scenes = pool.make(args.work / "pool", args.pool, args.seed, args.threads)
    size = len(scenes.images) - HELD_OUT
    training, held_out = pool.split(scenes, size)
    run = Run(args)
    print("resumed" if run.resume() else "started", f"at step {run.progress.step}")
    run.train(training, held_out)


if __name__ == "__main__":
    main()
