"""SRLoRA (Yang et al., 2025): LoRA whose least important pairs are replaced by unused directions.

A pair is a column b_i of B and the row a_i of A. The pairs start at the top principal directions of each
pretrained matrix, sqrt(s_i) u_i and sqrt(s_i) v_i of its singular value decomposition, and the frozen
weight is reduced by them, so that the outputs are unchanged up to rounding. A few times in training, the
pairs of the lowest importance are added to the frozen weight for good and start anew at the next principal
directions, by which the frozen weight is reduced in turn: the function does not jump. It trains as many
parameters as LoRA.

The repository of the paper is not public. From its abstract: the pairs, their importance, fusion, and the new
directions. Our choices: four recompositions of a quarter of the pairs, evenly spread over training;
importance sum |weight * gradient| over the entries of a pair, smoothed over steps by 0.85 as in AdaLoRA; the
optimizer's moments of a pair are then set to zero.

The changes of the frozen weight are stored as pairs, so that a checkpoint needs no d x d matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from resora.backbones import Backbone
from resora.petl.layers.low_rank import LowRankLinear
from resora.petl.lora import LoRA


class RecomposedLinear(LowRankLinear):
    """A linear layer plus B A x, of which pairs are exchanged with parts of the frozen weight.

    Attributes:
        importance: (M, r), of each pair.
        moved_b, moved_a: (M, r + 2 n, d_out) and (M, r + 2 n, d_in): the difference of the frozen weight from
            the pretrained one, in pairs; a pair that was subtracted has a negative b. In this order: the r
            directions of the start, and for each recomposition the pairs that were fused and the new ones.
        base_b, base_a: The same, as it is in the weight of ``base`` now.
        next_b, next_a: (M, n, d_out) and (M, n, d_in), the pairs to start anew from.
    """

    state_buffers: ClassVar[tuple[str, ...]] = ("importance", "moved_b", "moved_a")
    importance: Tensor
    moved_b: Tensor
    moved_a: Tensor
    base_b: Tensor
    base_a: Tensor
    next_b: Tensor
    next_a: Tensor

    def __init__(
        self,
        base: nn.Linear,
        rank: int,
        scale: float,
        parts: Sequence[str] = ("",),
        adapted: Sequence[str] | None = None,
        renewals: int = 0,
    ) -> None:
        """Wrap ``base``, whose weight is changed.

        Args:
            base: The layer.
            rank: r of each matrix.
            scale: The factor of the update, alpha / r.
            parts: As for ``LowRankLinear``.
            adapted: As for ``LowRankLinear``.
            renewals: How many pairs of each matrix will start anew in the whole training.
        """
        super().__init__(base, rank, scale, parts, adapted)
        matrices, slots = len(self.adapted), rank + 2 * renewals
        self.register_buffer("importance", base.weight.new_zeros(matrices, rank))
        for name, width in (("b", self.lora_b.shape[-1]), ("a", self.lora_a.shape[-1])):
            for kind, number in (("moved", slots), ("base", slots), ("next", renewals)):
                zeros = base.weight.new_zeros(matrices, number, width)
                self.register_buffer(f"{kind}_{name}", zeros)
        if not base.weight.is_meta:
            self._start()

    @torch.no_grad()
    def _start(self) -> None:
        weight = self.base.weight.unflatten(0, (len(self.parts), -1))
        weight = weight[[self.parts.index(part) for part in self.adapted]]
        b, a = principal_pairs(weight / self.scale, self.rank + self.next_b.shape[1])
        self.lora_b.copy_(b[:, : self.rank])
        self.lora_a.copy_(a[:, : self.rank])
        self.next_b.copy_(b[:, self.rank :])
        self.next_a.copy_(a[:, self.rank :])
        self._move(0, -self.lora_b, self.lora_a)

    @torch.no_grad()
    def look(self, beta: float) -> None:
        """Update the importance with the gradients of a step; ``beta`` is the weight of the old value."""
        now = torch.zeros_like(self.importance)
        for weight in (self.lora_a, self.lora_b):
            if weight.grad is not None:
                now += (weight * weight.grad).abs().sum(-1)
        self.importance.lerp_(now, 1 - beta)

    @torch.no_grad()
    def recompose(self, index: int, number: int, optimizer: torch.optim.Optimizer) -> None:
        """Fuse the least important pairs of each matrix, and start them anew.

        Args:
            index: Recompositions so far.
            number: How many pairs of each matrix.
            optimizer: Its moments of these pairs are set to zero.
        """
        least = self.importance.topk(number, largest=False).indices
        new = slice(index * number, (index + 1) * number)
        chosen, fresh = [], []
        for weight, pairs in ((self.lora_b, self.next_b), (self.lora_a, self.next_a)):
            where = least[..., None].expand(-1, -1, weight.shape[-1])
            chosen.append(weight.gather(1, where))
            fresh.append(pairs[:, new])
            weight.scatter_(1, where, fresh[-1])
            for moment in optimizer.state.get(weight, {}).values():
                if isinstance(moment, Tensor) and moment.shape == weight.shape:
                    moment.scatter_(1, where, 0.0)
        b, a = torch.cat([chosen[0], -fresh[0]], 1), torch.cat([chosen[1], fresh[1]], 1)
        self._move(self.rank + 2 * index * number, b, a)
        self.importance.scatter_(1, least, 0.0)

    def state_loaded(self) -> None:
        """Change the frozen weight to what the loaded buffers say."""
        if torch.equal(self.moved_b, self.base_b) and torch.equal(self.moved_a, self.base_a):
            return
        self.fold(
            torch.cat([self.moved_b, -self.base_b], 1), torch.cat([self.moved_a, self.base_a], 1)
        )
        self.base_b.copy_(self.moved_b)
        self.base_a.copy_(self.moved_a)

    def _move(self, slot: int, b: Tensor, a: Tensor) -> None:
        """Add pairs to the frozen weight, and write them into the buffers from ``slot`` on."""
        self.fold(b, a)
        for noted_b, noted_a in ((self.moved_b, self.moved_a), (self.base_b, self.base_a)):
            noted_b[:, slot : slot + b.shape[1]] = b
            noted_a[:, slot : slot + a.shape[1]] = a


def principal_pairs(weights: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return sqrt(s_i) u_i, (M, number, d_out), and sqrt(s_i) v_i, (M, number, d_in), the largest s_i first.

    They come from the eigenvectors of the smaller Gram matrix, a third of the time of a full decomposition;
    the relative error of the leading s_i is 4e-7 in single precision.

    Args:
        weights: (M, d_out, d_in).
        number: How many of each matrix.
    """
    w = weights if weights.dtype == torch.float64 else weights.float()
    is_wide = w.shape[1] <= w.shape[2]
    w = w if is_wide else w.mT
    squares, vectors = torch.linalg.eigh(w @ w.mT)
    roots = squares.flip(-1)[:, :number, None].clamp_min(torch.finfo(w.dtype).tiny).sqrt().sqrt()
    left = vectors.flip(-1).mT[:, :number]
    right = (left @ w) / roots
    left = left * roots
    b, a = (left, right) if is_wide else (right, left)
    return b.to(weights.dtype), a.to(weights.dtype)


