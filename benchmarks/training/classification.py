"""Image classification on packed data: the problem that VTAB-1K and few-shot give to the trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import backbones
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.spec import Config
from benchmarks.training.data import Images, fingerprint, load_images, require_task

EVALUATION_BATCH = 250
PROBE_IMAGES = 256
"""Training images on which redundancy is measured: the same for all methods of a task."""


class ImageClassification:
    """Data on the device, cross-entropy, top-1 accuracy on the test and validation splits."""

    metric = "top1_accuracy"

    def __init__(self, cell: Cell, config: Config, context: Context) -> None:
        """Load the splits that the configuration names."""
        data = config["data"]
        self.config = config
        self.head = backbones.head_of(config["backbone"]["name"])
        self.device = context.device
        self.folder = require_task(context.data, data["variant"], cell.benchmark, cell.task)
        self.train = self._images(data["train"], data["limit_train"])
        self.test = self._images(data["test"], data["limit_test"])
        # Images that are trained on cannot choose an epoch.
        is_held_out = data["val"] is not None and data["val"] not in data["train"].split("+")
        self.val = self._images(data["val"], data["limit_test"]) if is_held_out else None
        self.batch_size = config["stage1"]["batch_size"]
        self.num_classes = config["task"]["num_classes"]
        self.chance_loss = math.log(self.num_classes)

    def build(self) -> nn.Module:
        """Return the pre-trained backbone with a fresh head, on the device."""
        model, self.weights = backbones.build(self.config["backbone"], self.num_classes)
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
        val = None if self.val is None else self._accuracy(model, self.val)
        return {f"val_{self.metric}": val, f"test_{self.metric}": self._accuracy(model, self.test)}

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

    def _images(self, split: str, limit: int | None) -> Images:
        normalisation = self.config["data"]["normalisation"]
        return load_images(
            self.folder, split, normalisation=normalisation, device=self.device, limit=limit
        )

    def _accuracy(self, model: nn.Module, images: Images) -> float:
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        for start in range(0, len(images), EVALUATION_BATCH):
            part = slice(start, start + EVALUATION_BATCH)
            correct += (model(images.inputs(part)).argmax(1) == images.labels[part]).sum()
        return correct.item() / len(images)
