"""``ReSoRA`` with compiled models."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from resora import ReSoRA
from tests.resora.networks import (
    PENALTIES,
    gradients,
    inputs,
    own,
    recorded,
    users,
)

MODELS = pytest.mark.parametrize("make", [own, users])
COMPILER = "inductor" if shutil.which("c++") or shutil.which("g++") else "aot_eager"


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.slow
@pytest.mark.parametrize("make", [own, users])
def test_compiled_gradients_are_those_of_eager(make, fresh_compiler):
    def values_and_gradients(model, run):
        run(inputs())
        values = [regularizer() for regularizer in regularizers]
        return values, [gradients(value, model, retain_graph=True) for value in values]

    model = make()
    regularizers = [ReSoRA(model, penalty=name, weight=1.0) for name in PENALTIES]
    expected = values_and_gradients(model, model)
    for _ in range(2):  # the second time, the compiler reads its cache
        torch._dynamo.reset()
        counters.clear()
        found = values_and_gradients(model, torch.compile(model, backend=COMPILER, fullgraph=True))
        assert graphs() == 1
        for one, other in zip(found[0], expected[0], strict=True):
            torch.testing.assert_close(one, other)
        for one, other in zip(found[1], expected[1], strict=True):
            assert other.norm() > 0
            assert (one - other).norm() < 1e-4 * other.norm()


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_whole_step_in_one_compiled_function(penalty, fresh_compiler):
    model = own()
    regularizer = ReSoRA(model, penalty=penalty, weight=0.5, warmup_steps=4)

    def loss(x):
        return model(x).square().mean() + regularizer()

    compiled = torch.compile(loss, backend=COMPILER if penalty == "linear" else "aot_eager")
    for step in range(6):
        x = inputs(seed=step)
        expected = gradients(loss(x), model)
        found = gradients(compiled(x), model)
        assert (found - expected).norm() < 1e-4 * expected.norm()
        regularizer.step()
        if step == 0:
            first = graphs()
    assert graphs() == first


@MODELS
def test_regulariser_made_after_wrapping_but_before_the_first_call(make, fresh_compiler):
    model = make()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    regularizer = ReSoRA(compiled, weight=1.0)
    assert all("_orig_mod" not in name for name in regularizer.layers)
    compiled(inputs())
    found = regularizer()
    model(inputs())
    torch.testing.assert_close(found, regularizer())


def test_regulariser_made_after_the_first_compiled_call_works_or_says_what_to_do(fresh_compiler):
    model = own()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(inputs())
    regularizer = ReSoRA(model, weight=1.0)
    compiled(inputs())
    assert regularizer() > 0
    model = users()  # the compiler does not look at hooks again
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(inputs())
    regularizer = ReSoRA(model, weight=1.0)
    compiled(inputs())
    with pytest.raises(RuntimeError, match="before the first call of a compiled model"):
        regularizer()


@MODELS
def test_switching_modes_and_closing_compiles_a_few_graphs_and_no_more(make, fresh_compiler):
    model = make()
    regularizer = ReSoRA(model, weight=1.0, warmup_steps=5)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)

    def round_of_training():
        compiled.train()
        for seed in range(3):
            (compiled(inputs(seed=seed)).sum() + regularizer()).backward()
            regularizer.step()
        compiled.eval()
        compiled(inputs())
        assert recorded(regularizer) == [0, 0]
        with torch.no_grad():
            compiled(inputs())
        with regularizer.recording(), torch.no_grad():
            compiled(inputs())
        assert len(regularizer.redundancy()) == (6 if make is own else 2)
        compiled.train()

    round_of_training()
    first = graphs()
    assert first <= 4
    for _ in range(3):
        round_of_training()
    assert graphs() == first


@MODELS
def test_many_passes_before_one_call_are_compiled_once(make, fresh_compiler):
    model = make()
    regularizer = ReSoRA(model, weight=1.0)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for seed in range(12):
        compiled(inputs(seed=seed))
    assert recorded(regularizer) == [12, 12]
    assert graphs() == 1
    found = regularizer()
    for seed in range(12):
        model(inputs(seed=seed))
    torch.testing.assert_close(found, regularizer())


@MODELS
def test_blocks_compiled_one_by_one_share_their_graph(make, fresh_compiler):
    model = make(depth=12)  # above the compiler's limit of graphs for one function
    regularizer = ReSoRA(model, weight=1.0)
    model(inputs())
    expected = gradients(regularizer(), model)
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    model(inputs())
    found = gradients(regularizer(), model)
    torch.testing.assert_close(found, expected)
    assert graphs() <= 2
