"""The side networks of UniPT: hidden states attend to an anchor and are summed by learned confidences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resora.petl.layers.hidden_states import SideNetwork
from resora.petl.layers.ladder import vector_of


class TokenFusion(SideNetwork):
    """UniPT on BERT, whose outputs are tokens.

    t_k = LN(D_k x_k), and the anchor is t_L. For each k < L: W = L1(relu(t_L t_k^T)) + I over valid tokens,
    m_k = W t_k, and a confidence that is the softmax over k of a linear map of mean(t_L) * mean(t_k). The
    output is U relu(t_L + LN(P sum_k confidence_k m_k)).
    """

    def __init__(self, depth: int, width: int, mapped: int, out: int) -> None:
        """Build one.

        Args:
            depth: Number of the tower's blocks L.
            width: Channels d of its hidden states.
            mapped: Channels m in which they are compared.
            out: Channels of the output.
        """
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, mapped) for _ in range(depth + 1))
        self.norms = nn.ModuleList(nn.LayerNorm(mapped) for _ in range(depth + 1))
        self.confidence = nn.Linear(mapped, 1)
        self.proj = nn.Linear(mapped, mapped)
        self.norm = nn.LayerNorm(mapped)
        self.up = nn.Linear(mapped, out)

    def forward(self, states: list[Tensor], output: Tensor, read: Tensor | None) -> Tensor:
        """Map hidden states (B, T, d) to (B, T, out); ``read``, (B, T) of bool, are the valid tokens."""
        del output
        mapped = [
            norm(down(state))
            for norm, down, state in zip(self.norms, self.down, states, strict=True)
        ]
        anchor, targets = mapped[-1], mapped[:-1]
        summary = mean_of(anchor, read)
        confidences = [self.confidence(summary * mean_of(target, read)) for target in targets]
        merged = [attended(anchor, target, read, eps=1e-8) + target for target in targets]
        fused = anchor + self.norm(self.proj(weighted_sum(merged, confidences)))
        out: Tensor = self.up(torch.relu(fused))
        return out


class VectorFusion(SideNetwork):
    """UniPT on CLIP, whose output is one vector: the embedding e plus a term.

    t_k = D_k relu(x_k), and the anchor is a = D relu(e). For every k: m_k = L1(relu(a t_k^T)) t_k + the class
    or end-of-text token of t_k, and a confidence that is the softmax over k of a linear map of
    a * mean(t_k). The output is e + U relu(sum_k confidence_k m_k).
    """

    def __init__(
        self, depth: int, width: int, mapped: int, out: int, *, summary: str = "token"
    ) -> None:
        """Build one.

        Args:
            depth: Number of the tower's blocks.
            width: Channels d of its hidden states.
            mapped: Channels m in which they are compared.
            out: Channels of the embedding.
            summary: ``token``: the class or end-of-text token stands for a hidden state; ``mean``: there is
                none, and the mean over tokens does.
        """
        super().__init__()
        self.summary = summary
        self.down = nn.ModuleList(nn.Linear(width, mapped) for _ in range(depth + 1))
        self.anchor = nn.Linear(out, mapped)
        self.confidence = nn.Linear(mapped, 1)
        self.up = nn.Linear(mapped, out)

    def forward(self, states: list[Tensor], output: Tensor, read: Tensor | None) -> Tensor:
        """Map hidden states (B, T, d) and the embedding (B, out) to (B, out).

        ``read``, (B,), are the positions of the end of text; tokens behind them are padding.
        """
        valid = None if read is None else _up_to(read, states[0].shape[1])
        anchor = self.anchor(torch.relu(output))
        merged, confidences = [], []
        for down, state in zip(self.down, states, strict=True):
            target = down(torch.relu(state))
            mean = mean_of(target, valid)
            own = mean if self.summary == "mean" else vector_of(target, read)
            merged.append(attended(anchor[:, None], target, valid, eps=1e-6)[:, 0] + own)
            confidences.append(self.confidence(anchor * mean))
        out: Tensor = output + self.up(torch.relu(weighted_sum(merged, confidences)))
        return out


def attended(query: Tensor, target: Tensor, valid: Tensor | None, *, eps: float) -> Tensor:
    """Return L1(relu(query target^T)) target, rows of similarities that sum to one.

    Args:
        query: (B, Q, m).
        target: (B, T, m).
        valid: (B, T) of bool, the tokens of ``target`` that count; None: all.
        eps: The least sum of a row.

    Returns:
        (B, Q, m).
    """
    similarity = torch.relu(query @ target.transpose(1, 2))
    if valid is not None:
        similarity = similarity * valid[:, None, :]
    # The sum of a row, and eps, do not fit half precision.
    precise = torch.promote_types(similarity.dtype, torch.float32)
    weights = similarity / similarity.sum(-1, keepdim=True, dtype=precise).clamp(min=eps)
    mixed: Tensor = weights.to(target.dtype) @ target
    return mixed


def mean_of(tokens: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean over the valid ones of tokens (B, T, m): (B, m)."""
    if valid is None:
        return tokens.mean(1)
    kept = valid[..., None].to(tokens.dtype)
    return (tokens * kept).sum(1) / kept.sum(1).clamp(min=1)


def weighted_sum(merged: list[Tensor], confidences: list[Tensor]) -> Tensor:
    """Return the sum of K tensors (B, ..., m), weighted by the softmax of their confidences (B, 1)."""
    weights = torch.cat(confidences, dim=1).softmax(1)
    stacked = torch.stack(merged, dim=1)
    return torch.einsum("bk,bk...->b...", weights.to(stacked.dtype), stacked)


def _up_to(last: Tensor, tokens: int) -> Tensor:
    """The tokens up to the position ``last`` (B,), as (B, T) of bool."""
    return torch.arange(tokens, device=last.device) <= last[:, None]
