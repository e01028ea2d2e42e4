"""The generalised pooling operator of VSE-infinity (Chen et al., CVPR 2021, section 3.2).

Each dimension is sorted by itself, and the k-th largest value has the weight theta_k. The weights depend on
how many elements there are, not on what they hold, and all dimensions share them. What is fixed here and not
in the paper's text is that of the public code (woodfrog/vse_infty): softmax at a temperature of 0.1, the two
directions of the GRU averaged, a scorer without a bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

TEMPERATURE = 0.1
LOW = -10000.0
"""Stands for a padded element in a sort and in a softmax."""


class GeneralisedPooling(nn.Module):
    """Pools sets of vectors of different sizes: 12,704 parameters at 32 and 32."""

    def __init__(self, position_width: int = 32, hidden: int = 32) -> None:
        """Make the encoder of positions and the scorer.

        Args:
            position_width: Dimensions of a position's sines and cosines; even.
            hidden: Dimensions of each direction of the GRU.
        """
        super().__init__()
        self.position_width = position_width
        self.gru = nn.GRU(position_width, hidden, batch_first=True, bidirectional=True)
        self.scorer = nn.Linear(hidden, 1, bias=False)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Pool the first ``lengths`` elements of each set.

        Args:
            features: (B, L, D).
            lengths: (B,), on the CPU, from 1 to L.

        Returns:
            (B, D).
        """
        longest = int(lengths.max())
        features = features[:, :longest]
        valid = valid_elements(lengths, longest).to(features.device).unsqueeze(-1)
        ranked = features.masked_fill(~valid, LOW).sort(dim=1, descending=True).values
        weights = self.weights(lengths).to(features.dtype)
        return (ranked.masked_fill(~valid, 0.0) * weights.unsqueeze(-1)).sum(1)

    def weights(self, lengths: Tensor) -> Tensor:
        """Return theta, (B, max(lengths)): rows sum to 1, and are 0 behind their length.

        Sets of one size share a row, which is computed once.
        """
        sizes, which = lengths.unique(return_inverse=True)
        longest = int(sizes[-1])
        device = self.scorer.weight.device
        positions = sine_positions(longest, self.position_width).to(device)
        batch = positions.expand(len(sizes), -1, -1)
        packed = pack_padded_sequence(batch, sizes, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        forward, backward = hidden.chunk(2, dim=-1)
        scores = self.scorer((forward + backward) / 2).squeeze(-1)
        valid = valid_elements(sizes, longest).to(device)
        theta = torch.softmax(scores.masked_fill(~valid, LOW) / TEMPERATURE, dim=1)
        return theta[which.to(device)]


def sine_positions(length: int, width: int) -> Tensor:
    """Return the sines (even) and cosines (odd) of positions 0, 1, ..., (length, width)."""
    position = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    found = torch.empty(length, width)
    found[:, 0::2] = torch.sin(position * rates)
    found[:, 1::2] = torch.cos(position * rates)
    return found


def valid_elements(lengths: Tensor, longest: int) -> Tensor:
    """Return which of ``longest`` places hold an element, (B, longest) of bool."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)
