"""Recall of cross-modal retrieval, from ranks that count what is strictly more similar.

The public evaluations sort, so that equal scores come in any order. Here a rank is the number of candidates
that score strictly higher, and the queries whose rank equal scores leave open are counted. The rule of
CLIP4Clip's code is an option: there each candidate that scores as the right one does adds an answer of its
own, at the next rank, and enlarges the number that recalls are shares of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from benchmarks.harness.errors import unknown

RANKS = (1, 5, 10)

Ties = Literal["higher", "clip4clip"]
"""How equal scores count: by what scores strictly higher, or as the public code of CLIP4Clip does."""


@dataclass(frozen=True)
class Ranks:
    """The rank of the right answer of each query.

    Attributes:
        ranks: (Q,), from 0; where several answers are right, that of the best. Under the rule ``clip4clip``
            there are more of them than queries, where scores are equal.
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


def check_ties(name: str) -> Ties:
    """Return a rule for equal scores by its name.

    Raises:
        UsageError: There is no such rule.
    """
    if name not in get_args(Ties):
        raise unknown(
            "rule for ties", name, get_args(Ties), f"it is {' or '.join(get_args(Ties))}; show CELL"
        )
    return name  # type: ignore[return-value]


def many_ranks(
    queries: Tensor, candidates: Tensor, owner: Tensor, *, block: int = 256, rule: Ties = "higher"
) -> Ranks:
    """Rank candidates of which several may be right: captions for each image.

    Args:
        queries: (Q, D).
        candidates: (C, D).
        owner: (C,), the query that each candidate is right for; each query has one at least.
        block: Queries whose scores, (block, C), are in memory at a time.
        rule: How equal scores count.
    """
    return ranks_of_owners(_products(queries, candidates, block), owner, rule)


def single_ranks(
    queries: Tensor, candidates: Tensor, answer: Tensor, *, block: int = 1024, rule: Ties = "higher"
) -> Ranks:
    """Rank candidates of which one is right: the image of each caption.

    Args:
        queries: (Q, D).
        candidates: (C, D).
        answer: (Q,), the right candidate of each query.
        block: Queries whose scores, (block, C), are in memory at a time.
        rule: How equal scores count.
    """
    return ranks_of_answers(_products(queries, candidates, block), answer, rule)


def ranks_of_owners(scores: Iterable[Tensor], owner: Tensor, rule: Ties = "higher") -> Ranks:
    """Rank candidates of which several may be right, from scores: blocks (q, C) of all queries in turn."""
    counting = _Counting(rule)
    for start, block in _placed(scores):
        index = torch.arange(start, start + len(block), device=owner.device)
        right = owner.unsqueeze(0) == index.unsqueeze(1)
        counting.add(block, right)
    return counting.ranks()


def ranks_of_answers(scores: Iterable[Tensor], answer: Tensor, rule: Ties = "higher") -> Ranks:
    """Rank candidates of which one is right, from scores: blocks (q, C) of all queries in turn."""
    counting = _Counting(rule)
    for start, block in _placed(scores):
        own = answer[start : start + len(block)].unsqueeze(1)
        right = torch.arange(block.shape[1], device=own.device) == own
        counting.add(block, right)
    return counting.ranks()


def both_ways(
    first: Tensor,
    second: Tensor,
    owner: Tensor,
    names: tuple[str, str],
    *,
    rule: Ties = "higher",
) -> dict[str, float]:
    """Return recalls at 1, 5 and 10, median ranks and ties of both directions, and the sum of the recalls.

    Args:
        first: (N, D), images or videos.
        second: (C, D), texts.
        owner: (C,), the row of ``first`` that each text belongs to.
        names: Of the directions: first to second, second to first, such as ``("i2t", "t2i")``.
        rule: How equal scores count.

    Returns:
        ``rsum``; and for each direction ``<name>_r1``, ``_r5``, ``_r10`` (fractions), ``_medr`` (from 1),
        ``_ties`` (a number of queries).
    """
    return _summary(
        names,
        many_ranks(first, second, owner, rule=rule),
        single_ranks(second, first, owner, rule=rule),
    )


def both_ways_of(
    scores: Tensor, owner: Tensor, names: tuple[str, str], *, rule: Ties = "higher"
) -> dict[str, float]:
    """Return what ``both_ways`` does, from all scores (N, C) at once, for similarities of any kind."""
    return _summary(
        names,
        ranks_of_owners([scores], owner, rule),
        ranks_of_answers([scores.T], owner, rule),
    )


def _summary(names: tuple[str, str], *directions: Ranks) -> dict[str, float]:
    found = {"rsum": 0.0}
    for name, ranks in zip(names, directions, strict=True):
        for k in RANKS:
            found[f"{name}_r{k}"] = ranks.recall(k)
            found["rsum"] += ranks.recall(k)
        found[f"{name}_medr"] = ranks.median()
        found[f"{name}_ties"] = float(ranks.ties)
    return found


class _Counting:
    """Ranks of queries, block by block; nothing waits for a GPU before the end."""

    def __init__(self, rule: Ties) -> None:
        self.rule = rule
        self.higher: list[Tensor] = []
        self.equal: list[Tensor] = []
        self.tied: list[Tensor] = []

    def add(self, scores: Tensor, right: Tensor) -> None:
        """Count in scores (q, C), of which those where ``right`` is true are of right answers."""
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        self.higher.append((scores > best).sum(1))
        self.equal.append((scores == best).sum(1))
        self.tied.append(((scores == best) & ~right).any(1).sum())

    def ranks(self) -> Ranks:
        higher, equal = torch.cat(self.higher), torch.cat(self.equal)
        ties = int(torch.stack(self.tied).sum())
        if self.rule == "higher":
            return Ranks(higher, ties)
        start = torch.cumsum(equal, 0) - equal
        every = torch.arange(int(equal.sum()), device=equal.device)
        return Ranks((higher - start).repeat_interleave(equal) + every, ties)


def _products(queries: Tensor, candidates: Tensor, block: int) -> Iterator[Tensor]:
    for start in range(0, len(queries), block):
        yield queries[start : start + block] @ candidates.T


def _placed(blocks: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    start = 0
    for block in blocks:
        yield start, block
        start += len(block)
