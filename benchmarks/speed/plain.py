"""The loop of public repositories: a data loader whose workers decode JPEGs, float32, one cell at a time.

It is the baseline of all speeds. Images are noise of a photograph's size and compression; they are resized
and normalised in the workers, which are started anew for each epoch. Each loss is read in its step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks import backbones
from benchmarks.speed.world import CLASSES, Size, World

FILES = 128
"""Different JPEGs; more images than that are the same files again."""

HEIGHT, WIDTH, QUALITY = 375, 500, 90


class Files(Dataset[Any]):
    """JPEG files with labels."""

    def __init__(self, paths: list[Path], count: int, side: int) -> None:
        """Take the files, how many images there are to be, and the height and width of the input."""
        self.paths, self.count, self.side = paths, count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Decode, resize and normalise an image."""
        with Image.open(self.paths[index % len(self.paths)]) as file:
            image = file.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - 0.5) / 0.5, index % CLASSES


def write_files(folder: Path) -> list[Path]:
    """Write the JPEGs: smooth noise with some grain, which compresses as photographs do."""
    random = np.random.default_rng(0)
    paths = []
    for index in range(FILES):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        grain = random.integers(-12, 13, smooth.shape)
        paths.append(folder / f"{index}.jpg")
        pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(paths[-1], quality=QUALITY)
    return paths


def loader_of(size: Size, paths: list[Path], *, trains: bool) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return the loader of the training images, or of those that are evaluated."""
    return DataLoader(
        Files(paths, size.images, backbones.input_size(size.backbone)),
        batch_size=size.batch_size if trains else min(4 * size.batch_size, size.images),
        shuffle=trains,
        drop_last=trains,
        num_workers=size.workers,
        pin_memory=size.device == "cuda",
    )


def plain_epoch(world: World, paths: list[Path]) -> Callable[[], int]:
    """Return what trains an epoch, at most the steps of a round, and returns the number of images."""
    size = world.size
    model, _ = world.adapted(0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.05)
    loader = loader_of(size, paths, trains=True)

    def epoch() -> int:
        model.train()
        total, images = 0.0, 0
        for step, (inputs, labels) in enumerate(loader):
            if step == size.steps:
                break
            inputs, labels = inputs.to(size.device), labels.to(size.device)
            loss = functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            images += len(inputs)
        return images

    return epoch


def plain_evaluation(model: nn.Module, size: Size, paths: list[Path]) -> float:
    """Return images a second of a plain evaluation."""
    model.eval()
    started, correct = perf_counter(), 0
    with torch.no_grad():
        for inputs, labels in loader_of(size, paths, trains=False):
            found = model(inputs.to(size.device)).argmax(1)
            correct += int((found == labels.to(size.device)).sum().item())
    return size.images / (perf_counter() - started)
