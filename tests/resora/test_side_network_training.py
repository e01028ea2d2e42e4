"""LST and UniPT in training: what autograd saves, copies, precisions, compilation, failed passes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from resora.adapted import adapter_state, load_adapter_state
from resora.petl import make_method
from tests.resora.side_models import BUILD, HEAD, KINDS, METHODS, adapted, images, outputs, vit


def saved_bytes(run):
    """Bytes of distinct tensors that autograd saves, without parameters; and what it saves."""
    seen = {}

    def pack(tensor):
        if not isinstance(tensor, nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(t.untyped_storage().nbytes() for t in seen.values()), list(seen.values())


@pytest.mark.parametrize("method", METHODS)
def test_no_block_of_the_backbone_is_in_the_graph(method):
    model = adapted(method, "vit").train()
    inside = []
    for block in model.blocks:
        for layer in block.modules():
            if layer is not block:
                layer.register_forward_hook(lambda _, __, out: inside.append(out.requires_grad))
    model.blocks[0].register_forward_hook(lambda _, __, out: inside.append(out.requires_grad))
    model(images()).sum().backward()
    assert len(inside) > 30
    assert not any(inside)


@pytest.mark.parametrize("method", METHODS)
def test_little_is_saved_for_the_backward_pass(method):
    def saved(name):
        torch.manual_seed(0)
        model = vit(img_size=32, embed_dim=96, depth=4, num_heads=4)
        make_method(name).adapt(model, "head")
        x = torch.randn(2, 3, 32, 32)
        return saved_bytes(lambda: model.train()(x))[0]

    assert saved(method) < saved("lora-r8") / 3
    assert saved(method) < saved("full") / 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_over_after_a_pass_and_copies_are_their_own(method, kind):
    model = adapted(method, kind)
    before = outputs(model, kind)
    networks = [m for n, m in model.named_modules() if n.endswith(method)]
    assert all(not n._pass.states and n._pass.read is None for n in networks)
    copied = copy.deepcopy(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (copied, loaded):
        torch.testing.assert_close(outputs(other, kind), before)
        for parameter in other.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter)
        assert not torch.allclose(outputs(other, kind), before)
    torch.testing.assert_close(outputs(model, kind), before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_inference_mode_autocast_and_a_state_that_returns(method, kind):
    model = adapted(method, kind)
    with torch.inference_mode():
        before = outputs(model, kind).clone()
    torch.testing.assert_close(outputs(model, kind), before)
    with torch.autocast("cpu", torch.bfloat16):
        half = outputs(model.train(), kind)
        half.float().sum().backward()
    assert torch.isfinite(half).all()
    state = {name: value.clone() for name, value in adapter_state(model).items()}
    other = BUILD[kind]()
    make_method(method).adapt(other, HEAD[kind])
    load_adapter_state(other, state)
    torch.testing.assert_close(outputs(other.eval(), kind), before)


@pytest.mark.parametrize("method", METHODS)
def test_a_pass_that_failed_does_not_spoil_the_next(method):
    model = adapted(method, "vit")
    before = model(images())
    handle = model.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images())
    handle.remove()
    torch.testing.assert_close(model(images()), before)


@pytest.mark.parametrize("method", METHODS)
def test_double_precision_stays(method):
    model = vit().double()
    make_method(method).adapt(model, "head")
    assert model(images().double()).dtype == torch.float64
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_dropout_of_the_side_network_is_that_of_bert():
    assert adapted("lst", "bert").lst.blocks[0].dropout == 0.1
    assert adapted("lst", "vit").lst.blocks[0].dropout == 0.0
    model = adapted("lst", "vit", dropout=0.5).train()
    assert not torch.equal(model(images()), model(images()))
    assert torch.equal(model.eval()(images()), model(images()))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_compiled_gives_the_same(method, fresh_compiler):
    model = adapted(method, "vit")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), model(images()))
    torch.testing.assert_close(compiled(images()), model(images()))
