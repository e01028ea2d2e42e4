"""Says what a backbone learned: ``python -m data_prep.embedded.pretrain_probe --backbone swin_micro``.

Accuracy of logistic regression on its pooled features, on each packed task of the embedded world, beside
the same network with random weights. Fitted on ``train800``, measured on up to 1,000 test images; the
penalty is the best of three on those same images, for both networks, so the numbers compare networks and
nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from data_prep.embedded.pretrain_networks import NETWORKS, pooled_and_cells

STRENGTHS = (0.01, 0.1, 1.0)
"""Inverse strengths of the penalty that are tried."""

LIMIT = 1000


@torch.no_grad()
def features(backbone: nn.Module, images: Tensor) -> np.ndarray:
    """Pooled features (N, width) of uint8 images (N, 3, 32, 32)."""
    parts = [
        pooled_and_cells(backbone, (part / 255 - 0.5) / 0.5)[0]
        for part in images.float().split(250)
    ]
    return torch.cat(parts).numpy()


def accuracy(backbone: nn.Module, train: dict[str, Tensor], test: dict[str, Tensor]) -> float:
    """Best accuracy of a linear probe over ``STRENGTHS``.

    Args:
        backbone: a network of ``pretrain_networks``, in eval mode.
        train: ``images`` uint8 (N, 3, 32, 32) and ``labels`` (N,).
        test: the same.
    """
    fitted, measured = (features(backbone, split["images"]) for split in (train, test))
    mean, std = fitted.mean(axis=0), fitted.std(axis=0) + 1e-6
    fitted, measured = (fitted - mean) / std, (measured - mean) / std
    labels = train["labels"].numpy()
    probes = (LogisticRegression(C=c, max_iter=500).fit(fitted, labels) for c in STRENGTHS)
    return max(probe.score(measured, test["labels"].numpy()) for probe in probes)


def networks(name: str, weights: Path) -> dict[str, nn.Module]:
    """The network with the weights of a file, and with random ones."""
    torch.manual_seed(0)
    random, trained = (NETWORKS[name].build().eval() for _ in range(2))
    trained.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    return {"pre-trained": trained, "random": random}


def main(command: Sequence[str] | None = None) -> None:
    """Print the accuracies of each task and their means."""
    p = argparse.ArgumentParser(
        prog="python -m data_prep.embedded.pretrain_probe", description=__doc__.splitlines()[0]
    )
    p.add_argument("--backbone", choices=NETWORKS, default="vit_micro")
    p.add_argument("--folder", type=Path, default=Path(__file__).parent / "backbones")
    p.add_argument("--data", type=Path, default=Path("data"))
    args = p.parse_args(command)
    torch.set_num_threads(1)
    found = networks(args.backbone, args.folder / f"{args.backbone}.safetensors")
    tasks = sorted(path.parent for path in args.data.glob("embedded/vtab1k/*/manifest.json"))
    if not tasks:
        raise SystemExit(f"no packed tasks in {args.data}: python -m data_prep prepare vtab1k")
    scores: dict[str, list[float]] = {kind: [] for kind in found}
    for task in tasks:
        train, test = (load_file(task / f"{split}.safetensors") for split in ("train800", "test"))
        test = {key: value[:LIMIT] for key, value in test.items()}
        for kind, network in found.items():
            scores[kind].append(accuracy(network, train, test))
        print(task.name, {kind: round(100 * values[-1], 1) for kind, values in scores.items()})
    means = {kind: round(100 * float(np.mean(values)), 2) for kind, values in scores.items()}
    print(json.dumps({"backbone": args.backbone, "tasks": len(tasks), "mean": means}))


if __name__ == "__main__":
    main()
