"""Compiled penalties against eager ones: the facts name a compiler that returns wrong gradients."""

from __future__ import annotations

import shutil

import pytest
import torch

from resora.penalties import PENALTIES, linear

BACKEND = "inductor" if shutil.which("g++") or shutil.which("clang++") else "aot_eager"


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def gradients(function, z, b):
    z, b = z.clone().requires_grad_(), b.clone().requires_grad_()
    value = function(z, b).sum()
    found = torch.autograd.grad(value, (z, b), allow_unused=True)
    return [value.detach(), *(torch.zeros(()) if g is None else g for g in found)]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n != "linear" else []) for n in PENALTIES],
)
def test_compiled_gradients_are_the_eager_ones(name):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 40, 4, generator=generator) @ torch.randn(4, 4, generator=generator)
    b = torch.randn(3, 4, 9, generator=generator)
    expected = gradients(PENALTIES[name], z, b)
    assert max(g.abs().max() for g in expected[1:]) > 1e-3
    found = gradients(torch.compile(PENALTIES[name], backend=BACKEND), z, b)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_compiled_penalty_decorrelates_and_does_not_only_shrink():
    """What the wrong gradients did: norms fell, and nothing was decorrelated."""
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(64, 1, generator=generator)
    z = (shared + 0.5 * torch.randn(64, 4, generator=generator)).requires_grad_()
    b = torch.ones(4, 5)
    compiled = torch.compile(linear, backend=BACKEND)
    optimizer = torch.optim.Adam([z], lr=0.05)
    before, length = linear(z, b).item(), z.detach().norm()
    for _ in range(60):
        optimizer.zero_grad()
        compiled(z, b).backward()
        optimizer.step()
    assert linear(z, b) < 0.05 * before
    assert z.norm() > 0.8 * length
