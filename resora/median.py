"""The median distance between all pairs of numbers on a line, without forming the pairs."""

from __future__ import annotations

import torch
from torch import Tensor

ALL_PAIRS_UP_TO = 96
"""With fewer numbers in a row than this, all pairs are formed."""

_ROUNDS = 80
_QUANTILES = 48
_SAMPLE = 400


def median_distance(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the median over p < q of |z_p - z_q|; of two middle ones, the smaller (as torch does).

    Many numbers are sorted; then one search for each number counts the distances up to a bound, and
    the bound moves by the secant rule inside a shrinking bracket, until it is off by at most one
    pair in a million; of the distances, the one next to the bound is returned.

    Args:
        z: (..., N), without gradient.
        mask: (..., N), True where a number counts, or None for all.

    Returns:
        (...); zero where fewer than two numbers count.
    """
    if z.shape[-1] < 2:
        return z.new_zeros(z.shape[:-1])
    if z.shape[-1] <= ALL_PAIRS_UP_TO:
        return all_pairs_median(z, mask)
    rows = z.reshape(-1, z.shape[-1]).contiguous()
    if mask is not None:
        mask = mask.expand(z.shape).reshape(rows.shape)
    return _by_search(rows, mask).reshape(z.shape[:-1])


def all_pairs_median(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """The same by forming all pairs; its gradient goes to the pair that has the median."""
    return _median(_distances(z, mask))


def pooled_median(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """The median over the pairs of all rows, (L, r, N) to (L,), by forming all of them."""
    return _median(_distances(z, mask).flatten(-2))


def _distances(z: Tensor, mask: Tensor | None) -> Tensor:
    p, q = torch.triu_indices(z.shape[-1], z.shape[-1], offset=1, device=z.device)
    distances = (z[..., p] - z[..., q]).abs()
    if mask is None:
        return distances
    return distances.masked_fill(~(mask[..., p] & mask[..., q]), torch.nan)


def _median(distances: Tensor) -> Tensor:
    median = distances.nanmedian(-1).values
    return torch.where(median.isnan(), 0, median)


def _by_search(z: Tensor, mask: Tensor | None) -> Tensor:
    number = z.shape[-1]
    if mask is None:
        ordered = z.sort(-1).values
        valid = torch.full((len(z), 1), number, device=z.device)
    else:
        # What does not count goes to the end, out of reach of every search.
        ordered = z.masked_fill(~mask, torch.inf).sort(-1).values
        valid = mask.sum(-1, keepdim=True)
    pairs = (valid * (valid - 1) // 2).squeeze(-1)
    last = ordered.gather(-1, (valid - 1).clamp_min(0)).squeeze(-1)
    widest = torch.where(pairs > 0, last - ordered[:, 0], 0)
    search = _Search(ordered, valid, (pairs - 1) // 2 + 1, widest)
    # The same search with few numbers as starting points costs little and ends close.
    bound, slope = search.solve(_guess(ordered, valid), None, max(1, number // _SAMPLE), 1e-4)
    return search.solve(bound, slope, 1, 3e-7)[0]


def _guess(ordered: Tensor, valid: Tensor) -> Tensor:
    """Return the median distance between a few quantiles: right to a few percent."""
    steps = (torch.arange(_QUANTILES, device=ordered.device) + 0.5) / _QUANTILES
    at = (steps * valid).long().clamp_max(ordered.shape[-1] - 1)
    return all_pairs_median(ordered.gather(-1, at), None).nan_to_num(0.0)


class _Search:
    """Counts distances up to a bound, and moves the bound; all rows at once.

    Attributes:
        ordered: (R, N), sorted; what does not count is infinite, at the end.
        valid: (R, 1), how many count.
        wanted: (R,), that many distances are at most the median.
        widest: (R,), the largest distance.
    """

    def __init__(self, ordered: Tensor, valid: Tensor, wanted: Tensor, widest: Tensor) -> None:
        self.ordered, self.valid, self.wanted, self.widest = ordered, valid, wanted, widest

    def count(self, bound: Tensor, every: int) -> tuple[Tensor, Tensor]:
        """Return how many distances are at most ``bound``, and how far each number reaches.

        Estimated from each ``every``-th number.
        """
        start = torch.arange(every // 2, self.ordered.shape[-1], every, device=bound.device)
        ends = self.ordered[:, start] + bound[:, None]
        reach = torch.minimum(torch.searchsorted(self.ordered, ends, right=True), self.valid)
        later = torch.where(start < self.valid, reach - 1 - start, 0)
        return every * later.sum(-1), reach

    def nearest(self, reach: Tensor, found: Tensor) -> Tensor:
        """Return the wanted distance itself, if it is next to the bound; else the one below that."""
        inside = torch.arange(self.ordered.shape[-1], device=reach.device) < self.valid
        below = self.ordered.gather(-1, (reach - 1).clamp_min_(0)).sub_(self.ordered)
        below = torch.where(inside, below, 0).amax(-1)
        beyond = inside & (reach < self.valid)
        above = self.ordered.gather(-1, reach.clamp_max(self.ordered.shape[-1] - 1)).sub_(
            self.ordered
        )
        above = torch.where(beyond, above, torch.inf).amin(-1)
        return torch.where(found == self.wanted - 1, above, below)

    def solve(
        self, bound: Tensor, slope: Tensor | None, every: int, slack: float
    ) -> tuple[Tensor, Tensor]:
        """Return bounds whose count is the wanted one, up to ``slack`` of all pairs, and slopes."""
        low, high = torch.zeros_like(bound), self.widest
        if bool((bound <= 0).any()):
            # Where half of the distances are zero, so is the median.
            high = torch.where(self.count(low, 1)[0] >= self.wanted, 0, high)
        if slope is None:
            slope = self.wanted / torch.where(bound > 0, bound, 1)
        answer, slopes = bound.clone(), slope.clone()
        rows = torch.arange(len(bound), device=bound.device)
        search, before, found_before = self, bound, self.wanted
        for turn in range(_ROUNDS):
            bound = torch.minimum(bound, high)
            found, reach = search.count(bound, every)
            above = found >= search.wanted
            high = torch.where(above, torch.minimum(high, bound), high)
            low = torch.where(above, low, torch.maximum(low, bound))
            moved = bound != before
            if turn:
                secant = (found - found_before) / torch.where(moved, bound - before, 1)
                slope = torch.where(moved & (secant > 0), secant, slope)
            met = (found - search.wanted).abs() <= slack * 2 * search.wanted
            near = search.nearest(reach, found) if every == 1 else bound
            answer[rows], slopes[rows] = torch.where(met, near, high), slope
            left = (~(met | (high - low <= 1e-6 * high))).nonzero().squeeze(-1)
            if not len(left):
                break
            step = bound + (search.wanted - found) / slope
            if turn > 6 and turn % 2:  # jumps defeat the secant rule; halving does not mind
                step = (low + high) / 2
            step = torch.where((step > low) & (step < high), step, (low + high) / 2)
            before, found_before, bound = bound[left], found[left], step[left]
            low, high, slope, rows = low[left], high[left], slope[left], rows[left]
            search = search.of_rows(left)
        return answer, slopes

    def of_rows(self, rows: Tensor) -> _Search:
        """Return the search in some of the rows."""
        return _Search(self.ordered[rows], self.valid[rows], self.wanted[rows], self.widest[rows])
