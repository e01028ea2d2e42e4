"""One forward pass for several LoRA models that share their frozen backbone.

The batches of K models are stacked to one of K times the size, which the frozen layers see as any batch;
where a model has parameters of its own, its part of the batch meets these, by batched matrix products. No
layer mixes the images of a batch, so each model computes what it computes alone, to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from timm.layers.drop import DropPath  # noqa: E402 - the guard has to come first

from resora.petl.layers.low_rank import LowRankLinear  # noqa: E402


class NotShared(ValueError):
    """Models cannot share a forward pass; the message says why."""


class SharedForward(nn.Module):
    """Computes K models in one pass; the trained parameters stay in the models, which are not copied."""

    def __init__(self, models: Sequence[nn.Module], head: str) -> None:
        """Join models.

        The models' frozen parameters share their storage afterwards.

        Args:
            models: LoRA models on one device, of the same backbone with the same frozen weights. Ranks and
                scales may differ, adapted matrices not.
            head: Dotted name of the task head, a linear layer.

        Raises:
            NotShared: The models differ in more than what they train, train more than low-rank factors and a
                head, or draw noise in other places than stochastic depth.
        """
        super().__init__()
        first = models[0]
        self.count = len(models)
        self.members = tuple(models)
        low_rank = [n for n, m in first.named_modules() if isinstance(m, LowRankLinear)]
        _check(models, low_rank, head)
        for model in models[1:]:
            for one, other in zip(first.parameters(), model.parameters(), strict=True):
                if not one.requires_grad:
                    other.data = one.data
        shared = [*first.parameters(), *first.buffers()]
        self.trunk = copy.deepcopy(first, {id(tensor): tensor for tensor in shared})
        for name in low_rank:
            layers: list[Any] = [model.get_submodule(name) for model in models]
            self.trunk.set_submodule(name, _LowRank(layers))
        heads: list[Any] = [model.get_submodule(head) for model in models]
        self.trunk.set_submodule(head, _Head(heads))
        for name, module in list(self.trunk.named_modules()):
            if isinstance(module, DropPath):
                self.trunk.set_submodule(name, _Depth(module))
        self.depths = [module for module in self.trunk.modules() if isinstance(module, _Depth)]
        self.train()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map the stacked batches (K * B, 3, H, W) to logits (K, B, classes).

        With stochastic depth, ``draw`` comes before.
        """
        logits: Tensor = self.trunk(inputs).unflatten(0, (self.count, -1))
        return logits

    def draw(self, noise: Sequence[torch.Generator], batch_size: int) -> None:
        """Draw the masks of stochastic depth for the next pass, for each model as if it trained alone.

        Args:
            noise: A generator for each model, on the models' device.
            batch_size: Images of each model.
        """
        for depth in self.depths:
            depth.draw(noise, batch_size)

    def train(self, mode: bool = True) -> SharedForward:
        """Set the mode of the models as well: their penalties listen in training mode."""
        super().train(mode)
        for model in self.members:
            model.train(mode)
        return self


