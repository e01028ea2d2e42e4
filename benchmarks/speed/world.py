"""What all training configurations share: a backbone, a packed set of random images, and LoRA stages."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import backbones
from benchmarks.training.classification import ImageClassification
from benchmarks.training.data import Images, Normalisation
from benchmarks.training.precision import Precision, hold_in_half
from benchmarks.training.trainer import Plan, Stage
from resora import ReSoRA
from resora.petl import Method, make_method

CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        backbone: A key of ``BACKBONES``.
        device: ``cpu`` or ``cuda``.
        method: A LoRA of the library, such as ``lora-r8``.
        batch_size: Images of a step of one cell.
        images: Training images; a round is at most one epoch of them.
        steps: Steps a round.
        rounds: Rounds that count; one before them warms up.
        workers: Processes of the plain loop's loader.
    """

    backbone: str
    device: str
    method: str
    batch_size: int
    images: int
    steps: int
    rounds: int
    workers: int


class Packed(ImageClassification):
    """Random images, packed and on the device as a task's are; an epoch has the steps of a round."""

    def __init__(self, size: Size, *, reads_losses: bool = False) -> None:
        """Draw the images.

        Args:
            size: How many, and where.
            reads_losses: Read every loss in its step, as plain loops do for their meters.
        """
        self.size, self.device, self.reads_losses = size, size.device, reads_losses
        self.head = backbones.head_of(size.backbone)
        self.batch_size, self.num_classes = size.batch_size, CLASSES
        self.chance_loss = math.log(CLASSES)
        side = backbones.input_size(size.backbone)
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(
            256, (size.images, 3, side, side), dtype=torch.uint8, generator=generator
        )
        labels = torch.randint(CLASSES, (size.images,), generator=generator)
        normalise = Normalisation.named("half", size.device)
        self.train = Images(pixels.to(size.device), labels.to(size.device), normalise)

    @property
    def steps(self) -> int:
        """How many batches a round has."""
        return min(self.size.steps, len(self.train) // self.batch_size)

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate the first batches of an epoch."""
        for index, batch in enumerate(super().batches(seed)):
            if index == self.steps:
                return
            yield batch

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss."""
        loss = super().loss(model, batch)
        if self.reads_losses:
            loss.item()
        return loss


class World:
    """The plain backbone, whose storage all cells share where they freeze it."""

    def __init__(self, size: Size) -> None:
        """Build the backbone with random weights: time does not depend on them."""
        self.size = size
        torch.manual_seed(0)
        config = {"name": size.backbone, "weights": "random", "drop_path": 0.0}
        model, self.weights = backbones.build(config, CLASSES)
        self.model = model.to(size.device)
        self.problem = Packed(size)

    def adapted(self, seed: int) -> tuple[nn.Module, Method]:
        """Return a cell's model: its own low-rank factors and head, the shared backbone."""
        memo: dict[int, Any] = {id(p): nn.Parameter(p.data) for p in self.model.parameters()}
        model = copy.deepcopy(self.model, memo)
        torch.manual_seed(seed)
        method = make_method(self.size.method)
        method.adapt(model, self.problem.head)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.clone()
        return model.to(self.size.device), method

    def stage(
        self,
        folder: Path,
        seed: int,
        precision: Precision,
        *,
        penalty: str | None = None,
        is_held: bool = True,
        problem: Packed | None = None,
    ) -> Stage:
        """Return a cell's stage, as the trainer runs it.

        Args:
            folder: For checkpoints; none is written.
            seed: Of the cell.
            precision: What it computes in.
            penalty: Name of the penalty of a second stage; None without one.
            is_held: In bfloat16, whether frozen matrices are rounded once and not in every pass.
            problem: Instead of the common one.
        """
        model, method = self.adapted(seed)
        if precision.is_half and is_held:
            hold_in_half(model, method)
        regularizer = None if penalty is None else ReSoRA(model, penalty, weight=0.1)
        plan = Plan(
            epochs=100,
            batch_size=self.size.batch_size,
            learning_rate=1e-5,
            weight_decay=0.05,
            warmup_epochs=0,
            evaluate_every=10,
        )
        return Stage(
            model,
            problem or self.problem,
            plan,
            order_seed=seed,
            noise_seed=seed,
            folder=folder,
            identity="timed",
            method=method,
            penalty=regularizer,
            precision=precision,
        )
