"""Few-shot classification: k images a class, augmented, on packed data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import backbones
from benchmarks.fewshot.spec import set_of
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import UsageError
from benchmarks.harness.spec import Config
from benchmarks.training.augment import Augmentation, Protocol
from benchmarks.training.classification import PROBE_IMAGES, ImageClassification
from benchmarks.training.data import (
    NORMALISATIONS,
    Images,
    checked_file,
    manifest_of,
    require_task,
)

DRAWS = "draws"


def require_set(cell: Cell, config: Config, context: Context) -> Path:
    """Return the folder of a cell's packed set.

    Raises:
        UsageError: The set is not prepared, or not as the configuration says; the message gives the command
            that prepares it.
    """
    return require_task(context.data, config["data"], cell.benchmark, set_of(cell.task)[0])


def draw_of(cell: Cell, config: Config) -> str:
    """Return the name of the draw of a cell's seed."""
    return f"{config['data']['shots']}shot_seed{cell.seed}"


def check_mixing(protocol: Protocol, batch_size: int) -> None:
    """Raise a ``UsageError`` if images are mixed in pairs and a batch has an odd size."""
    if (protocol.mixup or protocol.cutmix) and batch_size % 2:
        raise UsageError(
            f"mixing needs batches of an even size, not of {batch_size} (stage1.batch_size)"
        )


class FewShot(ImageClassification):
    """The images of one draw stay on the CPU, where they are augmented; test images are read in order.

    Redundancy is measured on validation images: a draw may have too few.
    """

    is_augmented = True

    def __init__(self, cell: Cell, config: Config, context: Context) -> None:
        """Load the draw of the cell's seed, and the splits that the configuration names."""
        self.draw = draw_of(cell, config)
        super().__init__(cell, config, context)
        self.prepare(config)

    def prepare(self, config: Config) -> None:
        """Prepare the augmentation that the configuration names.

        Raises:
            UsageError: It mixes, and a batch has an odd size.
        """
        protocol = Protocol.of(config["augment"])
        check_mixing(protocol, self.batch_size)
        self.smoothing = protocol.smoothing
        self.augmentation = Augmentation(
            protocol,
            size=config["data"].get("image_size")
            or backbones.input_size(config["backbone"]["name"]),
            mean=NORMALISATIONS[config["data"]["normalisation"]][0],
            num_classes=self.num_classes,
            device=self.device,
        )

    def find_folder(self, cell: Cell) -> Path:
        """Return the folder of the packed set."""
        return require_set(cell, self.config, self.context)

    def load_train(self, data: dict[str, Any], where: dict[str, Any]) -> Images:
        """Load the images of the draw, in its order; an image that is listed twice is there twice."""
        path = checked_file(self.folder, data["train"])
        index = self._draw()[: data["limit_train"]]
        with safe_open(path, framework="pt") as file:
            images, labels = file.get_slice("images"), file.get_tensor("labels")
            pixels = torch.stack([images[int(i)] for i in index])
        return Images(pixels, labels[index], where["normalise"])

    def _draw(self) -> Tensor:
        """Return the draw's indices into the packed training images."""
        lists = manifest_of(self.folder)[DRAWS]["lists"]
        if self.draw not in lists:
            known = ", ".join(lists)
            raise UsageError(f"{self.folder} has no draw {self.draw}; it has {known}")
        with safe_open(checked_file(self.folder, DRAWS), framework="pt") as file:
            index: Tensor = file.get_tensor(self.draw)
        return index

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate shuffled, augmented batches; what does not fill a batch is dropped."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        labels = self.train.labels[order].to(self.device).split(self.batch_size)
        batches = self.augmentation.pixels(
            self.train.pixels, order, batch_size=self.batch_size, seed=seed
        )
        for step, pixels in enumerate(batches):
            yield self.augmentation.batch(
                self.normalise(pixels), labels[step], seed=seed * self.steps + step
            )

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross-entropy of a batch, whose labels may be mixed."""
        inputs, labels = batch
        smoothing = 0.0 if labels.is_floating_point() else self.smoothing  # mixing smooths itself
        return functional.cross_entropy(model(inputs), labels, label_smoothing=smoothing)

    def probe(self, model: nn.Module) -> None:
        """Run the model forward on the images on which redundancy is measured."""
        images = self.test if self.val is None else self.val
        model.eval()
        with torch.inference_mode():
            inputs, _ = next(images.batches(PROBE_IMAGES))
            model(inputs)

    def counts(self) -> dict[str, Any]:
        """Return how many examples are meant and how many are seen."""
        distinct = len(torch.unique(self._draw()[: self.config["data"]["limit_train"]]))
        return super().counts() | {"n_train_distinct": distinct}

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the data."""
        manifest = manifest_of(self.folder)
        return super().fingerprint() | {
            "draw": self.draw,
            "draws_sha256": manifest[DRAWS]["sha256"],
            "draw_source": manifest["draw_source"],
        }
