"""Bottleneck adapters, behind a frozen module or beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


class Bottleneck(nn.Module):
    """W_up f(W_down x + b_down) + b_up, from d to a few dimensions and back.

    W_down is Kaiming-uniform at the start, W_up and both biases are zero, so that it adds nothing yet.
    """

    def __init__(
        self,
        like: Tensor,
        width: int,
        dim: int,
        activation: str = "relu",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        """Make the two layers.

        Args:
            like: A tensor of the device and data type wanted, such as the adapted layer's weight.
            width: d.
            dim: Width of the bottleneck.
            activation: f, of ``ACTIVATIONS``.
            dropout: Share of the bottleneck's values that are dropped in training.
            bias: Whether there are biases.
        """
        super().__init__()
        where = {"device": like.device, "dtype": like.dtype}
        self.down = nn.Linear(width, dim, bias=bias, **where)
        self.up = nn.Linear(dim, width, bias=bias, **where)
        self.activation = activation
        self.dropout = dropout
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        for layer in (self.down, self.up):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        z = ACTIVATIONS[self.activation](self.down(x))
        if self.dropout:
            z = functional.dropout(z, self.dropout, self.training)
        added: Tensor = self.up(z)
        return added


class SequentialAdapter(nn.Module):
    """A frozen module and a bottleneck on its output: y + bottleneck(y)."""

    def __init__(self, base: nn.Module, bottleneck: Bottleneck) -> None:
        """Put ``bottleneck`` behind ``base``."""
        super().__init__()
        self.base = base
        self.bottleneck = bottleneck

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d_in) to (..., d)."""
        y: Tensor = self.base(x)
        added: Tensor = self.bottleneck(y)
        return y + added


class ParallelAdapter(nn.Module):
    """A frozen module and a bottleneck on its input: base(x) + scale * bottleneck(x)."""

    def __init__(self, base: nn.Module, bottleneck: Bottleneck, scale: float) -> None:
        """Put ``bottleneck`` beside ``base``."""
        super().__init__()
        self.base = base
        self.bottleneck = bottleneck
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        y: Tensor = self.base(x)
        added: Tensor = self.bottleneck(x)
        return y + self.scale * added


def check_bottleneck(name: str, dim: int, dropout: float) -> None:
    """Raise a ``ValueError`` unless the options of a bottleneck make sense."""
    if dim < 1 or dim != int(dim):
        raise ValueError(f"the bottleneck of {name} has a positive number of dimensions; got {dim}")
    if not 0 <= dropout < 1:
        raise ValueError(f"the dropout of {name} is in [0, 1); got {dropout}")
