"""``ReSoRA``: collects the activations of low-rank layers in the forward pass, returns the penalty."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from resora.penalties import PENALTIES, squared_cosines
from resora.petl.base import LowRankLayer, Subspaces

Sample = Literal["token", "image"]

DEFAULT_SAMPLE: dict[str, Sample] = {
    "linear": "token",
    "cosine": "token",
    "euclidean": "token",
    "nonlinear": "image",
}
"""What counts as one of the N samples: every token, or the mean over an image's tokens. The paper does
not say. R_n costs N^2, and only images are compatible with the costs that its Table 6 prints."""


class ReSoRA:
    """The penalty on the redundancy between subspaces, as a term of a training loss.

    Each low-rank layer computes ``z = A x`` in its forward pass; it is kept and used, nothing is
    computed twice. All matrices of one shape are penalised together.

        regularizer = ReSoRA(model, penalty="linear", weight=0.1)
        loss = task_loss(model(x), y) + regularizer()

    The value is weight x mean over adapted matrices of the equation's sum over pairs (the paper says
    neither the weight nor how matrices are joined; a mean does not grow with the depth).
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: str = "linear",
        *,
        weight: float,
        sample: Sample | None = None,
        **options: Any,
    ) -> None:
        """Find the low-rank layers of ``model`` and start recording their forward passes.

        Args:
            model: A model with at least one layer that implements ``LowRankLayer``.
            penalty: ``linear``, ``nonlinear``, ``euclidean`` or ``cosine``.
            weight: The factor of the penalty in the loss.
            sample: What counts as a sample; None takes the penalty's default.
            **options: Options of the penalty function, such as ``beta`` or ``orientation``.

        Raises:
            ValueError: The model has no low-rank layer, or there is no such penalty.
        """
        if penalty not in PENALTIES:
            raise ValueError(f"unknown penalty {penalty!r} (known: {', '.join(PENALTIES)})")
        self.layers = low_rank_layers(model)
        self.penalty = penalty
        self.weight = weight
        self.sample: Sample = sample or DEFAULT_SAMPLE[penalty]
        self.options = options
        for layer in self.layers.values():
            layer.tap(True)

    def __call__(self) -> Tensor:
        """Return the weighted penalty of the last forward pass, a scalar with a gradient."""
        function = PENALTIES[self.penalty]
        groups: defaultdict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for z, b in (_samples(s, self.sample) for s in self._recorded()):
            groups[z.shape[1:] + b.shape[1:]].append((z, b))
        values = [
            function(
                torch.cat([z for z, _ in group]), torch.cat([b for _, b in group]), **self.options
            )
            for group in groups.values()
        ]
        return self.weight * torch.cat(values).mean()

    def close(self) -> None:
        """Stop recording and let the activations go."""
        for layer in self.layers.values():
            layer.tap(False)

    def _recorded(self) -> Iterator[Subspaces]:
        for name, layer in self.layers.items():
            subspaces = layer.subspaces()
            if subspaces is None:
                raise RuntimeError(
                    f"low-rank layer {name!r} was not called since recording began; "
                    "run the model forward before asking for the penalty"
                )
            yield subspaces


@contextmanager
def recording(layers: dict[str, LowRankLayer]) -> Iterator[None]:
    """Keep the activations of forward passes inside the block, and drop them after it."""
    for layer in layers.values():
        layer.tap(True)
    try:
        yield
    finally:
        for layer in layers.values():
            layer.tap(False)


def low_rank_layers(model: nn.Module) -> dict[str, LowRankLayer]:
    """Return the layers of ``model`` that implement ``LowRankLayer``, by name.

    Raises:
        ValueError: There is none.
    """
    layers: dict[str, LowRankLayer] = {
        name: module for name, module in model.named_modules() if isinstance(module, LowRankLayer)
    }
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no low-rank layer: none of its modules has the methods "
            "`tap`, `subspaces` and `matrix_names`; adapt it first, for instance with LoRA"
        )
    return layers


def redundancy(layers: dict[str, LowRankLayer]) -> dict[str, Tensor]:
    """Return the matrix of cos^2 between subspace activations, for each adapted matrix.

    Every token of the last recorded forward pass is a sample. Independent subspaces have an expected
    cos^2 of one over the number of samples.

    Returns:
        By name, such as ``blocks.0.attn.qkv.q``: (r, r) on the CPU, without gradient.
    """
    matrices: dict[str, Tensor] = {}
    for name, layer in layers.items():
        subspaces = layer.subspaces()
        if subspaces is None:
            raise RuntimeError(f"low-rank layer {name!r} has recorded no forward pass")
        z = _samples(subspaces, "token")[0].detach().float()
        for matrix, values in zip(layer.matrix_names(), squared_cosines(z), strict=True):
            matrices[f"{name}.{matrix}"] = values.cpu()
    return matrices


def _samples(subspaces: Subspaces, sample: Sample) -> tuple[Tensor, Tensor]:
    z = subspaces.z.mean(2) if sample == "image" else subspaces.z.flatten(1, 2)
    return z, subspaces.b
