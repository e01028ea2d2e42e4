"""Property-based: the closed forms against the paper's equations as printed, in float64.

Activations are A x, so that gradients with respect to A, B and x are compared. Errors of gradients are
relative to the largest component of a row, or to what that could be (pairs / largest element of the
row) where the gradient vanishes and the literal form returns rounding noise.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resora import literal
from resora.penalties import cosine, euclidean, linear, nonlinear

TOLERANCE = 1e-10

settings.register_profile("here", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("here")

shapes = st.tuples(
    st.integers(2, 24), st.integers(1, 6), st.integers(1, 9), st.integers(2, 9)
)  # N, r, d_in, d_out
exponents = st.integers(-8, 8)


@st.composite
def factors(draw, *, duplicates=True, dead=True):
    """x (N, d_in), a (r, d_in), b (r, d_out), and which subspaces are alive."""
    n, rank, d_in, d_out = draw(shapes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(n, d_in, generator=generator, dtype=torch.float64)
    a = torch.randn(rank, d_in, generator=generator, dtype=torch.float64)
    b = torch.randn(rank, d_out, generator=generator, dtype=torch.float64)
    a *= 10.0 ** draw(exponents)
    b *= 10.0 ** draw(exponents)
    if rank > 1 and duplicates and draw(st.booleans()):
        a[1], b[1] = a[0], b[0]
    if n > 2 and draw(st.booleans()):
        x[draw(st.integers(0, n - 1))] = 0  # a sample of zero, as padding leaves it
    alive = torch.ones(rank, dtype=torch.bool)
    if dead and draw(st.booleans()):
        victim = draw(st.integers(0, rank - 1))
        (a if draw(st.booleans()) else b)[victim] = 0
        alive[victim] = False
    return [t.requires_grad_() for t in (x, a, b)] + [alive]


def compare(closed, printed, drawn):
    """Values and gradients; the printed form sees only the subspaces for which it is defined."""
    x, a, b, alive = drawn
    value = closed(x @ a.T, b)
    expected = printed(literal.features(x @ a[alive].T, b[alive]))
    assert value.dtype == torch.float64
    pairs = max(1, alive.sum().item() * (alive.sum().item() - 1) / 2)
    assert abs(value - expected) <= TOLERANCE * max(abs(expected), 1e-6 * pairs)
    found = torch.autograd.grad(value, (x, a, b), allow_unused=True, retain_graph=True)
    wanted = (None, None, None)
    if expected.requires_grad:
        wanted = torch.autograd.grad(expected, (x, a, b), allow_unused=True)
    for one, other, tensor in zip(found, wanted, (x, a, b), strict=True):
        one, other = (torch.zeros_like(tensor) if g is None else g for g in (one, other))
        assert one.isfinite().all()
        error, size, element = (t.abs().amax(1) for t in (one - other, other, tensor.detach()))
        if tensor is x:
            error, size, element = error.amax(), size.amax(), element.amax()
        assert (error <= TOLERANCE * torch.maximum(size, pairs / element)).all()


@given(factors())
def test_linear(drawn):
    _, a, b, _ = drawn
    # A direction of zero drops out of the value: only the activations have to be alive.
    drawn[3] = (a.detach() != 0).any(1)
    b.data[(b.detach() == 0).all(1)] = 1
    compare(linear, literal.linear, drawn)


@given(factors())
def test_linear_centred(drawn):
    _, a, b, _ = drawn
    drawn[3] = (a.detach() != 0).any(1)
    b.data[(b.detach() == 0).all(1)] = 1
    compare(
        lambda z, b: linear(z, b, center=True),
        lambda dh: literal.linear(dh - dh.mean(-1, keepdim=True)),
        drawn,
    )


@given(factors())
def test_linear_feature(drawn):
    _, a, b, _ = drawn
    drawn[3] = (b.detach() != 0).any(1)
    a.data[(a.detach() == 0).all(1)] = 1
    compare(
        lambda z, b: linear(z, b, orientation="feature"), lambda dh: literal.linear(dh.mT), drawn
    )


@given(factors())
def test_linear_joint(drawn):
    compare(lambda z, b: linear(z, b, orientation="joint"), literal.linear_joint, drawn)


def printed_cosine(dh, power=1):
    """Eq. 6 over the samples for which it is defined; the others count as zero."""
    live = (dh.detach() != 0).flatten(0, 1).any(0)
    return literal.cosine(dh[..., live], power) * live.double().mean()


@given(factors())
def test_cosine(drawn):
    compare(cosine, printed_cosine, drawn)


@given(factors())
def test_cosine_squared(drawn):
    compare(lambda z, b: cosine(z, b, variant="squared"), lambda dh: printed_cosine(dh, 2), drawn)


@given(factors(), st.floats(0.01, 3))
def test_euclidean(drawn, strength):
    x, a, b, alive = drawn
    alive[:] = True  # defined for features of zero
    dh = literal.features(x @ a.T, b).detach()
    size = dh.square().sum(1).mean()
    beta = strength / size.item() if size > 0 else strength
    compare(lambda z, b: euclidean(z, b, beta=beta), lambda dh: literal.euclidean(dh, beta), drawn)


@given(factors())
def test_euclidean_with_its_own_beta_is_that_with_one_over_the_mean_distance(drawn):
    x, a, b, _ = drawn
    z = (x @ a.T).detach()
    i, j = torch.triu_indices(z.shape[1], z.shape[1], offset=1)
    dh = literal.features(z, b.detach())
    mean = (dh[i] - dh[j]).square().sum(1).mean()
    # Equal features but for rounding: the value is the number of pairs, whatever beta.
    if len(i) and mean > 1e-12 * dh.square().sum(1).mean():
        beta = 1 / mean.item()
        torch.testing.assert_close(euclidean(z, b), euclidean(z, b, beta=beta), rtol=1e-9, atol=0)
    else:
        assert euclidean(z, b).item() == pytest.approx(len(i), rel=1e-9)


@given(factors(), st.sampled_from([0.2, 0.5, 1.0]))
def test_nonlinear(drawn, fraction):
    _, a, b, _ = drawn
    drawn[3] = (a.detach() != 0).any(1)
    b.data[(b.detach() == 0).all(1)] = 1
    compare(
        lambda z, b: nonlinear(z, b, fraction=fraction, width="median"),
        lambda dh: literal.nonlinear(dh, fraction),
        drawn,
    )


@given(factors(dead=False))
def test_nonlinear_with_a_constant_width(drawn):
    compare(
        lambda z, b: nonlinear(z, b, width="detached"),
        lambda dh: literal.nonlinear(dh, 0.5, "detached"),
        drawn,
    )


# Of two equal subspaces, either may be the one that has the median.
@given(factors(dead=False, duplicates=False))
def test_nonlinear_with_one_width_for_all(drawn):
    compare(
        lambda z, b: nonlinear(z, b, width="global"),
        lambda dh: literal.nonlinear(dh, 0.5, "global"),
        drawn,
    )


@given(factors(), st.sampled_from([linear, cosine, euclidean, nonlinear]), st.data())
def test_masked_samples_do_not_matter(drawn, penalty, data):
    x, a, b, _ = drawn
    z = (x @ a.T).detach()
    n = len(z)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    junk = z.clone()
    junk[~mask] = data.draw(st.sampled_from([0.0, 1e30, float("inf"), float("nan")]))
    junk.requires_grad_()
    kept = z[mask].requires_grad_()
    value = penalty(junk, b, mask=mask)
    if not mask.any():
        assert value.isfinite()
        return
    expected = penalty(kept, b)
    assert abs(value - expected) <= TOLERANCE * max(1e-6, abs(expected))
    if value.requires_grad and penalty is not cosine:
        (found,) = torch.autograd.grad(value, junk)
        (wanted,) = torch.autograd.grad(expected, kept)
        assert (found[~mask] == 0).all()
        scale = max(wanted.abs().max(), 1 / z[mask].abs().max().clamp_min(1e-30))
        assert (found[mask] - wanted).abs().max() <= TOLERANCE * scale
