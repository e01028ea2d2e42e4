"""``ReSoRA`` with gradient checkpointing, plain and beside a compiler."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from resora import ReSoRA
from tests.resora.networks import (
    PENALTIES,
    Model,
    inputs,
    own,
    recorded,
    trained,
    users,
)

MODELS = pytest.mark.parametrize("make", [own, users])


def graphs():
    return counters["stats"]["unique_graphs"]


class Checkpointed(Model):
    """Each block under its own checkpoint, or all under one."""

    reentrant = False
    together = False

    def forward(self, x):
        for part in [self.blocks] if self.together else self.blocks:
            x = checkpoint(part, x, use_reentrant=self.reentrant)
        return self.head(x.mean(1))


def checkpointed(make, **settings):
    model = make()
    model.__class__ = Checkpointed
    vars(model).update(settings)
    return model


def step(model, regularizer, seed=1, run=None):
    """Loss and gradients of one step."""
    model.zero_grad()
    run = model if run is None else run
    loss = run(inputs(seed=seed)).square().mean() + regularizer()
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in trained(model)])


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
def test_checkpointing_changes_neither_value_nor_gradients_and_records_once(make, penalty):
    plain, model = make(), checkpointed(make)
    of_plain = ReSoRA(plain, penalty=penalty, weight=1.0)
    regularizer = ReSoRA(model, penalty=penalty, weight=1.0)
    during = []
    for parameter in trained(model):
        parameter.register_hook(lambda _: during.append(recorded(regularizer)))
    for seed in range(3):
        expected = step(plain, of_plain, seed)
        torch.testing.assert_close(step(model, regularizer, seed), expected, rtol=0, atol=0)
        assert recorded(regularizer) == [0, 0]
    assert during == [[0, 0]] * 3 * len(trained(model))


@MODELS
def test_reentrant_checkpointing_is_an_error_that_says_what_to_do(make):
    model = checkpointed(make, reentrant=True)
    regularizer = ReSoRA(model, weight=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that no input needs a gradient
        model(inputs())
        with pytest.raises(RuntimeError, match=r"use_reentrant=False"):
            regularizer()
        model(inputs().requires_grad_()).sum().backward()  # the second pass records nothing
        with pytest.raises(RuntimeError, match=r"use_reentrant=False"):
            regularizer()


@MODELS
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("early_stop", [False, True])
def test_checkpoints_around_compiled_blocks(make, together, early_stop, fresh_compiler):
    plain, model = make(), checkpointed(make, together=together)
    of_plain, regularizer = ReSoRA(plain, weight=1.0), ReSoRA(model, weight=1.0)
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    with torch.utils.checkpoint.set_checkpoint_early_stop(early_stop):
        for seed in range(3):  # from the second step on, leftovers of the one before would count
            expected = step(plain, of_plain, seed)
            torch.testing.assert_close(step(model, regularizer, seed), expected)
            assert recorded(regularizer) == [0, 0]


@MODELS
def test_checkpoints_inside_a_compiled_model(make, fresh_compiler):
    setting = "skip_fwd_side_effects_in_bwd_under_checkpoint"
    if not hasattr(torch._dynamo.config, setting):
        pytest.skip("this version of torch has no such setting")
    plain, model = make(), checkpointed(make)
    of_plain, regularizer = ReSoRA(plain, weight=1.0), ReSoRA(model, weight=1.0)
    expected = step(plain, of_plain)
    # Without the setting the model runs, uncompiled.
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(step(model, regularizer, run=compiled), expected)
    assert graphs() == 0
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch._dynamo.config.patch({setting: True}):
        for _ in range(2):
            torch.testing.assert_close(step(model, regularizer, run=compiled), expected)
            assert recorded(regularizer) == [0, 0]
    assert graphs() == 1


def test_a_pass_between_call_and_backward_is_kept_for_the_next_call():
    model = own()
    regularizer = ReSoRA(model, weight=1.0)
    model(inputs(seed=1))
    first = regularizer()
    model(inputs(seed=2))
    first.backward()
    found = regularizer()
    model(inputs(seed=2))
    torch.testing.assert_close(found, regularizer(), rtol=0, atol=0)
