"""The statements of `resora/METHOD.md`, in its order; those on factorisations, widths and floors are in
`test_method_floors.py`. The numbers it quotes are tested in `tests/reports/test_method_figures.py`."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest
import torch

import resora
from resora import ReSoRA, literal
from resora.penalties import cosine, euclidean, linear, nonlinear, squared_cosines
from resora.regularizer import DEFAULT_SAMPLE
from tests.resora.adapters import (
    PAIRS,
    D,
    N,
    R,
    adapter,
    descend,
    directions,
    gradients,
    normal,
    per_pair,
)

PAGE = (Path(resora.__file__).parent / "METHOD.md").read_text(encoding="utf-8")
WEIGHT = 'space="weight"'
# Row of the page's table: the function of (x, a, b) in closed form.
ROWS = {
    "`linear`": lambda x, a, b: linear(x @ a.T, b),
    'orientation="feature"': lambda x, a, b: linear(x @ a.T, b, orientation="feature"),
    'orientation="joint"': lambda x, a, b: linear(x @ a.T, b, orientation="joint"),
    WEIGHT: lambda x, a, b: linear(a.T, b),
    "`nonlinear`": lambda x, a, b: nonlinear(x @ a.T, b),
    "`euclidean`": lambda x, a, b: euclidean(x @ a.T, b, beta=0.1),
    "`cosine`": lambda x, a, b: cosine(x @ a.T, b),
    'variant="absolute"': lambda x, a, b: cosine(x @ a.T, b, variant="absolute"),
    '`"squared"`': lambda x, a, b: cosine(x @ a.T, b, variant="squared"),
}

# The four, and what each one moves


def test_each_row_of_the_table_is_the_printed_equation():
    x, a, b = adapter()
    h = literal.features_from_maps(x, a, b)
    weights = literal.features_from_maps(torch.eye(D, dtype=torch.float64), a, b)
    printed = {
        "`linear`": literal.linear(h),
        'orientation="feature"': literal.linear(h.mT),
        'orientation="joint"': literal.linear_joint(h),
        WEIGHT: literal.linear(weights),
        "`nonlinear`": literal.nonlinear(h, 0.5),
        "`euclidean`": literal.euclidean(h, 0.1),
        "`cosine`": literal.cosine(h),
        'variant="absolute"': per_pair(directions(b).abs()) * PAIRS,
        '`"squared"`': literal.cosine(h, power=2),
    }
    for row, value in printed.items():
        torch.testing.assert_close(ROWS[row](x, a, b), value, rtol=1e-10, atol=0, msg=row)


def test_what_the_table_writes_each_value_as():
    x, a, b = adapter()
    z = x @ a.T
    cos_a, cos_b, cos_z = directions(a), directions(b), directions(z.T)
    signs = torch.sign(z).T @ torch.sign(z) / N
    written = {
        "`linear`": cos_z**2,
        'orientation="feature"': cos_b**2,
        'orientation="joint"': cos_z**2 * cos_b**2,
        WEIGHT: cos_a**2,
        "`cosine`": cos_b * signs,
        'variant="absolute"': cos_b.abs(),
        '`"squared"`': cos_b**2,
    }
    for row, matrix in written.items():
        torch.testing.assert_close(ROWS[row](x, a, b), PAIRS * per_pair(matrix), msg=row)


@pytest.mark.parametrize("row", ROWS)
def test_the_table_says_what_each_penalty_moves(row):
    (line,) = [t for t in PAGE.splitlines() if t.startswith("| ") and row in t and "$`" in t]
    moved = [cell.strip(" *") == "yes" for cell in line.split("|")[-3:-1]]
    x, a, b = adapter()
    on_x, on_a, on_b = (float(g.norm()) for g in gradients(ROWS[row], x, a, b))
    assert [on_a > 1e-3, on_b > 1e-3] == moved
    assert [on_a != 0, on_b != 0] == moved  # the zeros are exact
    assert (on_x != 0) == (moved[0] and row != WEIGHT)


def test_printed_linear_trains_adapters_of_earlier_layers_with_their_b():
    x, a, b = adapter()
    on_a, on_b = gradients(
        lambda ea, eb: linear((x + x @ ea.T @ eb) @ a.T, b), a.flip(0), b.flip(0)
    )
    assert on_a.norm() > 1e-3
    assert on_b.norm() > 1e-3


def test_feature_orientation_and_squared_cosine_are_one_function():
    x, a, b = adapter()
    z = x @ a.T
    feature, squared = linear(z, b, orientation="feature"), cosine(z, b, variant="squared")
    torch.testing.assert_close(feature, squared, rtol=1e-12, atol=0)


@pytest.mark.parametrize("row", ROWS)
def test_only_euclidean_depends_on_the_size_of_the_update(row):
    x, a, b = adapter()
    value, larger = ROWS[row](x, a, b), ROWS[row](x, a, 3 * b)
    assert (abs(value - larger) > 0.1) == (row == "`euclidean`")
    assert abs(value - larger) < 1e-12 or row == "`euclidean`"


@pytest.mark.parametrize("row", ROWS)
def test_size_can_move_between_a_and_b_of_a_subspace(row):
    x, a, b = adapter()
    factor = torch.tensor([[2.0], [-0.5], [7.0], [-1.0]], dtype=torch.float64)
    torch.testing.assert_close(ROWS[row](x, factor * a, b / factor), ROWS[row](x, a, b))


def test_nonlinear_sees_a_function_without_correlation():
    half = normal(60)
    first = torch.cat((half, -half))
    z = torch.stack((first, first**2 - (first**2).mean()), 1)
    chance = torch.stack((first, first[torch.randperm(120, generator=torch.Generator())]), 1)
    b = torch.ones(2, 1, dtype=torch.float64)
    assert linear(z, b) < 1e-20
    assert nonlinear(z, b) > 5 * nonlinear(chance, b)


@pytest.mark.parametrize("row", ROWS)
def test_at_b_zero(row):
    x, a, b = adapter()
    zero = torch.zeros_like(b)
    value = ROWS[row](x, a, zero)
    _, on_a, on_b = gradients(ROWS[row], x, a, zero)
    assert on_b.norm() == 0
    if row in ("`linear`", "`nonlinear`", WEIGHT):
        torch.testing.assert_close(value, ROWS[row](x, a, b))
        assert on_a.norm() > 1e-3
    else:
        assert value == (PAIRS if row == "`euclidean`" else 0)
        assert on_a.norm() == 0


@pytest.mark.parametrize("row", ["`cosine`", '`"squared"`', 'orientation="joint"'])
def test_gradient_on_b_grows_as_b_shrinks(row):
    x, a, b = adapter()
    large, small = (gradients(ROWS[row], x, a, s * b)[2].norm() for s in (1, 1e-3))
    torch.testing.assert_close(small, 1e3 * large)


# The printed cosine is smallest for opposite directions


def test_signed_cosine_ends_at_opposite_directions():
    z = normal(N, 1) * torch.ones(1, 2, dtype=torch.float64)
    (b,) = descend(lambda b: cosine(z, b), [normal(2, D)], 200, 0.1)
    assert directions(b)[0, 1] < -0.999


def test_signed_cosine_loses_directions_and_the_others_end_at_right_angles():
    x, start = normal(256, 64), normal(8, 64, seed=1)
    a = normal(8, 64, seed=2) + normal(1, 64, seed=3)
    z = x @ a.T
    before = per_pair(directions(start).abs())
    (b,) = descend(lambda b: cosine(z, b), [start], 200, 0.1)
    spread = torch.linalg.svdvals(b / b.norm(dim=1, keepdim=True))
    assert (spread > 0.2 * spread[0]).sum() <= 4
    assert per_pair(directions(b).abs()) > 3 * before
    for variant, error in (("absolute", 0.03), ("squared", 1e-4)):
        (b,) = descend(lambda b, v=variant: cosine(z, b, variant=v), [start], 200, 0.1)
        assert per_pair(directions(b).abs()) < error


def test_signed_cosine_is_silent_where_signs_agree_as_often_as_not():
    z = torch.tensor([[1.0, 1], [2, -1], [-1, 3], [-1, -1]], dtype=torch.float64)
    b = normal(2, D)
    assert cosine(z, b) == 0
    assert gradients(lambda b: cosine(z, b), b)[0].norm() == 0


@pytest.mark.parametrize("length", [1.0, 2.0, 10.0])
def test_equation_10_lacks_the_length_of_v(length):
    u, v = normal(D), normal(D, seed=1)
    v = length * v / v.norm()
    c = u @ v / (u.norm() * v.norm())
    (true,) = gradients(lambda u: torch.cosine_similarity(u, v, dim=0), u)
    corrected = (v - c * v.norm() * u / u.norm()) / (u.norm() * v.norm())
    printed = (v - c * u / u.norm()) / (u.norm() * v.norm())
    torch.testing.assert_close(corrected, true, rtol=1e-10, atol=1e-14)
    error = (printed - true).norm() / true.norm()
    cotangent = abs(c) / (1 - c**2).sqrt()
    torch.testing.assert_close(error, abs(1 - 1 / length) * cotangent, rtol=1e-8, atol=1e-12)


def test_the_cosines_gradient_is_not_zero_at_a_right_angle():
    u, v = torch.tensor([[2.0, 0, 0], [0, 5.0, 0]], dtype=torch.float64)
    (gradient,) = gradients(lambda u: torch.cosine_similarity(u, v, dim=0), u)
    torch.testing.assert_close(gradient, v / (u.norm() * v.norm()))


# R_e falls when the update grows


def test_growing_the_features_takes_euclidean_to_zero_with_every_angle_kept():
    x, a, b = adapter()
    z = x @ a.T
    values = [float(euclidean(z, s * b, beta=1.0)) for s in (1, 3, 10, 100, 1000)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01 * values[0]
    torch.testing.assert_close(directions(1000 * b), directions(b))


@pytest.mark.parametrize("beta", [0.01, 1.0, None])
def test_descending_euclidean_always_pushes_to_grow(beta):
    for mean in (0.0, 1.0):
        x, a, b = adapter(mean)
        on_a, on_b = gradients(lambda a, b, x=x: euclidean(x @ a.T, b, beta=beta), a, b)
        assert (on_b * b).sum() < 0
        torch.testing.assert_close((on_a * a).sum(), (on_b * b).sum())


def test_euclidean_makes_activations_alike_where_inputs_share_a_mean():
    after = {}
    for mean in (0.0, 1.0):
        x, a, b = adapter(mean)
        beta = float(1 / (x @ a.T).square().mean() / b.square().sum(1).mean() / 2)
        before = per_pair(squared_cosines(x @ a.T))
        value = euclidean(x @ a.T, b, beta=beta)
        a, b = descend(lambda a, b, x=x, k=beta: euclidean(x @ a.T, b, beta=k), [a, b], 150, 0.01)
        assert euclidean(x @ a.T, b, beta=beta) < 0.1 * value
        after[mean] = float(per_pair(squared_cosines(x @ a.T)) / before)
    assert after[0.0] < 1 < after[1.0]


def test_euclidean_by_default_grows_the_update_for_nothing():
    x, a, b = adapter(1.0)
    torch.testing.assert_close(euclidean(x @ a.T, b), euclidean(x @ a.T, 100 * b))
    (grown,) = descend(
        lambda s: euclidean(x @ a.T, s * b), [torch.ones((), dtype=b.dtype)], 50, 0.02
    )
    assert grown > 1.5
    torch.testing.assert_close(euclidean(x @ a.T, b), euclidean(x @ a.T, grown * b))


def test_euclidean_by_default_is_at_least_one_over_e():
    for seed in range(5):
        z, b = normal(N, R, seed=seed) ** 3, normal(R, D, seed=seed + 9)
        assert euclidean(z, b) / PAIRS > math.exp(-1)
    z, b = torch.ones(N, R, dtype=torch.float64), torch.eye(R, dtype=torch.float64)
    torch.testing.assert_close(euclidean(z, b) / PAIRS, torch.tensor(math.exp(-1), dtype=z.dtype))


# What the paper does not say


def test_defaults_are_those_of_the_page():
    def row(name: str) -> str:
        (line,) = re.findall(rf"^\| {name}.* \| (.*) \|$", PAGE, flags=re.MULTILINE)
        return line

    choices = {k: v.default for k, v in inspect.signature(ReSoRA.__init__).parameters.items()}
    assert choices["weight"] is inspect.Parameter.empty
    assert row("matrices and pairs") == f"{choices['matrices']} over adapted matrices; " + (
        f"{choices['pairs']} over pairs, as printed"
    )
    assert row("what one of").startswith("a token; for R_n an image ")
    assert set(DEFAULT_SAMPLE.values()) == {"token", "image"}
    assert [name for name, sample in DEFAULT_SAMPLE.items() if sample == "image"] == ["nonlinear"]
    z, b = normal(N, R), normal(R, D, seed=1)
    fraction, width = re.search(r"([\d.]+) of the median.*`width=\"(\w+)\"`", row("σ of")).groups()
    explicit = nonlinear(z, b, fraction=float(fraction), width=width)
    assert nonlinear(z, b) == explicit
    distance = (literal.features(z, b)[:, None] - literal.features(z, b)[None]).square().sum(2)
    beta = 1 / distance[tuple(torch.triu_indices(R, R, 1))].mean()
    assert "1 / (mean squared distance in the matrix)" in row("β")
    torch.testing.assert_close(euclidean(z, b), euclidean(z, b, beta=float(beta)))
    torch.testing.assert_close(euclidean(z, b), literal.euclidean(literal.features(z, b), beta))
