"""Recall of cross-modal retrieval; candidates with equal scores count as if they came in a random order.

The public evaluations sort, so that equal scores come in whatever order the sort leaves. Here a recall is the
expected one over all orders of equal scores, and a rank the expected rank: a model that scores all candidates
alike has the recall of chance. Without equal scores both are those of any sort. Queries with equal scores are
counted, and the sum of recalls by what scores strictly higher alone is given besides. The rule of CLIP4Clip's
code is an option: there each candidate that scores as the right one does adds an answer of its own, at the
next rank, and enlarges the number that recalls are shares of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from benchmarks.harness.errors import unknown
from benchmarks.training.finite import require_finite, require_rows

RANKS = (1, 5, 10)

Ties = Literal["higher", "clip4clip"]
"""How equal scores count: as in a random order, after all that scores strictly higher; or as the public code
of CLIP4Clip does."""

STRICT = "rsum_strictly_higher"
"""The sum of recalls in which what scores as the right answer does never comes before it."""


@dataclass(frozen=True)
class Ranks:
    """The rank of the right answer of each query.

    Attributes:
        ranks: (Q,), from 0: how many candidates score strictly higher; where several answers are right, than
            the best. Under the rule ``clip4clip`` there are more of them than queries where scores are equal.
        ties: How many queries have a wrong candidate that scores exactly as the right answer.
        right: (Q,), how many right answers have the best right score.
        wrong: (Q,), how many wrong candidates have that score too; 0 under the rule ``clip4clip``.
    """

    ranks: Tensor
    ties: int
    right: Tensor
    wrong: Tensor

    def recall(self, k: int) -> float:
        """Return the expected fraction of queries whose right answer is among the first k."""
        # No right answer is among the first j of the equal ones: (wrong/equal) (wrong-1)/(equal-1) ...
        missed = torch.ones_like(self.ranks, dtype=torch.double)
        for place in range(k):
            left = (self.wrong - place).clamp(min=0)
            share = left.double() / (left + self.right)
            missed = torch.where(self.ranks + place < k, missed * share, missed)
        return (1 - missed).mean().item()

    def strict_recall(self, k: int) -> float:
        """Return the fraction of queries with fewer than k candidates that score strictly higher."""
        return (self.ranks < k).double().mean().item()

    def median(self) -> float:
        """Return the median of the expected ranks, counted from 1; of two middle ones their mean."""
        expected = self.ranks + self.wrong.double() / (self.right + 1)
        return float(expected.quantile(0.5).item()) + 1.0


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
    queries: Tensor,
    candidates: Tensor,
    owner: Tensor,
    *,
    block: int = 256,
    rule: Ties = "higher",
    what: str = "similarities",
) -> Ranks:
    """Rank candidates of which several may be right: captions for each image.

    Args:
        queries: (Q, D).
        candidates: (C, D).
        owner: (C,), the query that each candidate is right for; each query has one at least.
        block: Queries whose scores, (block, C), are in memory at a time.
        rule: How equal scores count.
        what: Name of the scores, for messages.
    """
    return ranks_of_owners(_products(queries, candidates, block), owner, rule, what)


def single_ranks(
    queries: Tensor,
    candidates: Tensor,
    answer: Tensor,
    *,
    block: int = 1024,
    rule: Ties = "higher",
    what: str = "similarities",
) -> Ranks:
    """Rank candidates of which one is right: the image of each caption.

    Args:
        queries: (Q, D).
        candidates: (C, D).
        answer: (Q,), the right candidate of each query.
        block: Queries whose scores, (block, C), are in memory at a time.
        rule: How equal scores count.
        what: Name of the scores, for messages.
    """
    return ranks_of_answers(_products(queries, candidates, block), answer, rule, what)


def ranks_of_owners(
    scores: Iterable[Tensor], owner: Tensor, rule: Ties = "higher", what: str = "similarities"
) -> Ranks:
    """Rank candidates of which several may be right, from scores: blocks (q, C) of all queries in turn."""
    counting = _Counting(rule, what)
    for start, block in _placed(scores):
        index = torch.arange(start, start + len(block), device=owner.device)
        right = owner.unsqueeze(0) == index.unsqueeze(1)
        counting.add(block, right)
    return counting.ranks()


def ranks_of_answers(
    scores: Iterable[Tensor], answer: Tensor, rule: Ties = "higher", what: str = "similarities"
) -> Ranks:
    """Rank candidates of which one is right, from scores: blocks (q, C) of all queries in turn."""
    counting = _Counting(rule, what)
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
    place: str = "evaluation",
) -> dict[str, float]:
    """Return recalls at 1, 5 and 10, median ranks and ties of both directions, and the sum of the recalls.

    Args:
        first: (N, D), images or videos.
        second: (C, D), texts.
        owner: (C,), the row of ``first`` that each text belongs to.
        names: Of the directions: first to second, second to first, such as ``("i2t", "t2i")``.
        rule: How equal scores count.
        place: The split, for messages.

    Returns:
        ``rsum`` and ``rsum_strictly_higher``; and for each direction ``<name>_r1``, ``_r5``, ``_r10``
        (fractions), ``_medr`` (from 1), ``_ties`` (a number of queries).

    Raises:
        Diverged: An embedding or a similarity is not finite; the message has its row.
    """
    for name, vectors in zip(names, (first, second), strict=True):
        require_finite(vectors, f"{place}: the embeddings of the queries of {name}")
    return _summary(
        names,
        many_ranks(first, second, owner, rule=rule, what=_similarities(place, names[0])),
        single_ranks(second, first, owner, rule=rule, what=_similarities(place, names[1])),
    )


def both_ways_of(
    scores: Tensor,
    owner: Tensor,
    names: tuple[str, str],
    *,
    rule: Ties = "higher",
    place: str = "evaluation",
) -> dict[str, float]:
    """Return what ``both_ways`` does, from all scores (N, C) at once, for similarities of any kind."""
    return _summary(
        names,
        ranks_of_owners([scores], owner, rule, _similarities(place, names[0])),
        ranks_of_answers([scores.T], owner, rule, _similarities(place, names[1])),
    )


def _similarities(place: str, name: str) -> str:
    return f"{place}: the similarities of {name}"


def _summary(names: tuple[str, str], *directions: Ranks) -> dict[str, float]:
    found = {"rsum": 0.0, STRICT: 0.0}
    for name, ranks in zip(names, directions, strict=True):
        for k in RANKS:
            found[f"{name}_r{k}"] = ranks.recall(k)
            found["rsum"] += found[f"{name}_r{k}"]
            found[STRICT] += ranks.strict_recall(k)
        found[f"{name}_medr"] = ranks.median()
        found[f"{name}_ties"] = float(ranks.ties)
    return found


class _Counting:
    """Ranks of queries, block by block; nothing waits for a GPU before the end."""

    def __init__(self, rule: Ties, what: str) -> None:
        self.rule, self.what = rule, what
        self.higher: list[Tensor] = []
        self.right: list[Tensor] = []
        self.wrong: list[Tensor] = []
        self.finite: list[Tensor] = []

    def add(self, scores: Tensor, right: Tensor) -> None:
        """Count in scores (q, C), of which those where ``right`` is true are of right answers."""
        best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        is_equal = scores == best
        self.higher.append((scores > best).sum(1))
        self.right.append((is_equal & right).sum(1))
        self.wrong.append((is_equal & ~right).sum(1))
        self.finite.append(scores.isfinite().all(1))

    def ranks(self) -> Ranks:
        """Return the ranks.

        Raises:
            Diverged: A score is not finite.
            ValueError: There is no query, or one has no right answer.
        """
        if not self.higher:
            raise ValueError(f"{self.what}: there is no query")
        require_rows(torch.cat(self.finite), self.what)
        higher, right, wrong = map(torch.cat, (self.higher, self.right, self.wrong))
        if not bool(right.all()):
            raise ValueError(f"{self.what}: a query has no right answer")
        ties = int((wrong > 0).sum())
        if self.rule == "higher":
            return Ranks(higher, ties, right, wrong)
        equal = right + wrong
        start = torch.cumsum(equal, 0) - equal
        every = torch.arange(int(equal.sum()), device=equal.device)
        ranks = (higher - start).repeat_interleave(equal) + every
        return Ranks(ranks, ties, torch.ones_like(ranks), torch.zeros_like(ranks))


def _products(queries: Tensor, candidates: Tensor, block: int) -> Iterator[Tensor]:
    for start in range(0, len(queries), block):
        yield queries[start : start + block] @ candidates.T


def _placed(blocks: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
    start = 0
    for block in blocks:
        yield start, block
        start += len(block)
