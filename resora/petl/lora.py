"""LoRA (Hu et al., 2022) on the query, key and value projections, each with its own pair of factors.

The placement follows the paper's counts: 12 blocks x 3 matrices x 2 x 768 x 8 = 442,368 parameters at
r = 8 on ViT-B/16. timm fuses the three projections in one ``qkv`` layer; here each third of it has
its own A (r x d) and B (d x r). One pair on the fused layer would be another method, of 294,912.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from resora.petl.base import Factors, Method, Taps, freeze


class LoRAQKV(nn.Module):
    """A frozen fused qkv projection plus a low-rank update of each of its three parts.

    Attributes:
        lora_a: (3, r, d_in), the rows a_i of q, k and v. Kaiming-uniform at the start.
        lora_b: (3, r, d_out), the directions b_i. Zero at the start, so that nothing changes.
    """

    def __init__(self, qkv: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        if qkv.out_features % 3:
            raise ValueError(
                f"a fused qkv layer has outputs in three equal parts; got {qkv.out_features}"
            )
        self.qkv = qkv
        self.rank = rank
        self.scale = scale
        self.lora_a = nn.Parameter(qkv.weight.new_empty(3, rank, qkv.in_features))
        self.lora_b = nn.Parameter(qkv.weight.new_zeros(3, rank, qkv.out_features // 3))
        for a in self.lora_a:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        self._taps = Taps()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, d_in) to (B, T, 3 d_out)."""
        z = functional.linear(x, self.lora_a.flatten(0, 1)).unflatten(-1, (3, self.rank))
        self._taps(z.movedim(-2, 0))
        update = torch.einsum("btmr,mrd->btmd", z, self.lora_b).flatten(-2)
        return torch.add(self.qkv(x), update, alpha=self.scale)

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (3, B, T, r), of each forward pass to ``record``."""
        return self._taps.add(record)

    def factors(self) -> Factors:
        """Return b (3, r, d_out) and a (3, r, d_in)."""
        return Factors(self.lora_b, self.lora_a, self.scale, ("q", "k", "v"))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the projection with the update folded into its weight."""
        update = torch.einsum("mrd,mri->mdi", self.lora_b, self.lora_a).flatten(0, 1)
        self.qkv.weight += self.scale * update
        return self.qkv


class LoRA(Method):
    """LoRA of one rank on q, k and v of every attention block."""

    def __init__(self, rank: int, scale: float = 1.0) -> None:
        """Keep the rank r and the scale (alpha / r) of the update."""
        if rank < 1:
            raise ValueError(f"the rank of LoRA is a positive integer; got {rank}")
        self.rank = rank
        self.scale = scale

    def adapt(self, model: nn.Module, head: str) -> None:
        """Freeze all but the head, and wrap every fused qkv projection."""
        freeze(model, but=head)
        found = [
            (module, module.qkv)
            for module in model.modules()
            if isinstance(getattr(module, "qkv", None), nn.Linear)
        ]
        if not found:
            raise ValueError(
                f"{type(model).__name__} has no attention with a fused `qkv` Linear: "
                "LoRA is placed on those (timm's vision transformers have them)"
            )
        for attention, qkv in found:
            attention.qkv = LoRAQKV(cast("nn.Linear", qkv), self.rank, self.scale)
