"""What holds for every method of the registry, on every backbone that it claims."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from torch.nn import functional

from resora import ReSoRA, merge
from resora.adapted import adapter_state, applied_to, load_adapter_state
from resora.backbones import KINDS, describe
from resora.discovery import NoLowRankLayer
from resora.petl import METHODS, make_method
from tests.resora.backbones import HEADS, inputs, labels, make

STEPS = 12
LOW_RANK = {
    *("lora", "moslora", "adalora", "srlora", "fact-tk", "fact-tt", "dtl", "dtl-plus"),
    "noah",  # of which its LoRA
}
PAIRS = [(kind, name) for kind in KINDS for name in METHODS if METHODS[name].refusal(kind) is None]


def named(name):
    """The method as the tables name it, small enough for small networks."""
    fields = METHODS[name].__dataclass_fields__
    return make_method(name, rank=2) if "rank" in fields else make_method(name)


def adapted(kind, name, seed=3):
    model, method = make(kind), named(name)
    torch.manual_seed(seed)
    method.adapt(model, HEADS[kind])
    return model.eval(), method


def train(model, method, kind, steps=STEPS, rate=1e-2):
    """A few steps on a toy task; returns the losses."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    batch, target, losses = inputs(kind), labels(), []
    torch.manual_seed(4)
    model.train()
    for step in range(steps):
        method.before_forward(model, step, steps)
        loss = functional.cross_entropy(model(batch), target)
        losses.append(loss.item())
        extra = method.extra_loss(model)
        optimizer.zero_grad()
        (loss if extra is None else loss + extra).backward()
        method.before_step(model, step, steps)
        optimizer.step()
        method.after_step(model, step, steps, optimizer)
    model.eval()
    return losses


@torch.no_grad()
def output(model, kind):
    return model(inputs(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_backbones_are_described(kind):
    model = make(kind)
    backbone = describe(model)
    assert backbone.kind == kind
    for block in backbone.blocks:
        for path in (block.path, block.mlp, block.attention_core, *block.norms):
            assert path is None or model.get_submodule(path) is not None
        for place in block.linears:
            assert model.get_submodule(place.path).out_features % len(place.parts) == 0


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_the_start_is_as_declared(kind, name):
    before = output(make(kind), kind)
    model, method = adapted(kind, name)
    is_same = torch.allclose(output(model, kind), before, atol=1e-5)
    assert is_same == method.starts_unchanged


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_it_trains_and_changes_only_what_it_says(kind, name):
    model, method = adapted(kind, name)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    rebuilt = copy.deepcopy(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    losses = train(model, method, kind)
    assert min(losses[-3:]) < losses[0]
    # What is kept of an adapted model is all that has changed in it.
    load_adapter_state(rebuilt, adapter_state(model))
    for (n, found), kept in zip(model.named_parameters(), rebuilt.parameters(), strict=True):
        torch.testing.assert_close(kept, found, rtol=1e-4, atol=1e-5)
        if n in trained:
            continue
        assert name == "srlora" or torch.equal(found, before[n]), f"{n} is frozen and has changed"
    for (n, found), kept in zip(model.named_buffers(), rebuilt.buffers(), strict=True):
        torch.testing.assert_close(kept, found, msg=f"{n} changed and is not kept")
    torch.testing.assert_close(output(rebuilt, kind), output(model, kind), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_methods_are_the_same(kind):
    outputs = {}
    for name in METHODS:
        if METHODS[name].refusal(kind) is None:
            model, method = adapted(kind, name)
            train(model, method, kind, steps=4)
            outputs[name] = output(model, kind)
    same = [
        (one, other)
        for one, other in itertools.combinations(outputs, 2)
        if torch.allclose(outputs[one], outputs[other], atol=1e-6)
    ]
    assert not same


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_copies_and_files_compute_the_same(kind, name):
    model, method = adapted(kind, name)
    train(model, method, kind, steps=2)
    expected = output(model, kind)
    assert torch.equal(output(copy.deepcopy(model), kind), expected)
    loaded = pickle.loads(pickle.dumps(model))
    assert torch.equal(output(loaded, kind), expected)
    assert applied_to(loaded) == applied_to(model)


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_merging_gives_the_plain_backbone_with_the_same_outputs(kind, name):
    plain = make(kind)
    model, method = adapted(kind, name)
    train(model, method, kind, steps=4)
    expected = output(model, kind)
    if not method.is_mergeable:
        with pytest.raises(ValueError, match=name):
            merge(model)
        return
    merged = merge(model)
    torch.testing.assert_close(output(merged, kind), expected, rtol=1e-3, atol=1e-4)
    # A convolution without a bias needs one to take up SSF's shift.
    names = [
        n
        for n, _ in merged.named_parameters()
        if n != "clip.vision_model.embeddings.patch_embedding.bias"
    ]
    assert names == [n for n, _ in plain.named_parameters()]
    assert [type(m) for m in merged.modules()] == [type(m) for m in plain.modules()]
    assert applied_to(merged) is None


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_penalties_reach_low_rank_methods_and_others_are_refused(kind, name):
    model, method = adapted(kind, name)
    train(model, method, kind, steps=2)
    if name not in LOW_RANK:
        with pytest.raises(NoLowRankLayer):
            ReSoRA(model, weight=1.0)
        return
    model.train().zero_grad()
    for penalty in ("linear", "euclidean"):
        regularizer = ReSoRA(model, penalty, weight=1.0)
        model(inputs(kind))
        value = regularizer()
        value.backward()
        regularizer.close()
        assert value > 0
        assert torch.isfinite(value)
    reached = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert reached
    assert not any(n.startswith(HEADS[kind]) for n in reached)


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k in KINDS for n in METHODS if METHODS[n].refusal(k) is not None]
)
def test_a_misfit_is_refused_in_one_line_and_nothing_changes(kind, name):
    model = make(kind)
    before = {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises(ValueError, match=f"{name}.*needs .* does not fit {kind}") as error:
        named(name).adapt(model, HEADS[kind])
    assert "\n" not in str(error.value)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == before


@pytest.mark.parametrize("name", ["lora-r2", "bitfit", "linear"])
def test_adapting_twice_is_refused(name):
    model = make("vit")
    make_method(name).adapt(model, "head")
    with pytest.raises(ValueError, match=f"adapted already, by {name}"):
        make_method("full").adapt(model, "head")


def test_wrong_names_and_options_name_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'adaptformer'"):
        make_method("adaptfomer")
    with pytest.raises(ValueError, match="no option 'scal'; did you mean 'scale'"):
        make_method("lora-r8", scal=1.0)
    with pytest.raises(ValueError, match="needs a rank, such as lora-r8"):
        make_method("lora")
    with pytest.raises(ValueError, match="linear has no rank"):
        make_method("linear-r8")
