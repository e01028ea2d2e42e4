"""The statements of `resora/METHOD.md` on factorisations, on the width of R_n, and on floors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from resora import literal
from resora.penalties import cosine, euclidean, linear, nonlinear
from tests.resora.adapters import PAIRS, D, R, adapter, descend, gradients, normal

# Every update has a factorisation without redundancy


def whiten(x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The same update, factored so that the activations are orthogonal."""
    root = torch.linalg.cholesky((x @ a.T).T @ (x @ a.T) / len(x))
    return torch.linalg.solve_triangular(root, a, upper=False), root.T @ b


def test_whitening_takes_linear_to_zero_and_keeps_the_update():
    x, a, b = adapter(0.5)
    white, directions_ = whiten(x, a, b)
    assert linear(x @ a.T, b) > 0.1
    assert linear(x @ white.T, directions_) < 1e-24
    torch.testing.assert_close(directions_.T @ white, b.T @ a, rtol=1e-10, atol=1e-12)


def test_qr_takes_the_squared_cosine_to_zero_and_svd_both():
    x, a, b = adapter()
    q, triangle = torch.linalg.qr(b.T)
    torch.testing.assert_close(q @ (triangle @ a), b.T @ a)
    assert cosine(x @ (triangle @ a).T, q.T, variant="squared") < 1e-24
    white, root = whiten(x, a, b)
    u, s, vh = torch.linalg.svd(root.T, full_matrices=False)
    both_a, both_b = vh @ white, (u * s).T
    torch.testing.assert_close(both_b.T @ both_a, b.T @ a)
    assert linear(x @ both_a.T, both_b) < 1e-24
    assert cosine(x @ both_a.T, both_b, variant="squared") < 1e-24


def test_the_optimiser_sees_the_factorisation():
    x, a, b = adapter()
    white = whiten(x, a, b)
    goal = normal(D, R, seed=8) @ normal(R, D, seed=9) / D
    decay = [float(sum(p.square().sum() for p in factors)) for factors in ((a, b), white)]
    assert decay[0] != pytest.approx(decay[1], rel=0.1)

    def task(a, b):
        return (x @ a.T @ b - x @ goal.T).square().mean()

    for steps, apart in ((0, 0.0), (50, 0.02)):
        one, other = descend(task, [a, b], steps, 0.02), descend(task, list(white), steps, 0.02)
        difference = (one[1].T @ one[0] - other[1].T @ other[0]).norm() / goal.norm()
        assert difference >= apart
        assert difference < 1e-12 or steps


def test_a_clean_start_is_not_kept_and_the_penalty_does_not_stop_the_fit():
    x, a, b = adapter()
    start = list(whiten(x, a, b))
    goal = normal(D, R, seed=30) @ normal(R, D, seed=31) / D

    def task(a, b):
        return (x @ a.T @ b - x @ goal.T).square().mean() / (x @ goal.T).square().mean()

    kept = {}
    for weight in (0.0, 0.1):
        end = descend(
            lambda a, b, w=weight: task(a, b) + w * linear(x @ a.T, b) / PAIRS, start, 800, 0.01
        )
        assert task(*end) < 1e-3
        kept[weight] = float(linear(x @ end[0].T, end[1]) / PAIRS)
    assert kept[0.0] > 0.1
    assert kept[0.1] < 0.3 * kept[0.0]


def test_no_such_freedom_with_a_nonlinearity_or_a_shared_factor():
    x, a, b = adapter()
    white, directions_ = whiten(x, a, b)
    before, after = (x @ a.T).relu() @ b, (x @ white.T).relu() @ directions_
    assert (after - before).norm() > 0.1 * before.norm()
    # Two layers share b: what whitens the one, and changes b, leaves the other redundant.
    other = normal(R, D, seed=20)
    change = torch.linalg.lstsq(b.T, directions_.T).solution  # directions_ = change.T b
    other_changed = torch.linalg.solve(change, other)
    torch.testing.assert_close(directions_.T @ other_changed, b.T @ other)
    assert linear(x @ other_changed.T, directions_) > 0.1


# The width of R_n


@pytest.mark.parametrize("width", ["smooth", "median", "detached"])
def test_value_of_nonlinear_does_not_depend_on_b_nor_on_the_size_of_z(width):
    z, b = normal(32, R), normal(R, D, seed=1)
    value = nonlinear(z, b, width=width)
    torch.testing.assert_close(value, literal.nonlinear(literal.features(z, b), 0.5))
    scale = torch.tensor([1.0, 3, 10, 0.1], dtype=torch.float64)
    torch.testing.assert_close(nonlinear(scale * z, normal(R, D, seed=2), width=width), value)


def literal_with_sigma_held(dh: Tensor, fraction: float) -> Tensor:
    centring = torch.eye(dh.shape[-1], dtype=dh.dtype) - 1 / dh.shape[-1]
    row, column = torch.triu_indices(dh.shape[-1], dh.shape[-1], offset=1)
    kernels = []
    for h in dh:
        squares = (h[:, :, None] - h[:, None, :]).square().sum(0)
        sigma = fraction * squares.detach()[row, column].sqrt().median()
        kernels.append(torch.exp(-squares / (2 * sigma**2)) @ centring)
    pairs = [(p, q) for i, p in enumerate(kernels) for q in kernels[i + 1 :]]
    return sum((p @ q).trace() / ((p @ p).trace() * (q @ q).trace()).sqrt() for p, q in pairs)


