"""LoRA layers of ``peft``: what is recorded is what they compute, in every state they can be in."""

from __future__ import annotations

import copy
import gc
import importlib.util
import io
import math
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from data_prep.torchvision_guard import ensure_torchvision

if importlib.util.find_spec("peft") is None:
    pytest.skip("needs peft: the extra `peft`", allow_module_level=True)
ensure_torchvision()  # transformers imports torchvision
from peft import LoraConfig, get_peft_model, inject_adapter_in_model  # noqa: E402
from transformers.pytorch_utils import Conv1D  # noqa: E402

from resora import ReSoRA, literal  # noqa: E402
from resora.discovery import low_rank_layers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set")

LITERAL = {
    "linear": literal.linear,
    "cosine": literal.cosine,
    "euclidean": lambda dh: literal.euclidean(dh, 0.3),
    "nonlinear": lambda dh: literal.nonlinear(dh, 0.5),
}
OPTIONS = {"euclidean": {"beta": 0.3}}


class Net(nn.Module):
    """A convolution, a Linear and a transposed Linear, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, stride=2, padding=1)
        self.fc = nn.Linear(10, 7)
        self.gpt = Conv1D(5, 7)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.conv(x).flatten(2).mT
        return self.head(self.gpt(torch.tanh(self.fc(x))).mean(1))


def images(batch=4, side=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, side, side, generator=generator, dtype=torch.float64)


def net(targets=("conv", "fc", "gpt"), **options):
    torch.manual_seed(0)
    options = {"r": 4, "lora_alpha": 6, "fan_in_fan_out": True} | options
    model = inject_adapter_in_model(LoraConfig(target_modules=list(targets), **options), Net())
    return randomised(model.double())


def randomised(model):
    """Makes the up-projections, which start at zero, count."""
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
        if "lora_magnitude_vector" in name:
            parameter.data *= 1 + 0.2 * torch.rand_like(parameter)
    return model


def captured(model, *inputs, name):
    """Runs the model; z, scale * b of one low-rank layer, and what its module got and returned."""
    layers = low_rank_layers(model)
    module = model.get_submodule(name.rpartition(".")[0])
    z, passed = [], []
    handles = [
        layers[name].tap(z.append),
        module.register_forward_hook(lambda _, args, out: passed.append((args[0], out))),
    ]
    model(*inputs)
    for handle in handles:
        handle.remove()
    assert len(z) == 1
    factors = layers[name].factors()
    return z[0], factors.scale * factors.b, module, *passed[0]


def rank_one_sum(z, b):
    return torch.einsum("m...r,mrd->...d", z, b)


def base_output(module, x):
    out = module.base_layer(x)
    return out.movedim(1, -1) if isinstance(module.base_layer, nn.Conv2d) else out


def channels_last(module, out):
    return out.movedim(1, -1) if isinstance(module.base_layer, nn.Conv2d) else out


CASES = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "bias": {"lora_bias": True},
    "dora": {"use_dora": True},
    "rank_pattern": {"rank_pattern": {"fc": 2}, "alpha_pattern": {"gpt": 9}},
}


@pytest.mark.parametrize("layer", ["conv", "fc", "gpt"])
@pytest.mark.parametrize("case", CASES)
def test_recorded_parts_add_up_to_what_the_adapter_adds(layer, case):
    model = net(**CASES[case])
    z, b, module, x, out = captured(model, images(), name=f"{layer}.default")
    base = base_output(module, x)
    expected = rank_one_sum(z, b)
    if case == "bias":
        expected = expected + module.scaling["default"] * module.lora_B["default"].bias
    if case == "dora":
        # DoRA multiplies the frozen weight and the update by a magnitude over a norm; the bias stays.
        magnitude = module.lora_magnitude_vector["default"].weight.flatten()
        update = module.get_delta_weight("default")
        weight = module.base_layer.weight + update
        weight = weight.mT if layer == "gpt" else weight
        ratio = magnitude / weight.flatten(1).norm(dim=1)
        bias = module.base_layer.bias
        expected = ratio * (base - bias + expected) + bias - base
    torch.testing.assert_close(channels_last(module, out) - base, expected, rtol=0, atol=1e-10)
    assert z.shape[-1] == module.r["default"]


def test_dropout_is_part_of_what_is_recorded():
    model = net(["fc"], lora_dropout=0.5)
    z, b, module, x, out = captured(model, images(), name="fc.default")
    torch.testing.assert_close(out - module.base_layer(x), rank_one_sum(z, b), rtol=0, atol=1e-10)
    assert not torch.allclose(z[0], module.lora_A["default"](x))


@pytest.mark.parametrize("batch", [10, 3])
def test_dora_does_not_record_its_identity_matrix(batch):
    # A batch of as many samples as there are inputs has the shape of that matrix.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 6)).double()
    config = LoraConfig(r=3, target_modules=["0"], use_dora=True)
    model = randomised(inject_adapter_in_model(config, model))
    x = torch.randn(batch, 10, dtype=torch.float64)
    z, *_ = captured(model, x, name="0.default")
    torch.testing.assert_close(z[0], model[0].lora_A["default"](x))


@pytest.mark.parametrize("penalty", LITERAL)
@pytest.mark.parametrize("case", ["plain", "rank_pattern"])
def test_values_are_those_of_the_literal_forms(penalty, case):
    model = net(**CASES[case])
    expected = []
    for name in low_rank_layers(model):
        z, b, *_ = captured(model, images(), name=name)
        samples = z[0].flatten(1, -2).mean(1) if penalty == "nonlinear" else z[0].flatten(0, -2)
        expected.append(LITERAL[penalty](literal.features(samples, b[0])))
    regularizer = ReSoRA(model, penalty, weight=0.7, **OPTIONS.get(penalty, {}))
    model(images())
    value = regularizer()
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, 0.7 * torch.stack(expected).mean(), rtol=1e-10, atol=0)


def test_scale_of_rslora():
    model = net(["fc"], use_rslora=True)
    (layer,) = low_rank_layers(model).values()
    assert layer.factors().scale == pytest.approx(6 / math.sqrt(4))


@pytest.fixture
def two():
    """A PeftModel with the adapters `default` (active) and `other`, of different ranks."""
    torch.manual_seed(0)
    model = get_peft_model(Net(), LoraConfig(r=4, target_modules=["fc", "gpt"]))
    model.add_adapter("other", LoraConfig(r=2, target_modules=["fc"]))
    return randomised(model.double())


def recorded(model, regularizer):
    """Trains one forward pass; the short names of the matrices that took part."""
    model(images())
    regularizer()
    return {name.removeprefix("base_model.model.") for name in regularizer.redundancy()}


def test_active_adapters_take_part(two):
    regularizer = ReSoRA(two, weight=1.0)
    assert recorded(two, regularizer) == {"fc.default", "gpt.default"}
    two.set_adapter("other")
    assert recorded(two, regularizer) == {"fc.other"}
    two.base_model.set_adapter(["default", "other"])
    assert recorded(two, regularizer) == {"fc.default", "fc.other", "gpt.default"}


def test_two_active_adapters_add_up(two):
    two.base_model.set_adapter(["default", "other"])
    layers = low_rank_layers(two)
    fc = two.base_model.model.fc
    kept, passed = {}, []
    for name in (name for name in layers if ".fc." in name):
        layers[name].tap(lambda z, name=name: kept.update({name: z}))
    fc.register_forward_hook(lambda _, args, out: passed.append((args[0], out)))
    two(images())
    ((x, out),) = passed
    parts = [
        rank_one_sum(z, layers[n].factors().scale * layers[n].factors().b) for n, z in kept.items()
    ]
    assert len(parts) == 2
    torch.testing.assert_close(out - fc.base_layer(x), sum(parts), rtol=0, atol=1e-10)


@pytest.mark.parametrize("target", ["fc", "head"])
def test_an_adapter_that_was_added_later_is_an_error_once_it_is_active(two, target):
    regularizer = ReSoRA(two, weight=1.0)
    two.add_adapter("late", LoraConfig(r=2, target_modules=[target]))
    assert recorded(two, regularizer) == {"fc.default", "gpt.default"}
    two.set_adapter("late")
    two(images())
    with pytest.raises(RuntimeError, match="'late' was added after ReSoRA was made"):
        regularizer()


@pytest.mark.filterwarnings("ignore:Adapter default was active")
def test_an_adapter_that_was_replaced_is_an_error(two):
    regularizer = ReSoRA(two, weight=1.0)
    two.add_adapter("spare", LoraConfig(r=2, target_modules=["fc"]))
    two.delete_adapter("default")
    two.add_adapter("default", LoraConfig(r=4, target_modules=["fc", "gpt"]))
    two.double().set_adapter("default")
    two(images())
    with pytest.raises(RuntimeError, match="'default' was replaced"):
        regularizer()


def test_merged_and_disabled_adapters_add_nothing_and_come_back(two):
    regularizer = ReSoRA(two, weight=1.0)
    before = recorded(two, regularizer)
    two.merge_adapter()
    two(images())
    assert regularizer() == 0
    two.unmerge_adapter()
    assert recorded(two, regularizer) == before
    with two.disable_adapter():
        two(images())
        assert regularizer() == 0
    assert recorded(two, regularizer) == before


def test_a_pass_without_adapters_between_two_with_them_leaves_nothing(two):
    # A reference model, as in preference optimisation.
    regularizer = ReSoRA(two, weight=1.0)
    two(images())
    expected = regularizer()
    two(images())
    with two.disable_adapter():
        two(images(seed=2))
    torch.testing.assert_close(regularizer(), expected, rtol=0, atol=0)


def test_frozen_adapters_are_left_out_with_a_warning():
    model = net(inference_mode=True)
    with pytest.warns(UserWarning, match="none of the 3 low-rank layers is trained"):
        regularizer = ReSoRA(model, weight=1.0)
    model(images())
    assert regularizer() == 0
    for parameter in model.gpt.lora_A.parameters():
        parameter.requires_grad_()
    model(images())
    regularizer()
    assert list(regularizer.redundancy()) == ["gpt.default"]


def test_a_layer_that_is_not_called_is_an_error():
    torch.manual_seed(0)
    # PyTorch's attention reads the weight of its output projection and never calls it.
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    config = LoraConfig(r=2, target_modules=["out_proj", "linear1"])
    model = inject_adapter_in_model(config, model)
    regularizer = ReSoRA(model, weight=1.0)
    model(torch.randn(2, 3, 8))
    with pytest.raises(
        RuntimeError, match=r"'self_attn.out_proj.default' recorded nothing.*exclude="
    ):
        regularizer()
    regularizer.close()
    regularizer = ReSoRA(model, weight=1.0, exclude=["self_attn.*"])
    model(torch.randn(2, 3, 8))
    assert regularizer() > 0


def by_file(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_file])
@pytest.mark.parametrize("case", ["plain", "dora"])
def test_copies_of_a_model_do_not_record_into_it(duplicate, case):
    model = net(**CASES[case])
    regularizer = ReSoRA(model, weight=1.0)
    model(images())
    twin = duplicate(model)
    expected = regularizer()
    output = model(images())
    torch.testing.assert_close(twin(images()), output)
    twin(images(seed=3))
    torch.testing.assert_close(regularizer(), expected, rtol=0, atol=0)
    own = ReSoRA(twin, weight=1.0)
    twin(images())
    torch.testing.assert_close(own(), expected)


@pytest.mark.parametrize("case", ["plain", "dora"])
def test_checkpointing_changes_nothing_and_leaves_nothing_behind(case):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)).double()
    config = LoraConfig(r=3, target_modules=["0", "1"], **CASES[case])
    model = randomised(inject_adapter_in_model(config, model))
    x = torch.randn(8, 5, dtype=torch.float64)
    regularizer = ReSoRA(model, weight=1.0)
    seen = []
    for layer in model:
        layer.lora_B["default"].register_forward_pre_hook(
            lambda _, inputs: seen.append(weakref.ref(inputs[0]))
        )
    gradients = []
    for use_checkpoint in (False, True):
        model.zero_grad()
        out = checkpoint(model, x, use_reentrant=False) if use_checkpoint else model(x)
        (out.square().mean() + regularizer()).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*gradients)
    del out
    gc.collect()
    assert seen
    assert not [reference for reference in seen if reference() is not None]
