"""NOAH's search: it keeps to the budget, finds the best subnet, and goes on where it was cut off."""

from __future__ import annotations

import itertools

import pytest
import torch

from resora.petl.noah import Evolution, Space, Subnet, evolve

SMALL = Space(blocks=3, width=24, choices=(1, 2, 4), depths=(3,))
DEEP = Space(blocks=6, width=16, choices=(1, 5, 10), depths=(2, 4, 6))
QUICK = Evolution(generations=4, population=12, parents=4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def is_in(space, subnet):
    """Whether a subnet is one of the space's: modules in the first blocks only, sizes to choose."""
    for row in subnet:
        depth = sum(size > 0 for size in row)
        if depth not in space.depths or any(row[depth:]) or set(row[:depth]) - set(space.choices):
            return False
    return True


@pytest.mark.parametrize("space", [SMALL, DEEP])
def test_every_operator_keeps_to_the_space_and_the_budget(space):
    draw = generator()
    least, most = (s.parameters(space.width) for s in (space.smallest(), space.largest()))
    for budget in (least, least + 50, (least + most) // 2, most):
        one, other = space.random(draw), space.random(draw)
        for subnet in (one, other, space.mutated(one, 0.3, draw), space.crossed(one, other, draw)):
            fitted = space.fitted(subnet, budget, draw)
            assert is_in(space, subnet)
            assert is_in(space, fitted)
            assert fitted.parameters(space.width) <= budget
            assert all(a <= b for a, b in zip(sum(fitted, ()), sum(subnet, ()), strict=True))
    with pytest.raises(ValueError, match="over the budget"):
        space.fitted(space.largest(), least - 1)


def test_operators_take_sizes_from_where_they_say():
    draw = generator()
    parent = SMALL.random(draw)
    assert SMALL.mutated(parent, 1e-9, draw) == parent
    assert SMALL.crossed(parent, parent, draw) == parent
    low, high = SMALL.smallest(), SMALL.largest()
    child = sum(SMALL.crossed(low, high, draw), ())
    assert set(child) == {1, 4}
    mutants = [SMALL.mutated(low, 0.2, draw) for _ in range(200)]
    changed = sum(size != 1 for mutant in mutants for size in sum(mutant, ()))
    # A size that is drawn anew is another one in two of three cases.
    assert changed / (200 * 9) == pytest.approx(0.2 * 2 / 3, abs=0.03)


def closeness(subnet, target):
    return -float(sum(abs(a - b) for a, b in zip(sum(subnet, ()), sum(target, ()), strict=True)))


def test_the_search_finds_the_best_subnet_that_the_budget_allows():
    target = Subnet((4, 1, 2), (2, 2, 4), (1, 4, 4))
    found = evolve(SMALL, lambda s: closeness(s, target), 10**6, generator=generator())
    assert found.subnet == target
    assert found.best[-1] == found.score == 0.0
    assert list(found.best) == sorted(found.best)
    assert len(found.best) == 15
    assert found.evaluated <= 15 * 50


def test_the_search_finds_the_best_of_all_under_a_tight_budget():
    space = Space(blocks=2, width=8, choices=(1, 2, 4), depths=(1, 2))
    rows = [(a, b) for a in space.choices for b in (0, *space.choices)]
    whole = [Subnet(*three) for three in itertools.product(rows, repeat=3)]
    budget = 250
    allowed = [subnet for subnet in whole if subnet.parameters(8) <= budget]
    target = Subnet((4, 2), (4, 0), (2, 4))
    best = max(closeness(subnet, target) for subnet in allowed)
    assert best < 0.0
    scored = []
    found = evolve(
        space,
        lambda s: scored.append(s) or closeness(s, target),
        budget,
        Evolution(generations=12),
        generator=generator(),
    )
    assert found.score == best
    assert found.parameters == found.subnet.parameters(8) <= budget
    assert all(subnet.parameters(8) <= budget and is_in(space, subnet) for subnet in scored)
    assert len(scored) == len(set(scored)) == found.evaluated


def test_of_equal_subnets_the_smaller_one_is_chosen():
    found = evolve(SMALL, lambda subnet: 0.5, 10**6, QUICK, generator=generator())
    again = evolve(SMALL, lambda subnet: 0.5, 10**6, QUICK, generator=generator())
    assert found == again
    scored = {}
    evolve(SMALL, lambda subnet: 0.5, 10**6, QUICK, generator=generator(), known=scored)
    assert found.parameters == min(subnet.parameters(24) for subnet in scored)


def test_a_space_that_runs_dry_ends_the_search():
    space = Space(blocks=1, width=8, choices=(1, 2), depths=(1,))
    found = evolve(space, lambda s: float(sum(sum(s, ()))), 10**6, generator=generator())
    assert found.evaluated == 8
    assert found.subnet == space.largest()


def test_a_search_goes_on_where_it_was_cut_off():
    target = Subnet((4, 1, 2), (2, 2, 4), (1, 4, 4))

    def whole(seed):
        return evolve(SMALL, lambda s: closeness(s, target), 3000, QUICK, generator=generator(seed))

    expected = whole(5)
    assert whole(5) == expected
    assert whole(6) != expected
    known, calls = {}, []

    def score(subnet):
        if len(calls) == 20:
            raise KeyboardInterrupt
        calls.append(subnet)
        return closeness(subnet, target)

    with pytest.raises(KeyboardInterrupt):
        evolve(SMALL, score, 3000, QUICK, generator=generator(5), known=known)
    assert len(known) == 20
    later = []
    resumed = evolve(
        SMALL,
        lambda s: later.append(s) or closeness(s, target),
        3000,
        QUICK,
        generator=generator(5),
        known=known,
    )
    assert resumed == expected
    assert not set(later) & set(calls)
    assert len(later) + 20 == expected.evaluated


@pytest.mark.parametrize(
    "wrong",
    [
        {"generations": 0},
        {"population": 0},
        {"parents": 0},
        {"mutants": 0.8, "children": 0.3},
        {"mutation": 0.0},
    ],
)
def test_numbers_of_a_search_are_checked(wrong):
    with pytest.raises(ValueError, match=r"search|shares|mutation"):
        Evolution(**wrong)
