"""The closed forms against the paper's equations as printed, with features materialised."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from resora import literal
from resora.penalties import PENALTIES, cosine, euclidean, linear, nonlinear, squared_cosines

N, R, D = 24, 5, 17


def draw(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(R, R, generator=generator, dtype=torch.float64)
    z = torch.randn(N, R, generator=generator, dtype=torch.float64) @ mix
    b = torch.randn(R, D, generator=generator, dtype=torch.float64)
    return z.requires_grad_(), b.requires_grad_()


def gradients(value: Tensor, *inputs: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(value, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("closed", "printed"),
    [
        (linear, literal.linear),
        (cosine, literal.cosine),
        (lambda z, b: euclidean(z, b, beta=0.05), lambda h: literal.euclidean(h, 0.05)),
        (
            lambda z, b: linear(z, b, center=True),
            lambda h: literal.linear(h - h.mean(-1, keepdim=True)),
        ),
        (lambda z, b: linear(z, b, orientation="feature"), lambda h: literal.linear(h.mT)),
        (lambda z, b: linear(z, b, orientation="joint"), literal.linear_joint),
        (lambda z, b: cosine(z, b, variant="squared"), lambda h: literal.cosine(h, power=2)),
    ],
    ids=["linear", "cosine", "euclidean", "centred", "feature", "joint", "squared cosine"],
)
def test_closed_form_equals_equation(closed, printed, seed):
    z, b = draw(seed)
    value, expected = closed(z, b), printed(literal.features(z, b))
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    pairs = zip(gradients(value, z, b), gradients(expected, z, b), strict=True)
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_features_from_materialised_maps_are_the_same():
    _, b = draw(4)
    x, a = torch.randn(N, 9, dtype=torch.float64), torch.randn(R, 9, dtype=torch.float64)
    torch.testing.assert_close(literal.features_from_maps(x, a, b), literal.features(x @ a.T, b))


@pytest.mark.parametrize("fraction", [0.2, 0.5, 1.0])
def test_nonlinear_equals_equation(fraction):
    z, b = draw(7)
    value = nonlinear(z, b, fraction=fraction)
    expected = literal.nonlinear(literal.features(z, b), fraction)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


def test_nonlinear_gradient_is_scale_free():
    z, b = draw(8)
    (gradient,) = torch.autograd.grad(nonlinear(z, b), z)
    assert gradient.norm() > 1e-3
    assert ((gradient * z).sum(0).abs() < 1e-12).all()


def test_what_each_penalty_trains():
    z, b = draw(1)
    on_z = {name: gradients(f(z, b), z, b)[0].norm() > 0 for name, f in PENALTIES.items()}
    on_b = {name: gradients(f(z, b), z, b)[1].norm() > 0 for name, f in PENALTIES.items()}
    assert on_z == {"linear": True, "nonlinear": True, "euclidean": True, "cosine": False}
    assert on_b == {"linear": False, "nonlinear": False, "euclidean": True, "cosine": True}


@pytest.mark.parametrize("name", PENALTIES)
def test_batch_of_modules_equals_one_by_one(name):
    drawn = [draw(seed) for seed in range(3)]
    batch = PENALTIES[name](torch.stack([z for z, _ in drawn]), torch.stack([b for _, b in drawn]))
    single = torch.stack([PENALTIES[name](z, b) for z, b in drawn])
    torch.testing.assert_close(batch, single, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("case", ["zero b", "zero z", "one sample", "rank one", "one dead column"])
def test_edge_cases_are_finite(name, case):
    z, b = (x.detach().clone() for x in draw(2))
    if case == "zero b":
        b.zero_()
    elif case == "zero z":
        z.zero_()
    elif case == "one sample":
        z = z[:1]
    elif case == "rank one":
        z, b = z[:, :1], b[:1]
    else:
        z[:, 1] = 0
    z.requires_grad_()
    b.requires_grad_()
    value = PENALTIES[name](z, b)
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in gradients(value, z, b))
    set_to_set = name in ("linear", "nonlinear")
    if case == "rank one" or (case == "one sample" and set_to_set):
        assert value == 0


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scale_invariance_in_float32(name, scale):
    z, b = (x.detach().float() for x in draw(3))
    torch.testing.assert_close(
        PENALTIES[name](scale * z, b), PENALTIES[name](z, b), rtol=1e-5, atol=0
    )


def test_squared_cosines_of_duplicates_is_one():
    z = torch.randn(10, 1, dtype=torch.float64).expand(10, 3)
    torch.testing.assert_close(squared_cosines(z), torch.ones(3, 3, dtype=torch.float64))


def test_unknown_options_name_the_known():
    z, b = draw(0)
    with pytest.raises(
        ValueError, match=r"'samples'; did you mean 'sample'\? \(known: sample, feature"
    ):
        linear(z, b, orientation="samples")
    with pytest.raises(ValueError, match=r"unknown variant 'abs' \(known: signed, absolute"):
        cosine(z, b, variant="abs")


def test_signed_cosine_rewards_opposite_directions_and_the_squared_does_not():
    z = torch.ones(6, 2)
    opposite, orthogonal = torch.tensor([[[1.0, 0], [-1, 0]], [[1, 0], [0, 1]]])
    assert cosine(z, opposite) < cosine(z, orthogonal) == 0
    for variant in ("absolute", "squared"):
        assert cosine(z, opposite, variant=variant) > cosine(z, orthogonal, variant=variant) == 0


def test_half_precision_is_raised():
    z = 300 * torch.ones(4096, 2, dtype=torch.float16)  # its Gram overflows in half precision
    assert linear(z, torch.ones(2, 4, dtype=torch.float16)) == pytest.approx(1.0, abs=1e-5)
