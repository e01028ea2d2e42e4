"""``ReSoRA`` in the loops that people train with: precision, several passes, evaluation, memory."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
from torch import nn

from resora import ReSoRA
from tests.resora.networks import (
    PENALTIES,
    Model,
    activations,
    gradients,
    inputs,
    own,
    recorded,
    trained,
    users,
)

MODELS = pytest.mark.parametrize("make", [own, users])


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_penalty_is_a_float32_function_of_the_activations(make, penalty, dtype):
    model = make()
    regularizer = ReSoRA(model, penalty=penalty, weight=0.7)
    with torch.autocast("cpu", dtype=dtype):
        model(inputs())
        half = [recorder.z for recorder in regularizer._recorders.values()]
        value = regularizer()
    assert all(z.dtype == dtype for (z,) in half)
    assert value.dtype == torch.float32
    # The same activations outside of autocast: not nearly, exactly.
    for (z,), recorder in zip(half, regularizer._recorders.values(), strict=True):
        recorder(z)
    torch.testing.assert_close(regularizer(), value, rtol=0, atol=0)
    gradient = gradients(value, model)
    model(inputs())
    full = regularizer()
    torch.testing.assert_close(value, full, rtol=0.03, atol=0)
    exact = gradients(full, model)
    assert (gradient - exact).norm() < 0.1 * exact.norm()


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
def test_float16_with_a_gradient_scaler(make, penalty):
    model = make()
    regularizer = ReSoRA(model, penalty=penalty, weight=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = torch.optim.SGD(trained(model), lr=0.1)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(inputs()).square().mean() + regularizer()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    half = torch.cat([p.grad.flatten() for p in trained(model)])
    exact = gradients(model(inputs()).square().mean() + regularizer(), model)
    assert half.isfinite().all()
    assert (half - exact).norm() < 0.03 * exact.norm()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**10  # no step was skipped


def test_large_half_precision_activations_do_not_overflow():
    model = own()
    with torch.no_grad():
        for block in model.blocks:
            block.qkv.lora_a.mul_(3000)
            block.qkv.lora_b.mul_(1e-4)
    regularizer = ReSoRA(model, weight=1.0)
    with torch.autocast("cpu", dtype=torch.float16):
        model(inputs())
        assert all(z.abs().max() > 300 for r in regularizer._recorders.values() for z in r.z)
        value = regularizer()
    model(inputs())
    torch.testing.assert_close(value, regularizer(), rtol=0.01, atol=0)


@MODELS
def test_accumulation_takes_each_micro_batch_by_itself(make):
    model = make().double()
    regularizer = ReSoRA(model, weight=1.0)
    batches = [inputs(seed=seed, dtype=torch.float64) for seed in range(3)]
    for x in batches:
        model(x)
        (regularizer() / 3).backward()
        assert recorded(regularizer) == [0, 0]
    found = torch.cat([p.grad.flatten() for p in trained(model) if p.grad is not None])
    each = []
    for x in batches:
        model(x)
        each.append(gradients(regularizer(), model))
    expected = torch.stack(each).mean(0)
    torch.testing.assert_close(found, expected[: len(found)])


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
def test_two_passes_in_one_step_are_one_batch(make, penalty):
    model = make().double()
    regularizer = ReSoRA(model, penalty=penalty, weight=1.0)
    x = inputs(batch=6, dtype=torch.float64)
    model(x)
    expected = regularizer()
    model(x[:2])
    model(x[2:])
    found = regularizer()
    torch.testing.assert_close(found, expected)
    model(x)
    torch.testing.assert_close(gradients(found, model), gradients(regularizer(), model))


class Shared(Model):
    """The first block is used twice in each forward pass."""

    def forward(self, x):
        return self.head(self.blocks(self.blocks[0](x)).mean(1))


@pytest.mark.parametrize("sample", ["token", "image", "class"])
def test_a_layer_that_is_called_twice_in_a_pass_joins_its_samples(sample):
    model = own().double()
    model.__class__ = Shared
    regularizer = ReSoRA(model, weight=1.0, sample=sample)
    x = inputs(dtype=torch.float64)
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[1, 4:] = mask[3, 2:] = False
    model(x)
    assert recorded(regularizer) == [2, 1]
    plain = regularizer()
    model(x)
    torch.testing.assert_close(regularizer(mask=torch.ones_like(mask)), plain)
    model(x)
    model(x[:2])  # the first block has been called four times for two masks
    found = regularizer(mask=[mask, mask[:2]])
    model(torch.cat([x, x[:2]]))
    torch.testing.assert_close(found, regularizer(mask=torch.cat([mask, mask[:2]])))


def test_a_mask_for_each_pass():
    model = own().double()
    regularizer = ReSoRA(model, weight=1.0)
    x, y = inputs(dtype=torch.float64), inputs(batch=3, tokens=4, dtype=torch.float64)
    first, second = torch.rand(5, 7) > 0.4, torch.rand(3, 4) > 0.4
    model(x)
    model(y)
    found = regularizer(mask=[first, second.long()])
    model(torch.cat([x[first], y[second]])[None])
    torch.testing.assert_close(found, regularizer())
    model(x)
    model(y)
    found = regularizer(mask=(first, None))
    model(torch.cat([x[first], y.flatten(0, 1)])[None])
    torch.testing.assert_close(found, regularizer())
    model(x)
    model(y)
    with pytest.raises(ValueError, match=r"3 masks for 2 calls of 'blocks.0.qkv'"):
        regularizer(mask=[first, second, second])
    assert recorded(regularizer) == [0, 0]  # also after an error, the next step begins anew


@MODELS
def test_forgetting_to_call_it_is_warned_about_once(make):
    model = make()
    regularizer = ReSoRA(model, weight=1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(40):
            model(inputs(batch=1, tokens=2))
    assert len(caught) == 2  # one for each layer
    assert "the regulariser was not called" in str(caught[0].message)
    assert regularizer() > 0


@MODELS
def test_evaluation_leaves_nothing(make):
    model = make()
    regularizer = ReSoRA(model, weight=1.0)
    model.eval()
    model(inputs())
    model.train()
    with torch.no_grad():
        model(inputs())
    with torch.inference_mode():
        model(inputs())
    assert recorded(regularizer) == [0, 0]
    with pytest.raises(RuntimeError, match=r"only ran without gradients: under torch.no_grad"):
        regularizer()
    model.eval()
    model(inputs())
    with pytest.raises(RuntimeError, match=r"in evaluation mode; call model.train\(\)"):
        regularizer()
    model.train()
    with pytest.raises(
        RuntimeError, match=r"'blocks.0.qkv' and 1 more recorded nothing: it was not"
    ):
        regularizer()


@MODELS
def test_evaluation_between_two_passes_changes_nothing(make):
    model = make()
    regularizer = ReSoRA(model, weight=1.0)
    model(inputs())
    expected = regularizer()
    model(inputs())
    model.eval()
    with torch.no_grad():
        model(inputs(seed=5))
    with regularizer.recording():
        model(inputs(seed=6))
    model.train()
    torch.testing.assert_close(regularizer(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@MODELS
def test_measuring_in_any_mode(make, context):
    model = make()
    regularizer = ReSoRA(model, weight=2.0)
    model(inputs())
    expected = regularizer()
    cosines = regularizer.redundancy()
    model.eval()
    with context(), regularizer.recording():
        model(inputs())
        torch.testing.assert_close(regularizer(), expected)
        inside = regularizer.redundancy()
    after = regularizer.redundancy()
    for found in (inside, after):
        for name, matrix in cosines.items():
            assert matrix.shape == (3, 3)
            torch.testing.assert_close(found[name], matrix)
    assert recorded(regularizer) == [0, 0]


def test_measuring_joins_passes_and_needs_no_weight_and_no_training():
    model = own().requires_grad_(False)
    with pytest.warns(UserWarning, match="none of the 2 low-rank layers is trained"):
        regularizer = ReSoRA(model, weight=0.0)
    x = inputs(batch=6)
    with regularizer.recording():
        model(x)
        regularizer()
    expected = regularizer.redundancy()
    with regularizer.recording():
        model(x[:1])
        model(x[1:])
    for name, matrix in regularizer.redundancy().items():
        torch.testing.assert_close(matrix, expected[name])
        z, _ = dict(zip(expected, activations(model, x), strict=True))[name]
        unit = nn.functional.normalize(z.flatten(0, 1), dim=0)
        torch.testing.assert_close(matrix, (unit.T @ unit).square())


def test_measuring_says_when_there_is_nothing():
    model = own()
    regularizer = ReSoRA(model, weight=1.0)
    with pytest.raises(RuntimeError, match="nothing is recorded yet"):
        regularizer.redundancy()
    with regularizer.recording(), pytest.raises(RuntimeError, match="nothing is recorded yet"):
        regularizer.redundancy()
    with regularizer.recording(), pytest.raises(RuntimeError, match="run the model forward there"):
        regularizer()
    with regularizer.recording(), pytest.raises(RuntimeError, match="recording already"):
        regularizer.recording().__enter__()
    with pytest.raises(KeyError), regularizer.recording():
        raise KeyError
    model(inputs())
    assert regularizer() > 0


class Saved:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("backward", [False, True])
def test_no_graph_outlives_a_step(make, penalty, backward):
    model = make()
    regularizer = ReSoRA(model, penalty=penalty, weight=1.0)
    alive = weakref.WeakSet()

    def pack(tensor):
        alive.add(saved := Saved(tensor.detach()))
        return saved

    gc.disable()  # what only the collector of cycles frees would pile up between its runs
    try:
        for seed in range(50):
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
                loss = model(inputs(batch=2, tokens=3, seed=seed)).sum() + regularizer()
            assert len(alive) > 0
            if backward:
                loss.backward()
            regularizer.redundancy()
            del loss
            assert len(alive) == 0
    finally:
        gc.enable()
    assert recorded(regularizer) == [0, 0]
    assert all(z.grad_fn is None for _, z, _ in regularizer._last)


@MODELS
def test_a_regulariser_that_nobody_holds_stops_listening(make):
    model = make()
    regularizer = ReSoRA(model, weight=1.0)
    (recorder, _), kept = regularizer._recorders.values(), weakref.ref(regularizer)
    model(inputs())
    del regularizer
    assert kept() is None
    recorder.forget()
    model(inputs())
    assert recorder.z == []
