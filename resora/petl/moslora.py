"""MoSLoRA (Wu et al., 2024): a trained r x r mixer between the two factors of LoRA.

The update is B W A (``wutaiqiang/MoSLoRA``): W starts Kaiming-uniform as A does, B at zero, so that the
backbone is unchanged at the start. On ViT-B/16 at r = 8 it trains LoRA's parameters and 36 mixers of 64:
444,672.

Its subspaces are the rank-1 terms z_i b_i with z = W A x and the columns b_i of B: a penalty on the
activations trains W and A. At inference, W A is one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resora.petl.layers.low_rank import LowRankLinear
from resora.petl.lora import LoRA


class MixedLinear(LowRankLinear):
    """A frozen linear layer plus B W A x.

    Attributes:
        lora_w: (M, r, r), the mixer W of each adapted matrix.
    """

    def __init__(
        self,
        base: nn.Linear,
        rank: int,
        scale: float,
        parts: Sequence[str] = ("",),
        adapted: Sequence[str] | None = None,
    ) -> None:
        """Wrap ``base``; the arguments are those of ``LowRankLinear``."""
        super().__init__(base, rank, scale, parts, adapted)
        self.lora_w = nn.Parameter(base.weight.new_empty(len(self.adapted), rank, rank))
        for w in self.lora_w:
            nn.init.kaiming_uniform_(w, a=math.sqrt(5))

    def rows(self) -> Tensor:
        """Return the rows of W A, (M, r, d_in)."""
        # The product of the matrices before that with x: r^2 d multiplications a step, not r^2 a token.
        return torch.bmm(self.lora_w, self.lora_a)


@dataclass(frozen=True)
class MoSLoRA(LoRA):
    """LoRA with a mixer, B W A x times ``scale``; the options are those of ``LoRA``."""

    def wrapped(
        self, base: nn.Linear, parts: tuple[str, ...], adapted: tuple[str, ...]
    ) -> LowRankLinear:
        """Return ``base`` with the mixed update."""
        return MixedLinear(base, self.rank, self.scale, parts, adapted)


METHOD = MoSLoRA
