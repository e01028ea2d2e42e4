"""SRLoRA: where its pairs start, and how they change places with parts of the frozen weight."""

from __future__ import annotations

import importlib.util

import pytest
import torch

for _package in ("timm", "transformers"):
    if importlib.util.find_spec(_package) is None:
        pytest.skip(f"needs {_package}", allow_module_level=True)
from resora.adapted import adapter_state  # noqa: E402
from resora.petl.srlora import RecomposedLinear, principal_pairs  # noqa: E402
from tests.resora.lora_models import VIT_B, adapted, on_meta, outputs, plain, train  # noqa: E402
from tests.resora.networks import close  # noqa: E402


def recomposed(model):
    return [m for m in model.modules() if isinstance(m, RecomposedLinear)]


def test_srlora_starts_at_the_principal_directions_of_each_matrix():
    original = plain(dtype=torch.float64).blocks[1].attn.qkv.weight
    _, model = adapted("srlora-r4", dtype=torch.float64, scale=0.5)
    layer = model.blocks[1].attn.qkv
    for i, weight in enumerate(original.chunk(3)):
        u, s, v = torch.linalg.svd(weight)
        close(0.5 * layer.lora_b[i].T @ layer.lora_a[i], u[:, :4] * s[:4] @ v[:4])
        close(0.5 * layer.next_b[i].T @ layer.next_a[i], u[:, 4:8] * s[4:8] @ v[4:8])
        close(layer.lora_b[i].norm(dim=1), (s[:4] / 0.5).sqrt())
        close(layer.lora_a[i].norm(dim=1), (s[:4] / 0.5).sqrt())


def test_principal_pairs_of_high_and_wide_matrices():
    for shape in ((2, 5, 9), (2, 9, 5)):
        weights = torch.randn(shape, dtype=torch.float64)
        b, a = principal_pairs(weights, 5)
        close(b.mT @ a, weights)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_function_does_not_jump_where_srlora_recomposes(dtype, tolerance):
    method, model = adapted("srlora-r4", dtype=dtype, scale=2.0)
    optimizer = train(method, model, 5, 1000)
    layers = recomposed(model)
    old = [layer.lora_a.clone() for layer in layers]
    before = outputs(model)
    for index in range(4):
        for layer in layers:
            layer.recompose(index, 1, optimizer)
    assert not torch.allclose(old[0], layers[0].lora_a)
    difference = (outputs(model) - before).norm() / before.norm()
    assert difference < tolerance


def test_srlora_renews_the_least_important_pairs_and_their_moments():
    method, model = adapted("srlora-r4")
    optimizer = train(method, model, 7, 40)  # due after 8, 16, 24 and 32
    layer = recomposed(model)[0]
    train(method, model, 1, 40, optimizer=optimizer, start=7)
    renewed = layer.importance == 0
    assert (renewed.sum(1) == 1).all()
    for weight, fresh in ((layer.lora_a, layer.next_a), (layer.lora_b, layer.next_b)):
        assert torch.equal(weight[renewed], fresh[:, 0])
        for moment in ("exp_avg", "exp_avg_sq"):
            state = optimizer.state[weight][moment]
            assert (state[renewed] == 0).all()
            assert (state[~renewed] != 0).any(-1).all()
    frozen = layer.base.weight.clone()
    train(method, model, 7, 40, optimizer=optimizer, start=8)
    assert torch.equal(layer.base.weight, frozen)
    train(method, model, 17, 40, optimizer=optimizer, start=15)
    assert layer.moved_b.abs().sum(-1).all()  # every slot is taken
    frozen = layer.base.weight.clone()
    train(method, model, 12, 40, optimizer=optimizer, start=32)  # also beyond the schedule
    assert torch.equal(layer.base.weight, frozen)


def test_a_checkpoint_of_srlora_is_small():
    _, model = on_meta(VIT_B, "srlora-r8", "head")
    state = adapter_state(model)
    values = sum(value.numel() for name, value in state.items() if not name.startswith("head."))
    assert values == 442_368 * (1 + 3) + 36 * 8


def test_srlora_fuses_the_least_important_pairs():
    method, model = adapted("srlora-r4")
    optimizer = train(method, model, 3, 1000)
    layer = recomposed(model)[0]
    layer.importance.copy_(torch.tensor([[3, 2, 1, 4.0], [1, 2, 3, 4], [9, 8, 7, 6]]))
    before = layer.lora_b.detach().clone()
    layer.recompose(0, 1, optimizer)
    assert (layer.importance == 0).nonzero().tolist() == [[0, 2], [1, 0], [2, 3]]
    for matrix, pair in ((0, 2), (1, 0), (2, 3)):
        assert torch.equal(layer.moved_b[matrix, 4], before[matrix, pair])
        assert torch.equal(layer.moved_b[matrix, 5], -layer.lora_b[matrix, pair])


def test_too_few_directions_for_srlora():
    with pytest.raises(ValueError, match=r"uses 16 directions .*'stages.0.blocks.0.mlp.fc1' has 8"):
        adapted("srlora-r8", "convnext")
