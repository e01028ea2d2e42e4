"""What takes part in the penalty and with which weight; closing and copying."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from resora import ReSoRA
from resora.discovery import low_rank_layers
from tests.resora.networks import (
    PENALTIES,
    close,
    inputs,
    own,
    recorded,
    trained,
    users,
    value_of,
)

MODELS = pytest.mark.parametrize("make", [own, users])


@pytest.fixture
def model():
    return own()


@MODELS
def test_frozen_adapters_are_left_out(make):
    model = make().double()
    first, second = low_rank_layers(model).values()
    x = inputs(dtype=torch.float64)
    first.requires_grad_(False)
    assert value_of(model, x=x) == value_of(model, x=x, exclude="blocks.0.*")
    second.requires_grad_(False)
    with pytest.warns(UserWarning, match="none of the 2 low-rank layers is trained .*zero for now"):
        regularizer = ReSoRA(model, weight=1.0)
    model(x)
    value = regularizer()
    assert value == 0
    assert not value.requires_grad
    second.requires_grad_(True)  # unfrozen later
    model(x)
    assert regularizer() > 0


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("frozen", ["lora_a", "lora_b"])
def test_half_frozen_adapters_take_part(penalty, frozen):
    whole, model = own().double(), own().double()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.endswith(frozen))
    x = inputs(dtype=torch.float64)
    expected = value_of(whole, penalty, x=x)
    found = value_of(model, penalty, x=x)
    assert found == expected
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    of_whole = torch.autograd.grad(
        expected, [dict(whole.named_parameters())[n] for n in names], allow_unused=True
    )
    of_model = [None] * len(names)
    if found.requires_grad:
        of_model = torch.autograd.grad(found, trained(model), allow_unused=True)
    for one, other in zip(of_model, of_whole, strict=True):
        assert torch.equal(*(torch.zeros(1) if g is None else g for g in (one, other)))


@MODELS
def test_the_value_without_gradients_is_the_same(make):
    model = make()
    regularizer = ReSoRA(model, weight=1.0)
    model(inputs())
    expected = regularizer()
    model(inputs())
    with torch.no_grad():
        assert regularizer() == expected


def test_layers_can_be_left_out(model):
    regularizer = ReSoRA(model, weight=1.0, exclude=["*.1.qkv"])
    assert list(regularizer.layers) == ["blocks.0.qkv"]
    assert list(ReSoRA(model, weight=1.0, exclude="*.1.qkv").layers) == ["blocks.0.qkv"]


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
def test_weight_zero_is_no_penalty_to_the_bit(make, penalty):
    def train(regularise):
        model = make()
        model.blocks.append(nn.Dropout(0.3))
        regularizer = ReSoRA(model, penalty=penalty, weight=0.0) if regularise else None
        optimizer = torch.optim.AdamW(trained(model), lr=1e-2)
        torch.manual_seed(3)
        for seed in range(5):
            loss = model(inputs(seed=seed)).square().mean()
            if regularizer is not None:
                assert recorded(regularizer) == [0, 0]
                loss = loss + regularizer()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return list(model.parameters())

    for with_it, without in zip(train(True), train(False), strict=True):
        assert torch.equal(with_it, without)


def test_warm_up(model):
    regularizer = ReSoRA(model, weight=0.8, warmup_steps=4)
    plain = ReSoRA(model, weight=1.0)
    weights, values = [], []
    for _ in range(6):
        weights.append(regularizer.current_weight)
        model(inputs())
        values.append((regularizer() / plain()).item())
        regularizer.step()
    expected = [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    assert weights == pytest.approx(expected)
    assert values == pytest.approx(expected)
    again = ReSoRA(model, weight=0.8, warmup_steps=4)
    again.load_state_dict(pickle.loads(pickle.dumps(ReSoRA(model, weight=1.0).state_dict())))
    assert again.current_weight == pytest.approx(0.2)
    regularizer.steps = 2
    again.load_state_dict(regularizer.state_dict())
    assert again.current_weight == pytest.approx(0.6)


def test_the_weight_can_be_set_at_any_time(model):
    regularizer = ReSoRA(model, weight=0.0)
    model(inputs())
    assert regularizer() == 0
    regularizer.weight = 0.5
    model(inputs())
    value = regularizer()
    assert value > 0
    regularizer.weight = 1.0
    model(inputs())
    close(regularizer(), 2 * value, 1e-6)
    model(inputs())
    regularizer.weight = 0.0
    assert regularizer() == 0
    assert recorded(regularizer) == [0, 0]
    with pytest.raises(ValueError, match="the weight is a finite number, zero or more; got -1"):
        regularizer.weight = -1


@MODELS
def test_two_regularisers_on_one_model_add_up(make):
    model = make().double()
    x = inputs(dtype=torch.float64)
    alone = [value_of(model, name, x=x) for name in ("linear", "cosine")]
    both = [ReSoRA(model, name, weight=1.0) for name in ("linear", "cosine")]
    model(x)
    value = sum(regularizer() for regularizer in both)
    close(value, sum(alone))
    both[0].close()
    model(x)
    close(both[1](), alone[1])


@MODELS
def test_closing_stops_recording(make):
    model = make()
    regularizer = ReSoRA(model, weight=1.0)
    model(inputs())
    regularizer.close()
    assert recorded(regularizer) == [0, 0]
    model(inputs())
    assert recorded(regularizer) == [0, 0]
    with pytest.raises(RuntimeError, match="the regulariser is closed"):
        regularizer()
    regularizer.close()  # twice does no harm


def test_redundancy_names_matrices(model):
    regularizer = ReSoRA(model, weight=1.0)
    with regularizer.recording():
        model(inputs())
        matrices = regularizer.redundancy()
    assert list(matrices) == [f"blocks.{i}.qkv.{part}" for i in range(2) for part in "qkv"]
    for matrix in matrices.values():
        assert matrix.shape == (3, 3)
        assert not matrix.requires_grad
        assert matrix.dtype == torch.float32
        torch.testing.assert_close(matrix.diagonal(), torch.ones(3))


def test_redundancy_of_half_precision_is_summed_in_float32(model):
    regularizer = ReSoRA(model, weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(inputs())
        regularizer()
        found = regularizer.redundancy()
    model(inputs())
    regularizer()
    for name, matrix in regularizer.redundancy().items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], matrix, atol=0.02, rtol=0)
        torch.testing.assert_close(found[name].diagonal(), torch.ones(3))


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, saved_and_loaded])
def test_a_copied_model_is_not_listened_to_but_can_be(model, duplicate):
    regularizer = ReSoRA(model, weight=1.0)
    model(inputs())
    twin = duplicate(model)
    twin(inputs(seed=2))
    assert recorded(regularizer) == [1, 1]
    value = regularizer()
    of_twin = ReSoRA(twin, weight=1.0)
    twin(inputs())
    assert of_twin() == value
    assert recorded(regularizer) == [0, 0]


def test_an_averaged_model_can_be_kept_beside(model):
    average = torch.optim.swa_utils.AveragedModel(model)
    regularizer = ReSoRA(model, weight=1.0)
    second = torch.optim.swa_utils.AveragedModel(model)  # copied while it is listened to
    for seed in range(3):
        (model(inputs(seed=seed)).sum() + regularizer()).backward()
        for one in (average, second):
            one.update_parameters(model)
            with torch.no_grad():
                one(inputs(seed=seed))
    model(inputs())
    assert recorded(regularizer) == [1, 1]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copied_regulariser_is_closed_and_says_so(model, duplicate):
    regularizer = ReSoRA(model, weight=0.5, warmup_steps=4)
    regularizer.step()
    model(inputs())
    value = regularizer()
    twin = duplicate(regularizer)
    assert (twin.weight, twin.state_dict()) == (0.5, {"steps": 1})
    twin.model(inputs())
    with pytest.raises(RuntimeError, match="closed, as copies of one are; make it anew"):
        twin()
    twin.close()
    model(inputs())
    assert regularizer() == value


def test_a_module_that_holds_its_regulariser_can_be_copied(model):
    model.regularizer = ReSoRA(model, weight=1.0)
    twin = copy.deepcopy(model)
    twin(inputs())
    model(inputs())
    assert model.regularizer() > 0
