"""Recall of cross-modal retrieval, from ranks that count what is strictly more similar.

The public evaluations sort, so that equal scores come in any order. Here a rank is the number of candidates
that score strictly higher, and the queries whose rank equal scores leave open are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class Ranks:
    """The rank of the right answer of each query.

    Attributes:
        ranks: (Q,), from 0; where several answers are right, that of the best.
        ties: How many queries have a wrong candidate that scores exactly as the right answer.
    """

    ranks: Tensor
    ties: int

    def recall(self, k: int) -> float:
        """Return the fraction of queries whose right answer is among the first k."""
        return (self.ranks < k).double().mean().item()

    def median(self) -> float:
        """Return the median rank, counted from 1; of two middle ones their mean."""
        return float(self.ranks.double().quantile(0.5).item()) + 1.0


def many_ranks(queries: Tensor, candidates: Tensor, owner: Tensor, *, block: int = 256) -> Ranks:
    """Rank candidates of which several may be right: captions for each image.

    Args:
        queries: (Q, D).
        candidates: (C, D).
        owner: (C,), the query that each candidate is right for; each query has one at least.
        block: Queries whose scores, (block, C), are in memory at a time.
    """
    found, ties = [], torch.zeros((), dtype=torch.long, device=queries.device)
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ candidates.T
        index = torch.arange(start, start + len(scores), device=owner.device)
        right = owner.unsqueeze(0) == index.unsqueeze(1)
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        found.append((scores > best).sum(1))
        ties += ((scores == best) & ~right).any(1).sum()
    return Ranks(torch.cat(found), int(ties))


def single_ranks(
    queries: Tensor, candidates: Tensor, answer: Tensor, *, block: int = 1024
) -> Ranks:
    """Rank candidates of which one is right: the image of each caption.

    Args:
        queries: (Q, D).
        candidates: (C, D).
        answer: (Q,), the right candidate of each query.
        block: Queries whose scores, (block, C), are in memory at a time.
    """
    found, ties = [], torch.zeros((), dtype=torch.long, device=queries.device)
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ candidates.T
        own = scores.gather(1, answer[start : start + block].unsqueeze(1))
        found.append((scores > own).sum(1))
        ties += ((scores == own).sum(1) > 1).sum()
    return Ranks(torch.cat(found), int(ties))


def both_ways(
    first: Tensor, second: Tensor, owner: Tensor, names: tuple[str, str]
) -> dict[str, float]:
    """Return recalls at 1, 5 and 10, median ranks and ties of both directions, and the sum of the recalls.

    Args:
        first: (N, D), images or videos.
        second: (C, D), texts.
        owner: (C,), the row of ``first`` that each text belongs to.
        names: Of the directions: first to second, second to first, such as ``("i2t", "t2i")``.

    Returns:
        ``rsum``; and for each direction ``<name>_r1``, ``_r5``, ``_r10`` (fractions), ``_medr`` (from 1),
        ``_ties`` (a number of queries).
    """
    found = {"rsum": 0.0}
    directions = (many_ranks(first, second, owner), single_ranks(second, first, owner))
    for name, ranks in zip(names, directions, strict=True):
        for k in RANKS:
            found[f"{name}_r{k}"] = ranks.recall(k)
            found["rsum"] += ranks.recall(k)
        found[f"{name}_medr"] = ranks.median()
        found[f"{name}_ties"] = float(ranks.ties)
    return found
