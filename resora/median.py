"""The median distance between all pairs of numbers on a line, without forming the pairs."""

from __future__ import annotations

import torch
from torch import Tensor

ALL_PAIRS_UP_TO = 96
"""With fewer numbers in a row than this, all pairs are formed."""

_ROUNDS = 200
_QUANTILES = 48
_SAMPLE = 400
_FEW = 4096


def median_distance(z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the median over p < q of |z_p - z_q|; of two middle ones, the smaller (as torch does).

    Many numbers are sorted; then one search for each number counts the distances up to a bound. Two
    bounds close in on the median by the secant rule, until the few distances between them can be listed.

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
    """The same by forming all pairs; the gradient goes to the pair whose distance is the median."""
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
        # Masked numbers go to the end, where no search reaches them.
        ordered = z.masked_fill(~mask, torch.inf).sort(-1).values
        valid = mask.sum(-1, keepdim=True)
    pairs = (valid * (valid - 1) // 2).squeeze(-1)
    last = ordered.gather(-1, (valid - 1).clamp_min(0)).squeeze(-1)
    widest = torch.where(pairs > 0, last - ordered[:, 0], 0)
    search = _Search(ordered, valid, (pairs - 1) // 2 + 1, widest)
    return search.close_in(*search.approach(_guess(ordered, valid)))


def _guess(ordered: Tensor, valid: Tensor) -> Tensor:
    """Return the median distance between a few quantiles; it is accurate to a few percent."""
    steps = (torch.arange(_QUANTILES, device=ordered.device) + 0.5) / _QUANTILES
    at = (steps * valid).long().clamp_max(ordered.shape[-1] - 1)
    return all_pairs_median(ordered.gather(-1, at)).nan_to_num(0.0)


class _Search:
    """Counts distances up to a bound, and moves the bound; all rows at once.

    Attributes:
        ordered: (R, N), sorted; masked numbers are infinite, at the end.
        valid: (R, 1), how many numbers are not masked.
        wanted: (R,), the rank of the median: this many distances are at most as large.
        widest: (R,), the largest distance.
    """

    def __init__(self, ordered: Tensor, valid: Tensor, wanted: Tensor, widest: Tensor) -> None:
        self.ordered, self.valid, self.wanted, self.widest = ordered, valid, wanted, widest
        self.index = torch.arange(ordered.shape[-1], device=ordered.device)

    def count(self, bound: Tensor, every: int = 1) -> tuple[Tensor, Tensor]:
        """Return how many distances are at most ``bound``, and how far each number reaches.

        Estimated from each ``every``-th number.
        """
        start = self.index[every // 2 :: every]
        ends = self.ordered[:, start] + bound[:, None]
        reach = torch.minimum(torch.searchsorted(self.ordered, ends, right=True), self.valid)
        later = torch.where(start < self.valid, reach - 1 - start, 0)
        return every * later.sum(-1), reach

    def approach(self, bound: Tensor) -> tuple[Tensor, Tensor]:
        """Return a bound near the median, and the number of distances for each unit of length there.

        By three secant steps with a part of the numbers.
        """
        every = max(1, self.ordered.shape[-1] // _SAMPLE)
        slope = self.wanted / torch.where(bound > 0, bound, 1)
        before, found_before = bound, self.wanted
        for turn in range(3):
            found, _ = self.count(bound, every)
            if turn:
                moved = bound != before
                secant = (found - found_before) / torch.where(moved, bound - before, 1)
                slope = torch.where(moved & (secant > 0), secant, slope)
            before, found_before = bound, found
            bound = (bound + (self.wanted - found) / slope).clamp_min(0).minimum(self.widest)
        return bound, slope

    def close_in(self, bound: Tensor, slope: Tensor) -> Tensor:
        """Return the medians: two bounds close in on each until few distances are between them."""
        # How many are below zero, and how many at most the largest, is known without a search.
        low, high = torch.zeros_like(bound), self.widest.clone()
        if bool((bound <= 0).any()):
            # Where half of the distances are zero, so is the median.
            high = torch.where(self.count(low)[0] >= self.wanted, 0, high)
        reach_low = torch.minimum(self.index + 1, self.valid).expand_as(self.ordered).clone()
        reach_high = self.valid.expand_as(self.ordered).clone()
        at_low = torch.zeros_like(self.wanted)
        at_high = (self.valid * (self.valid - 1) // 2).squeeze(-1)
        rows = torch.arange(len(bound), device=bound.device)
        search = self
        for turn in range(_ROUNDS):
            found, reach = search.count(bound)
            above = found >= search.wanted
            up, down = rows[above], rows[~above]
            high[up], at_high[up], reach_high[up] = bound[above], found[above], reach[above]
            low[down], at_low[down], reach_low[down] = bound[~above], found[~above], reach[~above]
            near = at_high[rows] - at_low[rows] <= _FEW
            left = ~(near | (high[rows] - low[rows] <= 1e-7 * high[rows]))
            if not bool(left.any()):
                break
            rows, slope, bound, missing = (
                x[left] for x in (rows, slope, bound, search.wanted - found)
            )
            search = self.of_rows(rows)
            # Beyond the estimate by more than the counts scatter, so that the median lies between the bounds.
            margin = (3 * missing.abs().sqrt() + 3) * torch.where(missing > 0, 1, -1)
            step, middle = bound + (missing + margin) / slope, (low[rows] + high[rows]) / 2
            inside = (step > low[rows]) & (step < high[rows])
            # The secant rule fails at jumps; bisection does not.
            bound = torch.where(inside, step, middle) if turn < 6 or turn % 2 else middle
        return self.listed(high, reach_low, reach_high, at_low, at_high)

    def listed(
        self, high: Tensor, reach_low: Tensor, reach_high: Tensor, at_low: Tensor, at_high: Tensor
    ) -> Tensor:
        """Return the wanted distance among those between two bounds; ``high`` where there are too many."""
        few = (at_high - at_low <= _FEW) & (at_high > at_low) & (high > 0)
        width = torch.where(few[:, None] & (self.index < self.valid), reach_high - reach_low, 0)
        row, start = width.nonzero(as_tuple=True)
        repeats = width[row, start]
        # For each number, the others at a distance between the two bounds.
        first = repeats.cumsum(0) - repeats
        offset = torch.arange(int(repeats.sum()), device=row.device)
        offset -= first.repeat_interleave(repeats)
        row, start = row.repeat_interleave(repeats), start.repeat_interleave(repeats)
        distance = self.ordered[row, reach_low[row, start] + offset] - self.ordered[row, start]
        by_size = distance.argsort()
        by_row = by_size[row[by_size].argsort(stable=True)]
        counts = torch.where(few, at_high - at_low, 0)
        at = counts.cumsum(0) - counts + self.wanted - at_low - 1
        result = high.clone()
        result[few] = distance[by_row[at[few]]]
        return result

    def of_rows(self, rows: Tensor) -> _Search:
        """Return the search restricted to some rows."""
        return _Search(self.ordered[rows], self.valid[rows], self.wanted[rows], self.widest[rows])
