"""Evolutionary search for the best subnet under a budget of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from resora.petl.noah.subnets import Space, Subnet

TRIES = 10
"""Attempts to get a candidate that was not scored before, for each candidate that is wanted."""


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """How a search goes; the defaults are those of the public code (``evolution.py``).

    Attributes:
        generations: Populations that are scored, the first one of random subnets.
        population: Subnets of one generation, none of which was scored before.
        parents: How many of the best subnets so far the next generation descends from.
        mutants: Share of a generation that comes from mutation.
        children: Share that comes from crossover; the rest is random.
        mutation: Probability that a size, or depth, is drawn again in a mutant.
    """

    generations: int = 15
    population: int = 50
    parents: int = 10
    mutants: float = 0.5
    children: float = 0.5
    mutation: float = 0.2

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.generations, self.population, self.parents) < 1:
            raise ValueError("a search needs at least one generation, one candidate and one parent")
        if min(self.mutants, self.children) < 0 or self.mutants + self.children > 1:
            raise ValueError(
                "the shares of mutants and of children are not shares of one generation"
            )
        if not 0 < self.mutation <= 1:
            raise ValueError(f"the probability of a mutation lies in (0, 1]; got {self.mutation}")


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        subnet: The subnet with the highest score; of equal ones, that with the fewest parameters.
        score: Its score.
        parameters: Its trainable parameters, without the head.
        budget: The most that was allowed.
        evaluated: How many subnets were scored.
        best: The highest score after each generation.
    """

    subnet: Subnet
    score: float
    parameters: int
    budget: int
    evaluated: int
    best: tuple[float, ...]


def evolve(
    space: Space,
    score: Callable[[Subnet], float],
    budget: int,
    evolution: Evolution | None = None,
    *,
    generator: torch.Generator | None = None,
    known: dict[Subnet, float] | None = None,
    on_generation: Callable[[int], None] = lambda generation: None,
) -> Found:
    """Search for the subnet with the highest score.

    The public code discards a candidate over the budget; here it is made smaller by random steps until it
    fits, so that a tight budget costs no time. Its mutation changes depths alone; here sizes change too, and
    crossover mixes single sizes, as AutoFormer's does, instead of whole kinds of module.

    Args:
        space: The subnets.
        score: Returns the score of a subnet, for instance its accuracy on validation data.
        budget: The most parameters that a subnet may have.
        evolution: How the search goes; None: the defaults.
        generator: Decides every draw, on the CPU; None: torch's own.
        known: Scores that need not be found again; new ones are added. An interrupted search continues where
            it was if it gets the scores found so far, and a generator in the state in which it began.
        on_generation: Called after each generation with its number, from 1 on.

    Raises:
        ValueError: No subnet keeps to the budget.
    """
    evolution = evolution or Evolution()
    known = {} if known is None else known
    scores: dict[Subnet, float] = {}
    best: list[float] = []

    def rank(subnet: Subnet) -> tuple[float, int]:
        return -scores[subnet], subnet.parameters(space.width)

    for generation in range(evolution.generations):
        parents = sorted(scores, key=rank)[: evolution.parents]
        for subnet in _candidates(space, parents, budget, evolution, scores, generator):
            if subnet not in known:
                known[subnet] = score(subnet)
            scores[subnet] = known[subnet]
        best.append(max(scores.values()))
        on_generation(generation + 1)
    found = min(scores, key=rank)
    size = found.parameters(space.width)
    return Found(found, scores[found], size, budget, len(scores), tuple(best))


def _candidates(
    space: Space,
    parents: list[Subnet],
    budget: int,
    evolution: Evolution,
    seen: dict[Subnet, float],
    generator: torch.Generator | None,
) -> list[Subnet]:
    """Make one generation of subnets that differ from each other and from all that were seen."""
    chosen: dict[Subnet, None] = {}

    def add(make: Callable[[], Subnet], wanted: int) -> None:
        for made in islice(_repeat(make), TRIES * wanted):
            if wanted <= 0 or len(chosen) >= evolution.population:
                return
            subnet = space.fitted(made, budget, generator)
            if subnet not in seen and subnet not in chosen:
                chosen[subnet] = None
                wanted -= 1

    def parent() -> Subnet:
        return parents[int(torch.randint(len(parents), (), generator=generator))]

    def mutant() -> Subnet:
        return space.mutated(parent(), evolution.mutation, generator)

    def child() -> Subnet:
        return space.crossed(parent(), parent(), generator)

    if parents:
        add(mutant, round(evolution.mutants * evolution.population))
        add(child, round(evolution.children * evolution.population))
    # Where mutation and crossover find nothing new, random subnets take their place.
    add(lambda: space.random(generator), evolution.population - len(chosen))
    return list(chosen)


def _repeat(make: Callable[[], Subnet]) -> Iterator[Subnet]:
    while True:
        yield make()
