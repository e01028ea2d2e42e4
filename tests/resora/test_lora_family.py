"""LoRA, MoSLoRA and AdaLoRA, and what SRLoRA has in common with them: what they compute, train and keep."""

from __future__ import annotations

import copy
import importlib.util
import pickle

import pytest
import torch
from torch import nn

for _package in ("timm", "transformers"):
    if importlib.util.find_spec(_package) is None:
        pytest.skip(f"needs {_package}", allow_module_level=True)
import resora  # noqa: E402
from resora import ReSoRA, literal  # noqa: E402
from resora.adapted import adapter_state, applied_to, load_adapter_state  # noqa: E402
from resora.discovery import low_rank_layers  # noqa: E402
from resora.penalties import linear  # noqa: E402
from resora.petl import make_method  # noqa: E402
from resora.petl.adalora import AdaLoRA, SVDLinear  # noqa: E402
from tests.resora.lora_models import (  # noqa: E402
    BERT_B,
    CLIP_B,
    FAMILY,
    HEADS,
    KINDS,
    VIT_B,
    adapted,
    on_meta,
    outputs,
    plain,
    train,
    trained,
)
from tests.resora.networks import activations, close, gradients  # noqa: E402


def test_published_numbers_of_parameters_on_vit_b16():
    cases = {
        "lora-r8": ({}, 442_368),
        "moslora-r8": ({}, 444_672),
        "adalora-r8": ({}, 663_984),
        "srlora-r8": ({}, 442_368),
    }
    for name, (options, expected) in cases.items():
        method, model = on_meta(VIT_B, name, "head", **options)
        assert trained(model) == expected
        if isinstance(method, AdaLoRA):
            assert method.parameters_at_target(model) == 442_656
    assert trained(on_meta(VIT_B, "adalora-r8", "head", initial_rank=8)[1]) == 442_656
    assert trained(on_meta(VIT_B, "lora-r8", "head", fused=True)[1]) == 294_912


def test_published_numbers_of_parameters_of_adalora_on_query_and_value():
    for make, expected in ((BERT_B, 442_656), (CLIP_B, 737_856)):
        assert trained(on_meta(make, "adalora-r8", targets=["q", "v"])[1], "") == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILY)
def test_the_start_is_the_backbone_and_a_step_trains_every_factor(name, kind):
    expected = outputs(plain(kind), kind)
    method, model = adapted(name, kind)
    tolerance = 1e-5 if name.startswith("srlora") else 0
    torch.testing.assert_close(outputs(model, kind), expected, rtol=tolerance, atol=tolerance)
    train(method, model, 2, 10, kind)
    for parameter_name, p in model.named_parameters():
        if "lora_" in parameter_name:
            assert p.grad is not None, parameter_name
            assert p.grad.abs().sum() > 0, parameter_name
        elif not parameter_name.startswith(HEADS[kind] or "-"):
            assert not p.requires_grad, parameter_name
            assert p.grad is None, parameter_name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILY)
def test_merged_it_is_the_plain_backbone_with_the_same_outputs(name, kind):
    method, model = adapted(name, kind, torch.float64)
    train(method, model, 6, kind=kind)
    expected = outputs(model, kind)
    merged = resora.merge(model)
    close(outputs(merged, kind), expected)
    assert applied_to(merged) is None
    original = plain(kind, torch.float64)
    assert [type(m) for m in merged.modules()] == [type(m) for m in original.modules()]
    assert {n: p.shape for n, p in merged.state_dict().items()} == {
        n: p.shape for n, p in original.state_dict().items()
    }
    method.adapt(merged, HEADS[kind])  # a plain backbone can be adapted anew


@pytest.mark.parametrize("name", FAMILY)
def test_targets_and_fused_projections(name):
    for options in ({"targets": ["q", "v"]}, {"targets": ["proj", "fc1", "fc2"]}, {"fused": True}):
        method, model = adapted(name, dtype=torch.float64, scale=0.5, **options)
        close(outputs(model), outputs(plain(dtype=torch.float64)))
        train(method, model, 5)
        found = outputs(model)
        close(outputs(resora.merge(model)), found)


