"""Training augmentation by timm: random resized crop, flip, RandAugment; erasing, mixup, CutMix.

What works on one image at a time runs on the CPU, on a GPU machine in processes ahead of the step; what works
on a batch runs on the device. Every image and every batch has its own seed, so that the numbers depend
neither on the number of processes nor on where a killed run went on.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from timm.data.auto_augment import AugmentOp, RandAugment  # noqa: E402 - the guard has to come first
from timm.data.mixup import Mixup  # noqa: E402
from timm.data.random_erasing import RandomErasing  # noqa: E402
from timm.data.transforms_factory import create_transform  # noqa: E402

Item = tuple[int, int]
"""Index of an image, and the seed of its augmentation."""

MOST_WORKERS = 8
PRIME = 1_000_003
SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The numbers of an augmentation: the section ``augment`` of a configuration.

    Attributes:
        crop_area: Share of an image's area that a crop may have, least and most.
        crop_ratio: Aspect ratio of a crop, least and most.
        interpolation: By which a crop is resized.
        flip: Probability of a horizontal flip.
        policy: RandAugment in timm's notation; None: without.
        erasing: Probability that a rectangle of an image is replaced by noise.
        mixup: Alpha of mixup; 0: without.
        cutmix: Alpha of CutMix; 0: without. With both, each takes half of the batches.
        smoothing: Share of the label that goes to all classes.
    """

    crop_area: Sequence[float]
    crop_ratio: Sequence[float]
    interpolation: str
    flip: float
    policy: str | None
    erasing: float
    mixup: float
    cutmix: float
    smoothing: float

    @classmethod
    def of(cls, section: dict[str, Any]) -> Protocol:
        """Read a protocol from a configuration's section."""
        return cls(**{field.name: section[field.name] for field in fields(cls)})


class Augmentation:
    """Augments batches of packed images."""

    def __init__(
        self,
        protocol: Protocol,
        *,
        size: int,
        mean: Sequence[float],
        num_classes: int,
        device: str,
        workers: int | None = None,
    ) -> None:
        """Prepare an augmentation.

        Args:
            protocol: Its numbers.
            size: Height and width of what comes out.
            mean: The colour in [0, 1] that fills what a rotation or shift uncovers: the one that becomes 0.
            num_classes: Number of classes.
            device: Where batches are trained on.
            workers: Processes that augment ahead of the step; None: on a GPU one a core but one, at most
                ``MOST_WORKERS``, on a CPU none, where they would only take the step's time.
        """
        self.protocol, self.device = protocol, device
        self.transform = image_transform(protocol, size=size, mean=mean)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        ahead = max(1, min(MOST_WORKERS, cores - 1)) if device.startswith("cuda") else 0
        self.workers = ahead if workers is None else workers
        self.erase = RandomErasing(
            protocol.erasing, mode="pixel", max_count=1, device=torch.device(device)
        )
        self.mix = None
        if protocol.mixup or protocol.cutmix:
            self.mix = Mixup(
                mixup_alpha=protocol.mixup,
                cutmix_alpha=protocol.cutmix,
                label_smoothing=protocol.smoothing,
                num_classes=num_classes,
            )
        self._loader: tuple[Tensor, DataLoader[Tensor], Batches] | None = None

    def pixels(
        self, pixels: Tensor, index: Tensor, *, batch_size: int, seed: int
    ) -> Iterator[Tensor]:
        """Iterate augmented whole batches of an epoch.

        Args:
            pixels: uint8 (N, 3, H, W), on the CPU.
            index: int64 (n,), which images in which order; what does not fill a batch is dropped.
            batch_size: Size of a batch.
            seed: Decides the augmentation.

        Yields:
            uint8 (batch_size, 3, size, size), on the device.
        """
        if self._loader is None or self._loader[0] is not pixels:
            self._loader = (pixels, *self._load(pixels))
        _, loader, batches = self._loader
        seeds = [(seed * PRIME + position) % SEEDS for position in range(len(index))]
        items = list(zip(index.tolist(), seeds, strict=True))
        whole = len(items) // batch_size * batch_size
        batches.items = [items[at : at + batch_size] for at in range(0, whole, batch_size)]
        for batch in loader:
            yield batch.to(self.device, non_blocking=True)

    def batch(self, inputs: Tensor, labels: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Erase and mix a batch.

        Args:
            inputs: float32 (n, 3, size, size), normalised; changed in place.
            labels: int64 (n,).
            seed: Decides what happens.

        Returns:
            The inputs, and the labels: as they were, or after mixing float32 (n, classes).
        """
        if not self.protocol.erasing and self.mix is None:
            return inputs, labels
        with seeded(seed % SEEDS, self.device):
            inputs = self.erase(inputs)
            return (inputs, labels) if self.mix is None else self.mix(inputs, labels)

    def _load(self, pixels: Tensor) -> tuple[DataLoader[Tensor], Batches]:
        batches = Batches()
        loader = DataLoader(
            Augmented(pixels, self.transform),
            batch_sampler=batches,
            num_workers=self.workers,
            pin_memory=self.device.startswith("cuda"),
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # without it, each epoch takes a number of torch's own
        )
        return loader, batches


class Batches:
    """The items of each batch of the epoch that comes."""

    def __init__(self) -> None:
        """Begin without any."""
        self.items: list[list[Item]] = []

    def __iter__(self) -> Iterator[list[Item]]:
        """Iterate the batches."""
        return iter(self.items)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.items)


class Augmented(Dataset[Tensor]):
    """Packed images, each augmented by its seed when it is asked for."""

    def __init__(self, pixels: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        """Take uint8 (N, 3, H, W), and what turns an image into uint8 (3, size, size)."""
        self.pixels, self.transform = pixels, transform

    def __getitem__(self, item: Item) -> Tensor:
        """Return an augmented image, uint8 (3, size, size)."""
        index, seed = item
        image = Image.fromarray(self.pixels[index].permute(1, 2, 0).numpy())
        with seeded(seed):
            return self.transform(image)


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed all that timm draws from; torch's own state, which dropout draws from, is as before afterwards."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - timm draws from it
        torch.manual_seed(seed)
        yield


def image_transform(
    protocol: Protocol, *, size: int, mean: Sequence[float]
) -> Callable[[Image.Image], Tensor]:
    """Return timm's transform of one image: crop, flip and policy, to uint8 (3, size, size)."""
    transform = create_transform(
        size,
        is_training=True,
        scale=(protocol.crop_area[0], protocol.crop_area[1]),
        ratio=(protocol.crop_ratio[0], protocol.crop_ratio[1]),
        hflip=protocol.flip,
        color_jitter=0.0,
        auto_augment=protocol.policy,
        interpolation=protocol.interpolation,
        mean=tuple(mean),
        normalize=False,
    )
    for step in transform.transforms:
        if isinstance(step, RandAugment):
            for operation in step.ops:
                keep_a_bit(operation)
    made: Callable[[Image.Image], Tensor] = transform
    return made


def keep_a_bit(operation: AugmentOp) -> None:
    """Keep at least one bit when posterising.

    At its greatest magnitude timm 1.0 asks for none, which Pillow 12 refuses and earlier ones made black.
    """
    bits_of = operation.level_fn
    if bits_of is None or not operation.name.startswith("Posterize"):
        return
    operation.level_fn = lambda magnitude, hparams: (max(1, bits_of(magnitude, hparams)[0]),)
