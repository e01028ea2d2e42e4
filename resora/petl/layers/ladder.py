"""The side networks of LST: gated down-projections of hidden states, mixed into a narrow network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from resora.petl.layers.hidden_states import SideNetwork


class SideBlock(nn.Module):
    """A transformer block of the side network: attention and an MLP with GELU."""

    def __init__(
        self, width: int, heads: int, hidden: int, *, norm_first: bool, dropout: float
    ) -> None:
        """Build one.

        Args:
            width: Its channels h.
            heads: Attention heads, a divisor of ``width``.
            hidden: Width of the MLP.
            norm_first: Whether the LayerNorms come before attention and MLP (ViT) or after the sums (BERT).
            dropout: Of attention weights and of what is added to the residual stream.
        """
        super().__init__()
        self.heads = heads
        self.norm_first = norm_first
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map (B, T, h) to (B, T, h); ``valid``, (B, T) of bool, are the tokens that are attended to."""
        if self.norm_first:
            x = x + self._drop(self._attend(self.norm1(x), valid))
            return x + self._drop(self._mlp(self.norm2(x)))
        x = self.norm1(x + self._drop(self._attend(x, valid)))
        y: Tensor = self.norm2(x + self._drop(self._mlp(x)))
        return y

    def _attend(self, x: Tensor, valid: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if valid is None else valid[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.proj(y.transpose(1, 2).flatten(-2))
        return out

    def _mlp(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class Gates(nn.Module):
    """Gates mu = sigmoid(alpha / T), one for each rung of a ladder; alpha is 0 at the start.

    Attributes:
        alpha: (n,).
        temperature: T.
    """

    def __init__(self, count: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.alpha = nn.Parameter(torch.zeros(count))

    def forward(self, index: int, side: Tensor, rung: Tensor) -> Tensor:
        """Return mu side + (1 - mu) rung."""
        mu = torch.sigmoid(self.alpha[index] / self.temperature)
        # Not torch.lerp: under autocast the two may differ in precision.
        return rung + mu * (side - rung)


class LadderShape(NamedTuple):
    """Sizes of a side network of tokens.

    Attributes:
        depth: Number of blocks L.
        width: Channels d of the hidden states.
        side: Channels h of the side network.
        hidden: Width of its MLPs.
        heads: Its attention heads.
        out: Channels of the output.
    """

    depth: int
    width: int
    side: int
    hidden: int
    heads: int
    out: int


class TokenLadder(SideNetwork):
    """A side transformer on tokens.

    s_0 = D_0 x_0, s_i = Block_i(mu_i s_(i-1) + (1 - mu_i) D_i x_i), and U s_L at the end. In the form of BERT
    the first rung is gated too, with zeros (s_0 = (1 - mu_0) D_0 x_0), the LayerNorms come after the sums,
    and one more is at the end.
    """

    def __init__(
        self, shape: LadderShape, *, form: str, temperature: float, dropout: float
    ) -> None:
        """Build one.

        Args:
            shape: The sizes.
            form: ``vit`` or ``bert``.
            temperature: T of the gates.
            dropout: Of the side blocks.
        """
        super().__init__()
        is_bert = form == "bert"
        rungs = shape.depth + 1
        self.down = nn.ModuleList(nn.Linear(shape.width, shape.side) for _ in range(rungs))
        self.gates = Gates(rungs if is_bert else shape.depth, temperature)
        self.first_gated = 0 if is_bert else 1
        self.blocks = nn.ModuleList(
            SideBlock(
                shape.side, shape.heads, shape.hidden, norm_first=not is_bert, dropout=dropout
            )
            for _ in range(shape.depth)
        )
        self.up = nn.Linear(shape.side, shape.out)
        self.norm = nn.LayerNorm(shape.out) if is_bert else nn.Identity()

    def forward(self, states: list[Tensor], output: Tensor, read: Tensor | None) -> Tensor:
        """Map the hidden states (B, T, d) to (B, T, out); ``read`` are the valid tokens, or None."""
        del output
        side = self.down[0](states[0])
        if not self.first_gated:
            side = self.gates(0, torch.zeros_like(side), side)
        for i, block in enumerate(self.blocks, start=1):
            side = self.gates(i - self.first_gated, side, self.down[i](states[i]))
            side = block(side, read)
        out: Tensor = self.norm(self.up(side))
        return out


class VectorLadder(SideNetwork):
    """The ladder of CLIP's towers, on one vector x_i of each hidden state.

    That is the class or the end-of-text token. From zeros, s_i = mu_i s_(i-1) + (1 - mu_i) D_i x_i; a last
    gate mixes s with the frozen embedding; then U relu(s).
    """

    def __init__(self, depth: int, width: int, out: int, *, temperature: float) -> None:
        """Build one.

        Args:
            depth: Number of the tower's blocks.
            width: Channels of its hidden states.
            out: Channels of the embedding.
            temperature: T of the gates.
        """
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, out) for _ in range(depth + 1))
        self.gates = Gates(depth + 2, temperature)
        self.up = nn.Linear(out, out)

    def forward(self, states: list[Tensor], output: Tensor, read: Tensor | None) -> Tensor:
        """Map hidden states (B, T, d) and the embedding (B, out) to (B, out); ``read`` are positions (B,)."""
        side = torch.zeros_like(output)
        for i, (down, state) in enumerate(zip(self.down, states, strict=True)):
            side = self.gates(i, side, down(vector_of(state, read)))
        side = self.gates(len(states), side, output)
        out: Tensor = self.up(torch.relu(side))
        return out


def vector_of(state: Tensor, position: Tensor | None) -> Tensor:
    """Return the token at ``position`` (B,) of each row of (B, T, d); None: the first one."""
    if position is None:
        return state[:, 0]
    return state[torch.arange(len(state), device=state.device), position]
