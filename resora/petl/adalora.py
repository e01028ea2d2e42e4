"""AdaLoRA (Zhang et al., 2023): triplets of an SVD-like update, pruned to a budget over all matrices.

The update is B diag(E) A. It starts with ``initial_rank`` triplets a matrix and ends with ``rank`` of them on
average: the triplets of the lowest importance, over all adapted matrices together, have their E set to zero,
and their number grows along a cubic schedule. Importance is the smoothed sensitivity of a weight times its
smoothed uncertainty: that of E, plus the means over the entries of the row of A and of the column of B, as
``QingruZhang/AdaLoRA`` has it.

On ViT-B/16, 36 matrices at a target of r = 8 keep 442,656 parameters; 663,984 are stored and trained, since
they start at r = 12. ``initial_rank=8`` prunes nothing and stores 442,656.

Deviations from that repository: the sensitivities are taken before the optimizer's step, where the gradient
belongs to the weights; once the budget is reached, the choice of triplets stays as it is, which is what the
paper says. The shares of the schedule are those of the repository's example of 3000 steps; ``warm_up``
there is 500 and ``final`` 1500.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from resora.petl.layers.low_rank import LowRankLinear
from resora.petl.lora import LoRA

INITIAL_STD = 0.02
"""Standard deviation of A and B at the start."""


class SVDLinear(LowRankLinear):
    """A frozen linear layer plus B diag(E) A x.

    Attributes:
        lora_e: (M, r), the diagonals E. Zero at the start, so that nothing changes.
        kept: (M, r), which triplets are within the budget.
        sensitivity_e, sensitivity_a, sensitivity_b: Smoothed |weight * gradient| of each entry.
        uncertainty_e, uncertainty_a, uncertainty_b: Smoothed distance of these from their average.
    """

    state_buffers: ClassVar[tuple[str, ...]] = (
        "kept",
        *(f"sensitivity_{factor}" for factor in "eab"),
        *(f"uncertainty_{factor}" for factor in "eab"),
    )
    kept: Tensor

    def __init__(
        self,
        base: nn.Linear,
        rank: int,
        scale: float,
        parts: Sequence[str] = ("",),
        adapted: Sequence[str] | None = None,
    ) -> None:
        """Wrap ``base``; the arguments are those of ``LowRankLinear``, with the initial rank."""
        super().__init__(base, rank, scale, parts, adapted)
        self.lora_e = nn.Parameter(base.weight.new_zeros(len(self.adapted), rank))
        nn.init.normal_(self.lora_a, std=INITIAL_STD)
        nn.init.normal_(self.lora_b, std=INITIAL_STD)
        self.register_buffer("kept", torch.ones_like(self.lora_e, dtype=torch.bool))
        for factor in "eab":
            for kind in ("sensitivity", "uncertainty"):
                zeros = torch.zeros_like(self.get_parameter(f"lora_{factor}"))
                self.register_buffer(f"{kind}_{factor}", zeros)

    def rows(self) -> Tensor:
        """Return the rows of diag(E) A, (M, r, d_in); those of pruned triplets are zero."""
        return self.lora_e[..., None] * self.lora_a

    @torch.no_grad()
    def look(self, betas: tuple[float, float]) -> None:
        """Update the averages with the gradients of a step; ``betas`` are the weights of the old averages."""
        for factor in "eab":
            weight = self.get_parameter(f"lora_{factor}")
            if weight.grad is None:
                continue
            now = (weight * weight.grad).abs()
            sensitivity = self.get_buffer(f"sensitivity_{factor}")
            sensitivity.lerp_(now, 1 - betas[0])
            off = (now - sensitivity).abs()
            self.get_buffer(f"uncertainty_{factor}").lerp_(off, 1 - betas[1])

    def importance(self) -> Tensor:
        """Return the importance of each triplet, (M, r)."""
        e, a, b = (
            self.get_buffer(f"sensitivity_{factor}") * self.get_buffer(f"uncertainty_{factor}")
            for factor in "eab"
        )
        return e + a.mean(-1) + b.mean(-1)

    @torch.no_grad()
    def prune(self) -> None:
        """Set E of the triplets that are not kept to zero."""
        self.lora_e.mul_(self.kept)


@dataclass(frozen=True)
class AdaLoRA(LoRA):
    """LoRA in triplets, whose number is a budget that the matrices share.

    Attributes:
        rank: The target: triplets of a matrix that are left at the end, on average.
        scale: The factor of the update: alpha divided by the initial rank; pruning does not change it.
        targets: As for ``LoRA``.
        fused: As for ``LoRA``.
        initial_rank: Triplets of a matrix at the start; None: half as many again as ``rank``.
        orthogonality: Weight of the mean over all A and B of ||P P^T - I||_F in the loss.
        warm_up: The share of the steps before any triplet is pruned.
        final: The share of the steps after the last.
        interval: Steps from one pruning to the next. In between, pruned triplets may grow again.
        betas: Weights of the old averages, for sensitivity and uncertainty.
    """

    initial_rank: int | None = None
    orthogonality: float = 0.1
    warm_up: float = 1 / 6
    final: float = 0.5
    interval: int = 10
    betas: tuple[float, float] = (0.85, 0.85)

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.stored_rank < self.rank:
            raise ValueError(
                f"the initial rank of AdaLoRA is at least its rank {self.rank}; got {self.initial_rank}"
            )
        if min(self.warm_up, self.final) < 0 or self.warm_up + self.final > 1:
            raise ValueError(
                "warm_up and final are shares of AdaLoRA's steps, together at most 1; got "
                f"{self.warm_up} and {self.final}"
            )
        if self.interval < 1 or self.orthogonality < 0:
            raise ValueError(
                "AdaLoRA needs an interval of at least 1 and a weight orthogonality >= 0; got "
                f"{self.interval} and {self.orthogonality}"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas of AdaLoRA are two numbers in [0, 1); got {self.betas}")

    @property
    def stored_rank(self) -> int:
        """Triplets of a matrix that are stored."""
        return round(1.5 * self.rank) if self.initial_rank is None else self.initial_rank

    def wrapped(
        self, base: nn.Linear, parts: tuple[str, ...], adapted: tuple[str, ...]
    ) -> LowRankLinear:
        """Return ``base`` with its triplets."""
        return SVDLinear(base, self.stored_rank, self.scale, parts, adapted)

    def parameters_at_target(self, model: nn.Module) -> int:
        """Return the number of parameters of ``rank`` triplets a matrix, without the head."""
        each = ((layer.lora_a, layer.lora_b) for layer in _layers(model))
        return sum(len(a) * self.rank * (a.shape[-1] + b.shape[-1] + 1) for a, b in each)

    def extra_loss(self, model: nn.Module) -> Tensor | None:
        """Return ``orthogonality`` times the mean of ||P P^T - I||_F over the A and B of all matrices."""
        groups: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
        for layer in _layers(model):
            for factor in (layer.lora_a, layer.lora_b):
                groups[factor.shape[1:]].append(factor)
        if not groups or self.orthogonality == 0:
            return None
        norms = []
        for factors in groups.values():
            # Outside autocast: the distance from orthogonality is lost in half precision.
            with torch.autocast(factors[0].device.type, enabled=False):
                p = torch.cat(factors)
                gram = p @ p.mT - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
                norms.append(torch.linalg.matrix_norm(gram))
        return self.orthogonality * torch.cat(norms).mean()

    def before_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Update the importance with the gradients, until the last pruning."""
        if step < (1 - self.final) * steps:
            for layer in _layers(model):
                layer.look(self.betas)

    def after_step(
        self, model: nn.Module, step: int, steps: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Prune where the schedule says so; at the final budget, after every step."""
        del optimizer
        done, end = step + 1, (1 - self.final) * steps
        is_first_at_end = step < end <= done
        is_due = self.warm_up * steps < done < end and done % self.interval == 0
        if is_first_at_end or is_due:
            self._allocate(model, self.budget(done, steps))
        if done >= end or is_due:
            for layer in _layers(model):
                layer.prune()

    def budget(self, done: int, steps: int) -> float:
        """Return the triplets of a matrix, on average, after ``done`` of ``steps`` steps."""
        begin, end = self.warm_up * steps, (1 - self.final) * steps
        if done >= end:
            return self.rank
        left = min(1.0, (end - done) / (end - begin))
        return self.rank + (self.stored_rank - self.rank) * left**3

    @torch.no_grad()
    def _allocate(self, model: nn.Module, budget: float) -> None:
        """Keep the most important triplets of all matrices together, ``budget`` times their number."""
        layers = _layers(model)
        scores = torch.cat([layer.importance().flatten() for layer in layers])
        number = int(budget * sum(len(layer.adapted) for layer in layers))
        kept = torch.zeros_like(scores, dtype=torch.bool)
        kept[scores.topk(number, sorted=False).indices] = True
        for layer, own in zip(
            layers, kept.split([layer.kept.numel() for layer in layers]), strict=True
        ):
            layer.kept.copy_(own.view_as(layer.kept))


def _layers(model: nn.Module) -> list[SVDLinear]:
    return [module for module in model.modules() if isinstance(module, SVDLinear)]


METHOD = AdaLoRA
