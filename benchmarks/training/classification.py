"""Image classification on packed data: the problem that VTAB-1K and few-shot give to the trainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import backbones
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import UsageError
from benchmarks.harness.spec import Config
from benchmarks.training.caching import Features, Kept, features_of
from benchmarks.training.cuts import cut_of, is_noisy
from benchmarks.training.data import (
    EVALUATION_BATCH,
    Images,
    Normalisation,
    Stream,
    fingerprint,
    load_images,
    open_stream,
    require_task,
)
from benchmarks.training.finite import require_rows
from benchmarks.training.precision import Precision
from benchmarks.training.trainer import Problem
from benchmarks.weights import FOLDER
from resora.petl import Method

PROBE_IMAGES = 256
"""Training images on which redundancy is measured: the same for all methods of a task."""


def weight_files(context: Context) -> backbones.Files:
    """Return where published weights are on this machine."""
    return backbones.Files(context.data / FOLDER, context.weights)


def require_batch(cell: Cell, config: Config, count: int) -> None:
    """Raise a ``UsageError`` unless so many training images fill a batch."""
    size, most = config["stage1"]["batch_size"], config["data"]["limit_train"]
    if (count := min(count, most or count)) < size:
        raise UsageError(
            f"{cell.benchmark}/{cell.task}: {count} training images do not fill one batch of {size} "
            f"(--set stage1.batch_size={count}, or less)"
        )


class ImageClassification(Problem):
    """Data on the device, cross-entropy, top-1 accuracy on the test and validation splits."""

    metric = "top1_accuracy"
    metrics: tuple[str, ...] = (metric,)
    is_augmented = False
    """Whether training images are others in each epoch."""

    def __init__(self, cell: Cell, config: Config, context: Context) -> None:
        """Load the splits that the configuration names."""
        data = config["data"]
        self.config, self.context = config, context
        self.head = backbones.head_of(config["backbone"]["name"])
        self.device = context.device
        self.folder = self.find_folder(cell)
        self.normalise = Normalisation.named(data["normalisation"], self.device)
        where: dict[str, Any] = {"normalise": self.normalise, "device": self.device}
        self.train = self.load_train(data, where)
        self.test = open_stream(self.folder, data["test"], limit=data["limit_test"], **where)
        # Images that are trained on cannot choose an epoch.
        is_held_out = data["val"] is not None and data["val"] not in data["train"].split("+")
        self.val = (
            open_stream(self.folder, data["val"], limit=data["limit_test"], **where)
            if is_held_out
            else None
        )
        self.batch_size: int = config["stage1"]["batch_size"]
        require_batch(cell, config, len(self.train))
        self.num_classes = config["task"]["num_classes"]
        self.chance_loss = math.log(self.num_classes)

    def find_folder(self, cell: Cell) -> Path:
        """Return the folder of the packed data."""
        return require_task(self.context.data, self.config["data"], cell.benchmark, cell.task)

    def load_train(self, data: dict[str, Any], where: dict[str, Any]) -> Images:
        """Load the training images; ``where``: the normalisation and the device."""
        return load_images(self.folder, data["train"], limit=data["limit_train"], **where)

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return len(self.train) // self.batch_size

    @property
    def counted(self) -> dict[str, tuple[str, ...]]:
        """What is trained besides the method's own: name in a record's cost -> submodules."""
        return {"head_params": (self.head,)}

    def build(self) -> nn.Module:
        """Return the pre-trained backbone with a fresh head, on the device."""
        model, self.weights = backbones.build(
            self.config["backbone"], self.num_classes, weight_files(self.context)
        )
        return model.to(self.device)

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate shuffled batches; what does not fill a batch is dropped, as the protocol says."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        order = order.to(self.device)
        for index in order.split(self.batch_size):
            if len(index) == self.batch_size:
                yield self.train.inputs(index), self.train.labels[index]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross-entropy of a batch."""
        inputs, labels = batch
        return functional.cross_entropy(model(inputs), labels)

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Return top-1 accuracy on the test split, and on the validation split if it is held out."""
        val = None if self.val is None else self.accuracy(model, self.val, "val")
        test = self.accuracy(model, self.test, "test")
        return {f"val_{self.metric}": val, f"test_{self.metric}": test}

    def keep_features(
        self, model: nn.Module, method: Method, precision: Precision
    ) -> CachedProblem | None:
        """Compute the features before the first trained part of a model, once."""
        started = perf_counter()
        cut = cut_of(model, method, self.head)
        if cut is None:
            return None
        kept: dict[str, Features] = {}
        for split in ("train", "val", "test"):
            images: Images | Stream | None = getattr(self, split)
            is_training = split == "train"
            if images is None or (is_training and (self.is_augmented or is_noisy(model, cut))):
                continue
            model.train(is_training)
            with precision.forward(self.device):
                found = features_of(
                    model, cut, images, self.batch_size if is_training else EVALUATION_BATCH
                )
            if found is not None:
                kept[split] = found
        return CachedProblem(self, cut.tail, kept, perf_counter() - started) if kept else None

    def probe(self, model: nn.Module) -> None:
        """Run the model forward on the images on which redundancy is measured."""
        model.eval()
        with torch.inference_mode():
            model(self.train.inputs(slice(PROBE_IMAGES)))

    def counts(self) -> dict[str, Any]:
        """Return how many examples are meant and how many are seen."""
        kept = len(self.train) // self.batch_size * self.batch_size
        return {
            "n_train": len(self.train),
            "n_seen_per_epoch": kept,
            "n_val": None if self.val is None else len(self.val),
            "n_test": len(self.test),
            "n_evaluated": len(self.test),
            "limit_train": self.config["data"]["limit_train"],
            "limit_test": self.config["data"]["limit_test"],
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the data."""
        return fingerprint(self.folder)

    def accuracy(
        self, model: nn.Module, images: Images | Stream | Features, place: str = "evaluation"
    ) -> float:
        """Return the share of images whose class a model names.

        Raises:
            Diverged: A logit is not finite; the message has ``place``, the split, and the row of the image.
        """
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        finite = []
        for inputs, labels in images.batches(EVALUATION_BATCH):
            logits = model(inputs)
            correct += (logits.argmax(1) == labels).sum()
            finite.append(logits.isfinite().all(1))
        require_rows(torch.cat(finite), f"{place}: the logits")
        return correct.item() / len(images)


class CachedProblem(Kept):
    """Image classification that is given features in the place of images, where they are kept."""

    problem: ImageClassification

    def __init__(
        self,
        problem: ImageClassification,
        tail: nn.Module,
        features: Mapping[str, Features],
        seconds: float,
    ) -> None:
        """Put features in the place of images; ``tail`` is what the model computes from them."""
        super().__init__(problem, features, seconds)
        self.tail = tail

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate the problem's batches: of features, if those of training images are kept."""
        problem = copy.copy(self.problem)
        problem.train = self.features.get("train", problem.train)
        return problem.batches(seed)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the problem's loss of a batch."""
        return self.problem.loss(self.tail if "train" in self.features else model, batch)

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Return the problem's metrics."""
        found: dict[str, float | None] = {}
        for split in ("val", "test"):
            images = self.features.get(split, getattr(self.problem, split))
            computed_by = self.tail if split in self.features else model
            found[f"{split}_{self.problem.metric}"] = (
                None if images is None else self.problem.accuracy(computed_by, images, split)
            )
        return found
