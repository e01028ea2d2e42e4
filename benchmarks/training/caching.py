"""Features of what is frozen and sees the same images in every epoch: computed once.

For ``linear`` it is all before the head, for ``partial`` all before the first trained block. Training
images are kept unless they are augmented; test and validation images never are. What the rest of the model
computes from a kept feature is what it computes from the image: the same layers on the same numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.training.classification import EVALUATION_BATCH, ImageClassification
from benchmarks.training.data import Images, Stream
from benchmarks.training.precision import Precision
from benchmarks.training.trainer import Plan, Problem
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from timm.layers.drop import DropPath  # noqa: E402 - the guard has to come first
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

from resora.petl import Method  # noqa: E402
from resora.petl.linear import Linear  # noqa: E402
from resora.petl.partial import Partial  # noqa: E402

MOST_BYTES = 2 * 2**30
"""Memory that the features of one split may take; a split with more is computed anew each time."""


class Cut(NamedTuple):
    """Where a model is parted.

    Attributes:
        entry: Dotted name of the first module that is trained; its input is the feature.
        tail: Maps the feature to the model's output; its modules are the model's own.
    """

    entry: str
    tail: nn.Module


def cut_of(model: nn.Module, method: Method, head: str) -> Cut | None:
    """Return where a model's frozen part ends; None where the method feeds it back, or trains all.

    Args:
        model: The adapted model.
        method: What adapted it.
        head: Dotted name of its head.
    """
    if type(method) is Linear:
        return Cut(head, model.get_submodule(head))
    if type(method) is Partial and type(model) is VisionTransformer:
        first = len(model.blocks) - method.blocks
        if first > 0:
            return Cut(f"blocks.{first}" if method.blocks else head, _Tail(model, first))
    return None


class _Tail(nn.Module):
    """The last blocks of a vision transformer, and what comes after them."""

    def __init__(self, model: VisionTransformer, first: int) -> None:
        super().__init__()
        # In a list: the modules are the model's, and go by its mode.
        self._model, self._first = [model], first

    def forward(self, x: Tensor) -> Tensor:
        model = self._model[0]
        for block in list(model.blocks)[self._first :]:
            x = block(x)
        logits: Tensor = model.forward_head(model.norm(x))
        return logits


class CachedProblem(Problem):
    """A problem that is given features in the place of images, where they are kept.

    Attributes:
        features: By split, those that are kept.
        seconds: What computing them took.
    """

    def __init__(
        self, problem: ImageClassification, model: nn.Module, cut: Cut, precision: Precision
    ) -> None:
        """Compute the features of the splits that are not too large.

        Args:
            problem: Images, loss and metrics; not changed.
            model: The adapted model.
            cut: Where it is parted.
            precision: What its forward pass computes in.
        """
        started = perf_counter()
        self.chance_loss = problem.chance_loss
        self.problem, self.tail = problem, cut.tail
        self.features: dict[str, Images] = {}
        is_augmented = type(problem).batches is not ImageClassification.batches
        for split in ("train", "val", "test"):
            images: Images | Stream | None = getattr(problem, split)
            is_training = split == "train"
            if images is None or (is_training and (is_augmented or _is_noisy(model, cut.entry))):
                continue
            size = problem.batch_size if is_training else EVALUATION_BATCH
            model.train(is_training)
            with precision.forward(problem.device):
                kept = _features(model, cut.entry, images, size)
            if kept is not None:
                self.features[split] = kept
        self.seconds = perf_counter() - started

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return self.problem.steps

    def start_epoch(self, epoch: int, plan: Plan) -> None:
        """Prepare for an epoch, as the problem does."""
        self.problem.start_epoch(epoch, plan)

    def why_diverged(self, losses: Sequence[float], *, is_last: bool) -> str | None:
        """Say what the problem says."""
        return self.problem.why_diverged(losses, is_last=is_last)

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
                None if images is None else self.problem.accuracy(computed_by, images)
            )
        return found


def without_repeating(
    problem: Problem, model: nn.Module, method: Method, precision: Precision
) -> CachedProblem | None:
    """Return the problem with features where a method allows it; None where nothing can be kept."""
    if not isinstance(problem, ImageClassification):
        return None
    cut = cut_of(model, method, problem.head)
    if cut is None:
        return None
    cached = CachedProblem(problem, model, cut, precision)
    return cached if cached.features else None


class _Reached(Exception):
    """The forward pass has come to the first module that is trained."""

    def __init__(self, feature: Tensor) -> None:
        super().__init__()
        self.feature = feature


def _features(model: nn.Module, entry: str, images: Images | Stream, size: int) -> Images | None:
    """Return the inputs of ``entry`` by image, in batches of the size in which they will be used."""

    def stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _Reached(inputs[0])

    kept: Tensor | None = None
    labels: list[Tensor] = []
    handle = model.get_submodule(entry).register_forward_pre_hook(stop)
    try:
        with torch.no_grad():
            for start, inputs, truth in _whole_batches(images, size):
                try:
                    model(inputs)
                except _Reached as reached:
                    feature = reached.feature
                if kept is None:
                    if feature[0].nbytes * len(images) > MOST_BYTES:
                        return None
                    kept = feature.new_empty(len(images), *feature.shape[1:])
                kept[start : start + len(feature)] = feature
                labels.append(truth)
    finally:
        handle.remove()
    return None if kept is None else Images(kept, torch.cat(labels), _same)


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


def _same(features: Tensor) -> Tensor:
    return features


def _is_noisy(model: nn.Module, entry: str) -> bool:
    """Whether training draws noise before the module called ``entry``; modules are in order."""
    for name, module in model.named_modules():
        if name == entry:
            return False
        if isinstance(module, DropPath) and module.drop_prob:
            return True
        if isinstance(module, nn.Dropout) and module.p:
            return True
    return False