def test_sigma_held_constant_leaves_a_gradient_that_cannot_lower_the_value():
    z, b = normal(32, R), normal(R, D, seed=1)
    on_z, on_b = gradients(lambda z, b: nonlinear(z, b, width="detached", fraction=0.2), z, b)
    printed = gradients(lambda z, b: literal_with_sigma_held(literal.features(z, b), 0.2), z, b)
    torch.testing.assert_close([on_z, on_b], printed, rtol=1e-8, atol=1e-10)
    # Purely along b_i, and as large along z_i: it changes sizes alone.
    along = (on_b * b).sum(1)
    assert (along.abs() > 1e-2).all()
    torch.testing.assert_close(on_b, along[:, None] * b / b.square().sum(1, keepdim=True))
    torch.testing.assert_close((on_z * z).sum(0), along)
    torch.testing.assert_close(nonlinear(z, b - 0.1 * on_b), nonlinear(z, b))


def test_sigma_held_constant_shrinks_b_or_grows_it():
    independent, correlated = normal(32, R), normal(128, R) + 2 * normal(128, 1, seed=3)
    b = normal(R, D, seed=1)
    for z, fraction, sign in ((independent, 0.2, 1), (correlated, 1.0, -1)):
        (on_b,) = gradients(
            lambda b, z=z, f=fraction: nonlinear(z, b, fraction=f, width="detached"), b
        )
        assert sign * (on_b * b).sum() > 0.01  # descent goes the other way


def test_the_default_width_has_no_such_gradient():
    z, b = normal(32, R), normal(R, D, seed=1)
    on_z, on_b = gradients(nonlinear, z, b)
    assert on_b.norm() == 0
    assert on_z.norm() > 0.1
    assert ((on_z * z).sum(0).abs() < 1e-12).all()


def test_the_median_puts_its_correction_on_one_pair_and_global_moves_b():
    z, b = normal(32, R), normal(R, D, seed=1)
    held, through = (
        gradients(lambda z, w=w: nonlinear(z, b, width=w), z)[0] for w in ("detached", "median")
    )
    changed = ((through - held).abs() > 1e-12).sum(0)
    assert (changed == 2).all()
    assert gradients(lambda b: nonlinear(z, b, width="global"), b)[0].norm() > 0.01


# What to compare a value with


def test_independent_activations_score_one_over_n():
    for n in (8, 32, 128):
        z, b = normal(500, n, R), torch.ones(500, R, 1, dtype=torch.float64)
        value = float(linear(z, b).mean() / PAIRS)
        assert value == pytest.approx(1 / n, rel=0.05)
        centred = float(linear(z + 3, b, center=True).mean() / PAIRS)
        assert centred == pytest.approx(1 / (n - 1), rel=0.05)


def test_shuffling_gives_the_floor_of_any_data():
    # Of all pairings of two centred kernels, the mean is tr(K_i M) tr(K_j M) / (N - 1).
    n = 24
    z = torch.stack((normal(n) ** 3, normal(n, seed=1).exp()), 1)
    b = torch.ones(2, 1, dtype=torch.float64)
    shuffled = torch.stack(
        [
            torch.stack((z[:, 0], z[torch.randperm(n, generator=g), 1]), 1)
            for g in [torch.Generator().manual_seed(5)]
            for _ in range(1500)
        ]
    )
    measured = nonlinear(shuffled, b.expand(1500, 2, 1), form="exact").mean()
    centring = torch.eye(n, dtype=z.dtype) - 1 / n
    kernels = []
    for column in z.T:
        gap = (column[:, None] - column[None]).abs()
        sigma = 0.5 * gap[tuple(torch.triu_indices(n, n, 1))].median()
        kernels.append(centring @ torch.exp(-(gap**2) / (2 * sigma**2)) @ centring)
    one, other = kernels
    expected = one.trace() * other.trace() / ((n - 1) * one.norm() * other.norm())
    assert float(measured) == pytest.approx(float(expected), rel=0.03)


def test_euclidean_of_independent_activations_is_one_half():
    z, b = normal(20_000, R), torch.eye(R, dtype=torch.float64)
    assert float(euclidean(z, b) / PAIRS) == pytest.approx(0.5, abs=0.01)


def test_cosines_of_random_directions_depend_on_the_width_alone():
    for d in (64, 768):
        b = normal(400, R, d)
        for n in (2, 50):
            z = normal(400, n, R, seed=1)
            squared, absolute = (
                float(cosine(z, b, variant=v).mean() / PAIRS) for v in ("squared", "absolute")
            )
            assert squared == pytest.approx(1 / d, rel=0.06)
            assert absolute == pytest.approx(math.sqrt(2 / (math.pi * d)), rel=0.03)


def test_training_goes_below_the_floor_down_to_the_bound_for_few_samples():
    b = torch.ones(8, 1, dtype=torch.float64)
    for n, bound in ((16, 0.0), (4, (8 / 4 - 1) / 7)):
        (z,) = descend(lambda z: linear(z, b), [normal(n, 8)], 600, 0.02)
        reached = float(linear(z, b) / 28)
        assert reached == pytest.approx(bound, abs=1e-4)
        assert reached >= bound - 1e-12
        assert reached < 1 / n


def test_nonlinear_of_two_samples_is_one():
    b = torch.ones(R, 1, dtype=torch.float64)
    for seed in range(3):
        torch.testing.assert_close(
            nonlinear(normal(2, R, seed=seed), b), torch.tensor(PAIRS, dtype=b.dtype)
        )


def test_a_mean_counts_as_similarity_and_pooling_makes_it_count_more():
    tokens = normal(32, 196, R) + 0.1
    b = torch.ones(R, 1, dtype=torch.float64)
    token, image = float(linear(tokens.flatten(0, 1), b)), float(linear(tokens.mean(1), b))
    centred = float(linear(tokens.mean(1), b, center=True))
    assert token / PAIRS < 0.001
    assert image / PAIRS > 0.3
    assert centred / PAIRS < 0.07