class _LowRank(nn.Module):
    """K low-rank updates of one frozen layer."""

    placing: Tensor

    def __init__(self, layers: Sequence[LowRankLinear]) -> None:
        super().__init__()
        first = layers[0]
        self.base = first.base
        self.layers = tuple(layers)
        self.rank = max(layer.rank for layer in layers)
        # (M, parts): where each adapted matrix's update goes in the outputs.
        placing = torch.tensor([[p == name for p in first.parts] for name in first.adapted])
        self.register_buffer("placing", placing.to(first.lora_b))

    def forward(self, x: Tensor) -> Tensor:
        """Map (K * B, ..., d_in) to (K * B, ..., parts * d_out)."""
        count, matrices = len(self.layers), len(self.layers[0].adapted)
        a = torch.stack([self._padded(layer.rows()) for layer in self.layers]).flatten(1, 2)
        rows = x.unflatten(0, (count, -1))
        z = torch.bmm(rows.flatten(1, -2), a.mT)
        split = z.unflatten(-1, (matrices, self.rank)).unflatten(1, rows.shape[1:-1])
        for layer, own in zip(self.layers, split, strict=True):
            layer.hand_over(own[..., : layer.rank])
        # Block-diagonal, so that one product adds all matrices' updates to the frozen layer's output.
        b = torch.stack([self._padded(_scaled(layer)) for layer in self.layers])
        wide = b[..., None, :] * self.placing[:, None, :, None]
        y: Tensor = self.base(x)
        added = torch.baddbmm(
            y.unflatten(0, (count, -1)).flatten(1, -2), z, wide.flatten(1, 2).flatten(2)
        )
        return added.view(y.shape)

    def _padded(self, factor: Tensor) -> Tensor:
        """Fill (M, r, d) with zeros up to the largest rank: they stay zero, as do their gradients."""
        missing = self.rank - factor.shape[1]
        return functional.pad(factor, (0, 0, 0, missing)) if missing else factor


def _scaled(layer: LowRankLinear) -> Tensor:
    return layer.lora_b if layer.scale == 1 else layer.scale * layer.lora_b


class _Head(nn.Module):
    """K linear heads."""

    def __init__(self, heads: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.heads = tuple(heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map (K * B, d) to (K * B, classes)."""
        weight = torch.stack([head.weight for head in self.heads])
        bias = torch.stack([head.bias for head in self.heads])[:, None]
        rows = x.unflatten(0, (len(self.heads), -1))
        return torch.baddbmm(bias, rows, weight.mT).flatten(0, 1)


class _Depth(nn.Module):
    """Stochastic depth by masks that were drawn before."""

    def __init__(self, like: DropPath) -> None:
        super().__init__()
        self.keep = 1.0 - float(like.drop_prob)
        self.is_scaled = bool(like.scale_by_keep)
        self.mask: Tensor | None = None

    def draw(self, noise: Sequence[torch.Generator], batch_size: int) -> None:
        draws = [
            torch.empty(batch_size, device=one.device).bernoulli_(self.keep, generator=one)
            for one in noise
        ]
        mask = torch.cat(draws)
        if self.mask is None or self.mask.shape != mask.shape:
            self.mask = mask
        else:
            self.mask.copy_(mask)  # a captured pass reads it from where it is

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        assert self.mask is not None
        mask = self.mask.to(x.dtype)  # divided at its precision, as timm does
        if self.is_scaled and self.keep > 0:
            mask = mask / self.keep
        return x * mask.view(-1, *[1] * (x.ndim - 1))


def _check(models: Sequence[nn.Module], low_rank: Sequence[str], head: str) -> None:
    first = models[0]
    for name, module in first.named_modules():
        p = getattr(module, "p", 0.0)
        if isinstance(module, nn.Dropout) and p > 0:
            raise NotShared(f"{name} drops single activations, by noise that is not drawn apart")
    if not low_rank or not isinstance(first.get_submodule(head), nn.Linear):
        raise NotShared("only LoRA with a linear head can share a forward pass")
    own = {f"{head}.weight", f"{head}.bias"}
    own |= {f"{name}.{factor}" for name in low_rank for factor in ("lora_a", "lora_b")}
    for model in models:
        if any(type(model.get_submodule(name)) is not LowRankLinear for name in low_rank):
            raise NotShared("only plain LoRA can share a forward pass")
        if {n for n, p in model.named_parameters() if p.requires_grad} != own:
            raise NotShared("a model trains more or less than low-rank factors and its head")
        pairs = zip(_frozen(first), _frozen(model), strict=True)
        if any(
            n != m or one.dtype != p.dtype or not torch.equal(one, p) for (n, one), (m, p) in pairs
        ):
            raise NotShared("the models' frozen weights differ")


def _frozen(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((n, p) for n, p in model.named_parameters() if not p.requires_grad)
    yield from model.named_buffers()
