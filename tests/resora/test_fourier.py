"""R_n over many samples: the Fourier expansion against N x N kernels, and its bound."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resora import fourier
from resora.median import all_pairs_median, median_distance
from resora.penalties import nonlinear

SAMPLES, RANK = 300, 4


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def student(generator, *shape):
    """Student's t with two degrees of freedom: no variance."""
    squares = normal(generator, 2, *shape).square().sum(0)
    return normal(generator, *shape) / (squares / 2).sqrt()


DRAWS = {
    "normal": normal,
    "correlated": lambda g, n, r: normal(g, n, r) @ normal(g, r, r),
    "uniform": lambda g, n, r: torch.rand(n, r, generator=g, dtype=torch.float64),
    "heavy tails": student,
    "cauchy": lambda g, n, r: normal(g, n, r) / normal(g, n, r),
    "bimodal": lambda g, n, r: (normal(g, n, r) > 0) + 0.05 * normal(g, n, r),
    "rectified": lambda g, n, r: normal(g, n, r).relu(),
    "integers": lambda g, n, r: torch.randint(0, 6, (n, r), generator=g).double(),
    "outliers": lambda g, n, r: torch.cat([normal(g, n - 2, r), 1e6 * normal(g, 2, r)]),
    "far from zero": lambda g, n, r: normal(g, n, r) + 1e3,
    "one constant": lambda g, n, r: normal(g, n, r) * torch.tensor([0.0] + [1.0] * (r - 1)),
    "constant": lambda g, n, r: torch.ones(n, r, dtype=torch.float64),
}


def evaluate(z, **options):
    z = z.clone().requires_grad_()
    b = torch.ones(z.shape[1], 3, dtype=z.dtype)
    value = nonlinear(z, b, **options)
    return value.item(), torch.autograd.grad(value, z)[0]


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(2))
def test_expansion_equals_kernels(name, dtype, seed):
    z = DRAWS[name](torch.Generator().manual_seed(seed), SAMPLES, RANK)
    value, gradient = evaluate(z.to(dtype), form="fourier")
    expected, wanted = evaluate(z.to(dtype).double(), form="exact")
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert (gradient - wanted).norm() <= 1e-5 * wanted.norm()


@given(
    st.sampled_from(sorted(DRAWS)),
    st.integers(0, 2**31),
    st.integers(65, 200),
    st.floats(0.1, 2),
    st.sampled_from([1e-2, 1e-5, 1e-8]),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_bound_is_never_violated(name, seed, samples, fraction, error):
    z = DRAWS[name](torch.Generator().manual_seed(seed), samples, RANK)
    median = all_pairs_median(z.T)
    alive = median > 0
    u = (z / (fraction * torch.where(alive, median, 1)) * alive)[None]
    count = torch.tensor([float(samples)], dtype=torch.float64)
    context = type("Context", (), {"needs_input_grad": (False,)})
    value, bound, _ = fourier._evaluate(u, None, count, error, None, context)
    expected = evaluate(z, form="exact", fraction=fraction)[0]
    pairs = alive.sum().item() * (alive.sum().item() - 1) / 2
    assert abs(value.item() - expected) <= pairs * bound + 1e-11


def kernel_error(length: float, period: float, terms: int) -> float:
    """The bound of Poisson's formula; facts of the expansion, not of its code."""
    images = [math.exp(-((q * period - s * length) ** 2) / 2) for q in (1, 2, 3) for s in (1, -1)]
    return sum(images) + math.erfc(math.sqrt(2) * math.pi * terms / period)


@pytest.mark.parametrize("error", [1e-2, 1e-4, 5e-6, 1e-9])
@pytest.mark.parametrize("length", [0.0, 0.3, 4.0, 14.0, 100.0])
def test_period_and_terms_keep_to_the_error(error, length):
    period = torch.tensor([[length]], dtype=torch.float64) + math.sqrt(2 * math.log(4 / error))
    ((_, terms),) = fourier._pieces(period, error, 1)
    assert kernel_error(length, period.item(), terms) <= error
    # Cheap as well: two frequencies fewer would not do.
    assert kernel_error(length, period.item(), terms - 2) > error / 4


@pytest.mark.parametrize("name", ["normal", "heavy tails", "outliers"])
def test_centred_kernels_are_products_of_the_features(name):
    z = DRAWS[name](torch.Generator().manual_seed(3), 120, 2)
    u = z / (0.5 * all_pairs_median(z.T))
    place, length, _ = fourier._places(u[None], None)
    period = length + math.sqrt(2 * math.log(4 / fourier.KERNEL_ERROR))
    ((_, terms),) = fourier._pieces(period, fourier.KERNEL_ERROR, 1)
    count = torch.tensor([120.0], dtype=torch.float64)
    features = fourier._Features(place.mT, None, count, period, terms, None).centred[0]
    centring = torch.eye(120, dtype=torch.float64) - 1 / 120
    for i in range(2):
        kernel = torch.exp(-0.5 * (u[:, i, None] - u[None, :, i]).square())
        made = features[i].flatten(0, 1).T @ features[i].flatten(0, 1)
        error = made - centring @ kernel @ centring
        assert error.norm() / 120 <= fourier.KERNEL_ERROR


def test_nearly_constant_subspaces_get_more_terms_or_an_error():
    # Few samples are away from the rest, and the width covers them: kernels are nearly one.
    z = torch.linspace(0, 1, SAMPLES, dtype=torch.float64)[:, None] ** torch.arange(1, 4)
    wide = {"form": "fourier", "fraction": 200.0}
    expected = evaluate(z, form="exact", fraction=200.0)[0]
    assert evaluate(z, **wide)[0] == pytest.approx(expected, rel=1e-3)
    with pytest.raises(fourier.InaccurateExpansion, match="Use form='exact'"):
        evaluate(z.float(), form="fourier", fraction=2e4, tolerance=1e-9)


def test_no_matrix_of_samples_by_samples_is_formed():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.elements = max(self.elements, result.numel())
            return result

    z = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    with Largest() as seen:
        evaluate(z)
    assert seen.elements < 3000 * 2 * 64


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("masked", [False, True])
def test_median_by_search_is_that_of_all_pairs(name, masked):
    generator = torch.Generator().manual_seed(5)
    z = torch.stack([DRAWS[name](generator, 501, 3).T for _ in range(2)])
    mask = torch.rand(2, 1, 501, generator=generator) > 0.4 if masked else None
    found = median_distance(z, mask)
    wanted = all_pairs_median(z, None if mask is None else mask.expand(z.shape))
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=0)


def test_widths_through_the_median_want_all_pairs():
    z = torch.randn(100, 3)
    with pytest.raises(ValueError, match="width='median' needs all pairs"):
        nonlinear(z, z[:3], form="fourier", width="median")
    exact = nonlinear(z, z[:3], form="exact", width="median")
    assert torch.equal(nonlinear(z, z[:3], width="median"), exact)
