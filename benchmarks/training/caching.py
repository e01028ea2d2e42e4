"""Cached features: the outputs of frozen parts that see the same images in every epoch, computed once.

Training images are kept unless they are augmented; test and validation images never are. What the rest of the
model computes from a kept feature is what it computes from the image: the same layers on the same numbers
(``cuts``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.training.cuts import Cut, Watched
from benchmarks.training.data import Images, Stream
from benchmarks.training.trainer import Plan, Problem

MOST_BYTES = 2 * 2**30
"""Largest main memory for the features of one split; larger ones are not cached."""

SHARE_OF_GPU = 0.25
"""Of the memory that is free on a GPU, what the features of one split may take: of three splits, and of two
processes that ask at once, there remains enough to train in."""


@dataclass(frozen=True)
class Features:
    """One split as the rest of a model reads it, on the device.

    Attributes:
        tensors: What a cut watches, each (N, ...).
        labels: int64 (N,).
    """

    tensors: Sequence[Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, index: Tensor | slice) -> list[Tensor]:
        """Return the cached features of the chosen images."""
        return [tensor[index] for tensor in self.tensors]

    def batches(self, size: int) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Iterate inputs and labels in order, the last batch perhaps smaller."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self.inputs(part), self.labels[part]


class Kept(Problem):
    """A problem that hands out features in the place of examples, where they are kept.

    A subclass says what batches, loss and metrics are of features; all else is as the problem has it.
    """

    def __init__(self, problem: Any, features: Mapping[str, Any], seconds: float) -> None:
        """Stand for a problem.

        Args:
            problem: What features are in the place of.
            features: By split, those that are kept.
            seconds: What computing them took.
        """
        self.chance_loss = problem.chance_loss
        self.problem, self.features, self.seconds = problem, features, seconds

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return int(self.problem.steps)

    def start_epoch(self, epoch: int, plan: Plan) -> None:
        """Prepare for an epoch, as the problem does."""
        self.problem.start_epoch(epoch, plan)

    def group_of(self, name: str, parameter: nn.Parameter) -> str:
        """Return the problem's group of a parameter."""
        group: str = self.problem.group_of(name, parameter)
        return group

    def after_backward(self, trained: Sequence[nn.Parameter]) -> None:
        """Change gradients as the problem does."""
        self.problem.after_backward(trained)

    def after_step(self, model: nn.Module) -> None:
        """Change the model as the problem does."""
        self.problem.after_step(model)

    def why_diverged(self, losses: Sequence[float], *, is_last: bool) -> str | None:
        """Say what the problem says."""
        reason: str | None = self.problem.why_diverged(losses, is_last=is_last)
        return reason


def features_of(model: nn.Module, cut: Cut, images: Images | Stream, size: int) -> Features | None:
    """Return the watched outputs by image; None if they need too much memory.

    Args:
        model: The adapted model, in the mode in which features will be used.
        cut: Where it is parted.
        images: One split.
        size: Of the batches in which they will be used: a matrix product of fewer rows may round otherwise.
    """
    watch = _Watch(model, cut.watched)
    kept: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.no_grad():
        for start, inputs, truth in _whole_batches(images, size):
            found = watch(inputs)
            if not kept:
                bytes_each = sum(tensor[0].nbytes for tensor in found)
                if bytes_each * len(images) > room(inputs.device):
                    return None
                kept = [tensor.new_empty(len(images), *tensor.shape[1:]) for tensor in found]
            for into, tensor in zip(kept, found, strict=True):
                into[start : start + len(tensor)] = tensor
            labels.append(truth)
    return Features(kept, torch.cat(labels)) if kept else None


class _Reached(Exception):
    """The forward pass has reached the end of the frozen part."""


class _Watch:
    """Hooks that record the watched outputs of a forward pass, and stop it after the last one."""

    def __init__(self, model: nn.Module, watched: Sequence[Watched]) -> None:
        self.model, self.watched = model, watched
        self.found: list[Tensor] = []

    def __call__(self, inputs: Tensor) -> list[Tensor]:
        """Return the watched outputs for a batch."""
        self.found = []
        with ExitStack() as hooks:
            for module, is_input in self.watched:
                of = self.model.get_submodule(module)
                # First of the module's hooks: a side network replaces what comes after.
                if is_input:
                    handle = of.register_forward_pre_hook(self._input, prepend=True)
                else:
                    handle = of.register_forward_hook(self._output, prepend=True)
                hooks.callback(handle.remove)
            try:
                self.model(inputs)
            except _Reached:
                return self.found
        raise RuntimeError(f"the forward pass did not reach {self.watched[-1].module}")

    def _input(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._take(args[0])

    def _output(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._take(output)

    def _take(self, tensor: Tensor) -> None:
        self.found.append(tensor)
        if len(self.found) == len(self.watched):
            raise _Reached


def room(device: torch.device) -> float:
    """Return how many bytes the features of one split may take."""
    if device.type != "cuda":
        return MOST_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return SHARE_OF_GPU * free


def _whole_batches(images: Images | Stream, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the place of each batch's first image, inputs, and the labels that did not come before.

    Training drops what does not fill a batch, so there the last batch is filled from before: a matrix product
    of fewer rows may round otherwise.
    """
    if isinstance(images, Stream):
        starts = range(0, len(images), size)
        yield from ((at, *batch) for at, batch in zip(starts, images.batches(size), strict=True))
        return
    for at in range(0, len(images), size):
        first = max(0, min(at, len(images) - size))
        part = slice(first, first + size)
        yield first, images.inputs(part), images.labels[at : at + size]