@dataclass(frozen=True)
class SRLoRA(LoRA):
    """LoRA on principal directions, recomposed a few times in training.

    Attributes:
        rank: r.
        scale: The factor of the update, positive.
        targets: As for ``LoRA``.
        fused: As for ``LoRA``.
        recompositions: How often in training, evenly spread.
        share: The share of the r pairs that starts anew each time; at least one pair.
        beta: Weight of the old value in the average of the importance.
    """

    recompositions: int = 4
    share: float = 0.25
    beta: float = 0.85

    changes_backbone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.scale <= 0:
            raise ValueError(f"the scale of SRLoRA is positive; got {self.scale}")
        if self.recompositions < 0 or self.recompositions != int(self.recompositions):
            raise ValueError(f"recompositions is an integer >= 0; got {self.recompositions}")
        if not 0 < self.share <= 1 or not 0 <= self.beta < 1:
            raise ValueError(
                f"share is in (0, 1] and beta in [0, 1); got {self.share} and {self.beta}"
            )

    @property
    def number(self) -> int:
        """Pairs of a matrix that start anew in a recomposition."""
        return max(1, round(self.share * self.rank))

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Wrap the chosen layers, after a check that all have enough directions."""
        needed = self.rank + self.recompositions * self.number
        for path, parts, _ in self.matrices(backbone):
            base = cast(nn.Linear, model.get_submodule(path))
            if needed > (most := min(base.out_features // len(parts), base.in_features)):
                raise ValueError(
                    f"SRLoRA uses {needed} directions of each matrix, {self.rank} and {self.number} in each "
                    f"of {self.recompositions} recompositions; {path!r} has {most}"
                )
        super().insert(model, backbone)

    def wrapped(
        self, base: nn.Linear, parts: tuple[str, ...], adapted: tuple[str, ...]
    ) -> LowRankLinear:
        """Return ``base`` with pairs in place of its top principal directions."""
        renewals = self.recompositions * self.number
        return RecomposedLinear(base, self.rank, self.scale, parts, adapted, renewals)

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Update the importance with the gradients."""
        if step < steps:
            for layer in _layers(model):
                layer.look(self.beta)

    def after_step(
        self, model: nn.Module, step: int, steps: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Recompose at the scheduled steps."""
        times = [(i + 1) * steps // (self.recompositions + 1) for i in range(self.recompositions)]
        if step + 1 in times:
            for layer in _layers(model):
                layer.recompose(times.index(step + 1), self.number, optimizer)


def _layers(model: nn.Module) -> list[RecomposedLinear]:
    return [module for module in model.modules() if isinstance(module, RecomposedLinear)]


METHOD = SRLoRA