@pytest.mark.parametrize("name", FAMILY)
def test_penalties_of_features_and_weights_are_the_equations(name):
    method, model = adapted(name, dtype=torch.float64)
    train(method, model, 8)
    regularizer = ReSoRA(model.train(), weight=1.0, sample="token")
    model.zero_grad()
    pairs = activations(model, torch.randn(3, 3, 16, 16, dtype=torch.float64))
    found = regularizer()
    assert found > 0
    if name != "adalora-r2":  # of whose dead columns the printed equation is 0/0
        each = [literal.linear(literal.features(z.flatten(0, -2), b)) for z, b in pairs]
        close(found, torch.stack(each).mean())
    each = [linear(z.flatten(0, -2)[None], b[None])[0] for z, b in pairs]
    close(found, torch.stack(each).mean())
    found.backward()
    for layer in low_rank_layers(model).values():
        assert layer.lora_a.grad is not None
        assert layer.lora_a.grad.abs().sum() > 0
    in_weights = ReSoRA(model, weight=1.0, space="weight")()
    assert in_weights > 0
    assert gradients(in_weights, model).isfinite().all()


@pytest.mark.parametrize("name", FAMILY)
def test_copies_and_files_hold_the_method_with_its_state(name):
    method, model = adapted(name)
    train(method, model, 5, 10)
    expected = outputs(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(outputs(twin), expected, rtol=0, atol=0)
        assert applied_to(twin).method == method
        train(method, twin, 5, 10, start=5)


@pytest.mark.parametrize("name", FAMILY)
def test_training_goes_on_from_the_adapter_state(name):
    method, model = adapted(name, dtype=torch.float64)
    optimizer = train(method, model, 6, 10)
    state = {key: value.clone() for key, value in adapter_state(model).items()}
    moments = copy.deepcopy(optimizer.state_dict())
    _, twin = adapted(name, dtype=torch.float64)
    load_adapter_state(twin, state)
    close(outputs(twin), outputs(model))
    again = torch.optim.Adam([p for p in twin.parameters() if p.requires_grad], lr=1e-2)
    again.load_state_dict(moments)
    for one, opt in ((model, optimizer), (twin, again)):
        train(method, one, 4, 10, optimizer=opt, start=6)
    close(outputs(twin), outputs(model), 1e-7)
    load_adapter_state(twin, state)  # back to the sixth step
    _, third = adapted(name, dtype=torch.float64)
    third.load_state_dict(twin.state_dict())
    close(outputs(third), outputs(twin))


@pytest.mark.parametrize("name", FAMILY)
def test_half_precision_by_autocast(name):
    method, model = adapted(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train(method, model.train(), 4, 4)
        assert outputs(model).isfinite().all()


def test_mixer_of_moslora():
    method, model = adapted("moslora-r3", scale=0.5)
    train(method, model, 2)
    layer = model.blocks[0].attn.qkv
    x = torch.randn(2, 4, 24)
    parts = [
        0.5 * x @ a.T @ w.T @ b
        for a, w, b in zip(layer.lora_a, layer.lora_w, layer.lora_b, strict=True)
    ]
    torch.testing.assert_close(layer(x), layer.base(x) + torch.cat(parts, -1))
    bound = 3**-0.5
    fresh = adapted("moslora-r3")[1].blocks[0].attn.qkv.lora_w
    assert 0.5 * bound < fresh.abs().max() <= bound


def kept(model):
    return torch.cat([m.kept.flatten() for m in model.modules() if isinstance(m, SVDLinear)])


def test_budget_of_adalora_falls_along_the_cubic_schedule():
    method = AdaLoRA(rank=8, warm_up=0.1, final=0.4)
    assert method.stored_rank == 12
    found = [method.budget(done, 100) for done in (0, 10, 35, 60, 100)]
    assert found == pytest.approx([12, 12, 8 + 4 * 0.5**3, 8, 8])


def test_adalora_ends_with_its_budget_of_the_most_important_triplets():
    method, model = adapted("adalora-r2", interval=2)
    layers = [m for m in model.modules() if isinstance(m, SVDLinear)]
    for done in range(1, 21):
        train(method, model, 1, 20, start=done - 1)
        if done in (4, 8, 10, 15):
            assert kept(model).sum() == int(method.budget(done, 20) * 9)
        if done == 10:
            scores = torch.cat([layer.importance().flatten() for layer in layers])
            mask = kept(model)
            assert scores[mask].min() >= scores[~mask].max()
    assert kept(model).sum() == 2 * 9
    assert torch.equal(kept(model), mask)
    counts = torch.cat([layer.kept.sum(-1) for layer in layers])
    assert len(set(counts.tolist())) > 1  # unevenly
    for z, _ in activations(model, torch.randn(2, 3, 16, 16)):
        assert z.shape[-1] == 3
    zeros = torch.cat([(layer.lora_e == 0).flatten() for layer in layers])
    assert torch.equal(zeros, ~mask)
    # A later stage keeps them as they are.
    before = [layer.sensitivity_a.clone() for layer in layers]
    train(method, model, 3, 20, start=20)
    assert torch.equal(kept(model), mask)
    assert all((layer.lora_e[~layer.kept] == 0).all() for layer in layers)
    assert all(torch.equal(b, layer.sensitivity_a) for b, layer in zip(before, layers, strict=True))


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_trainings_of_adalora_reach_the_budget(steps):
    for options in ({}, {"final": 0.0}, {"warm_up": 0.5, "final": 0.5}):
        method, model = adapted("adalora-r2", **options)
        train(method, model, steps)
        assert kept(model).sum() == 18


def test_orthogonality_of_adalora():
    method, model = adapted("adalora-r2", dtype=torch.float64)
    expected = [
        torch.linalg.norm(p @ p.T - torch.eye(3, dtype=p.dtype))
        for layer in low_rank_layers(model).values()
        for factor in (layer.lora_a, layer.lora_b)
        for p in factor
    ]
    close(method.extra_loss(model), 0.1 * torch.stack(expected).mean())
    assert make_method("adalora-r2", orthogonality=0).extra_loss(model) is None


MISTAKES = {
    "initial rank": ("adalora-r4", {"initial_rank": 3}, "initial rank of AdaLoRA is at least .* 4"),
    "shares": ("adalora-r4", {"warm_up": 0.6}, "together at most 1; got 0.6 and 0.5"),
    "interval": ("adalora-r4", {"interval": 0}, "interval of at least 1"),
    "betas": ("adalora-r4", {"betas": [0.9, 1.0]}, "betas of AdaLoRA"),
    "share": ("srlora-r4", {"share": 0}, r"share is in \(0, 1\]"),
    "scale": ("srlora-r4", {"scale": 0}, "scale of SRLoRA is positive"),
    "recompositions": ("srlora-r4", {"recompositions": -1}, "integer >= 0"),
    "rank": ("moslora-r0", {}, "rank of MoSLoRA is a positive integer"),
    "target": ("moslora-r2", {"targets": ["w"]}, "unknown target 'w' of MoSLoRA"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named(case):
    name, options, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message):
        make_method(name, **options)


def test_nothing_is_differentiated_below_the_first_adapter():
    _, model = adapted("lora-r2", targets=["fc2"])
    seen = []
    model.blocks[0].mlp.fc1.register_forward_hook(lambda m, i, o: seen.append(o.requires_grad))
    outputs(model)
    assert seen == [False]
    assert isinstance(model.blocks[0].mlp.fc2, nn.Module)
