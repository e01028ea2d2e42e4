"""Layers that share their weights between sizes: a smaller one consists of the first rows of the largest.

Neural Prompt Search (Zhang et al., 2022) trains one network with modules of the largest size, of which every
smaller network is a part. The forms are those of its code (ZhangYuanhan-AI/NOAH, ``model/``): prompts at
the end of the sequence, one LoRA on the fused ``qkv`` without a scale, one adapter after the MLP. A layer's
``size`` is the size in use, ``largest`` the maximum; setting ``size`` copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from resora.petl.base import Factors, Taps


class ElasticPrompts(nn.Module):
    """A block that puts its own prompts at the end of the sequence, in place of those of the block before.

    With the size 0 it has none, and the tokens that were prompts before pass on through the block.

    Attributes:
        block: The frozen block, on (B, T, d).
        prompts: (1, largest, d), Xavier-uniform at the start; None where the largest size is 0.
        size: How many of the prompts are in use, from the first one on.
        carried: How many prompts the blocks before have left at the end of the sequence.
        is_last: Whether the prompts are taken off afterwards, so that no pooling sees them.
    """

    def __init__(
        self, block: nn.Module, largest: int, dropout: float, *, like: Tensor, is_last: bool
    ) -> None:
        """Wrap ``block``; the prompts get the device and type of ``like``, (..., d)."""
        super().__init__()
        self.block = block
        self.prompts: nn.Parameter | None = None
        if largest:
            self.prompts = nn.Parameter(like.new_empty(1, largest, like.shape[-1]))
            nn.init.xavier_uniform_(self.prompts)
        self.dropout = nn.Dropout(dropout)
        self.largest = self.size = largest
        self.carried = 0
        self.is_last = is_last
        self.train(block.training)

    @property
    def leaves(self) -> int:
        """How many prompts are at the end of the sequence after this block."""
        return self.size or self.carried

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map (B, T + carried, d) to (B, T + leaves, d), or (B, T, d) if it is the last."""
        if self.prompts is not None and self.size:
            own = self.dropout(self.prompts[:, : self.size]).to(x.dtype)
            kept = x[:, : x.shape[1] - self.carried]
            x = torch.cat([kept, own.expand(len(x), -1, -1)], dim=1)
        x = self.block(x, *args, **kwargs)
        return x[:, : x.shape[1] - self.leaves] if self.is_last else x


class ElasticLoRA(nn.Module):
    """A frozen linear layer plus B A x of an elastic rank; no scale.

    Attributes:
        base: The frozen layer, d_in -> d_out.
        lora_a: (1, largest, d_in), Kaiming-uniform at the start.
        lora_b: (1, largest, d_out), zero at the start, so that nothing changes.
        size: The rank in use; 0: the layer adds nothing.
    """

    def __init__(self, base: nn.Linear, largest: int, dropout: float) -> None:
        """Wrap ``base``."""
        super().__init__()
        self.base = base
        self.lora_a = nn.Parameter(base.weight.new_empty(1, largest, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(1, largest, base.out_features))
        nn.init.kaiming_uniform_(self.lora_a[0], a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)
        self.largest = self.size = largest
        self._taps = Taps()
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ..., d_in) to (B, ..., d_out)."""
        if not self.size:
            return self.base(x)  # type: ignore[no-any-return]
        z = functional.linear(self.dropout(x), self.lora_a[0, : self.size])
        self._taps(z[None])
        return self.base(x) + z @ self.lora_b[0, : self.size]  # type: ignore[no-any-return]

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (1, B, ..., size), of each forward pass to ``record``."""
        return self._taps.add(record)

    def factors(self) -> Factors | None:
        """Return b (1, size, d_out) and a (1, size, d_in); None for the size 0."""
        if not self.size:
            return None
        return Factors(self.lora_b[:, : self.size], self.lora_a[:, : self.size])


class ElasticAdapter(nn.Module):
    """A frozen module plus a bottleneck on its output: y + W2 f(W1 y + b1) + b2, f(h) = h sigmoid(1.702 h).

    Attributes:
        base: The frozen module, whose output y is (B, ..., d).
        down: W1 and b1, d -> largest; Xavier-uniform and zero at the start.
        up: W2 and b2, largest -> d; zero at the start, so that nothing changes.
        size: How many units of the bottleneck are in use; 0: the layer adds nothing, not even b2.
    """

    def __init__(self, base: nn.Module, largest: int, dropout: float, *, like: Tensor) -> None:
        """Wrap ``base``; the parameters get the device and type of ``like``, (..., d)."""
        super().__init__()
        self.base = base
        width = like.shape[-1]
        self.down = nn.Linear(width, largest, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(largest, width, device=like.device, dtype=like.dtype)
        nn.init.xavier_uniform_(self.down.weight)
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)
        self.dropout = nn.Dropout(dropout)
        self.largest = self.size = largest
        self.train(base.training)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Call ``base`` and adapt what it returns."""
        y: Tensor = self.base(*args, **kwargs)
        if not self.size:
            return y
        hidden = functional.linear(y, self.down.weight[: self.size], self.down.bias[: self.size])
        hidden = self.dropout(hidden * torch.sigmoid(1.702 * hidden))
        return y + functional.linear(hidden, self.up.weight[:, : self.size], self.up.bias)
