"""``resora.merge``: the same outputs, and no trace of adapters in the model."""

from __future__ import annotations

import copy
import importlib.util

import pytest
import torch
from torch import nn

from data_prep.torchvision_guard import ensure_torchvision

if importlib.util.find_spec("peft") is None:
    pytest.skip("needs peft: the extra `peft`", allow_module_level=True)
ensure_torchvision()  # transformers imports torchvision
from peft import LoraConfig, get_peft_model, inject_adapter_in_model  # noqa: E402
from transformers import BertConfig, BertForSequenceClassification  # noqa: E402
from transformers.pytorch_utils import Conv1D  # noqa: E402

import resora  # noqa: E402
from resora import ReSoRA  # noqa: E402
from resora.adapted import applied_to  # noqa: E402
from resora.petl import make_method  # noqa: E402
from resora.petl.layers.low_rank import LowRankLinear  # noqa: E402
from resora.petl.linear import Linear  # noqa: E402

QKV = ("q", "k", "v")
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set")


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return torch.tanh(q) * k + v


class Model(nn.Module):
    """A layer of each kind that adapters of peft know."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 9)
        self.conv = nn.Conv1d(9, 12, 3, padding=1)
        self.attn = Attention(12)
        self.fc = nn.Linear(12, 12)
        self.gpt = Conv1D(12, 12)
        self.mha = nn.MultiheadAttention(12, 2, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.conv(self.words(x).mT).mT
        x = self.gpt(torch.tanh(self.fc(self.attn(x))))
        x = x + self.mha(x, x, x)[0]
        return self.head(x.mean(1))


WORDS = torch.arange(15).reshape(3, 5) % 11
ALL = ["words", "conv", "qkv", "fc", "gpt", "mha"]


def plain():
    torch.manual_seed(0)
    return Model().double()


def randomised(model):
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def resora_lora():
    model = plain()
    make_method("lora-r2").adapt(model, "head")
    return model


def injected(targets=ALL, model=None, **options):
    config = LoraConfig(r=2, lora_dropout=0.1 if "mha" not in targets else 0, **options)
    config.target_modules = set(targets)
    return inject_adapter_in_model(config, model or plain())


def wrapped(**options):
    return get_peft_model(plain(), LoraConfig(r=2, target_modules=ALL, **options))


def several():
    model = get_peft_model(plain(), LoraConfig(r=2, target_modules=["fc", "gpt"]))
    model.add_adapter("other", LoraConfig(r=3, target_modules=["fc"]))
    model.add_adapter("spare", LoraConfig(r=3, target_modules=["head"]))
    model.base_model.set_adapter(["default", "other"])
    return model


def parameters():
    config = LoraConfig(r=2, target_modules=["conv"], target_parameters=["fc.weight"])
    return inject_adapter_in_model(config, plain())


MODELS = {
    "resora": resora_lora,
    "injected": injected,
    "PeftModel": wrapped,
    "inside": lambda: nn.Sequential(wrapped()),
    "mixed": lambda: injected(["fc"], resora_lora()),
    "dropout and DoRA": lambda: injected(["conv", "fc", "gpt"], use_dora=True),
    "bias": lambda: injected(["conv", "fc"], lora_bias=True),
    "rsLoRA": lambda: injected(["conv", "fc"], use_rslora=True),
    "several": several,
    "trained head": lambda: wrapped(modules_to_save=["head"]),
    "parameters": parameters,
}


def tree(model):
    """All that could keep a trace: classes, hooks, and names and shapes of tensors."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_forward_hooks_with_kwargs",
    )
    return (
        [(name, type(module)) for name, module in model.named_modules()],
        [(name, hook) for name, m in model.named_modules() for hook in hooks if getattr(m, hook)],
        {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()},
        [(name, set(vars(module))) for name, module in model.named_modules()],
    )


@pytest.mark.parametrize("name", MODELS)
def test_outputs_stay_and_no_trace_remains(name):
    model = randomised(MODELS[name]()).double().eval()
    expected = model(WORDS)
    original = nn.Sequential(plain()) if name == "inside" else plain()
    assert not torch.allclose(expected, original(WORDS), atol=1e-3)
    if name not in ("injected", "PeftModel", "inside", "trained head", "parameters"):
        ReSoRA(model, weight=1.0)  # its hooks have to go as well
    merged = resora.merge(model)
    torch.testing.assert_close(merged(WORDS), expected, rtol=0, atol=1e-10)
    assert tree(merged) == tree(original)


def test_a_model_that_is_an_adapter_itself():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4)
    ours = LowRankLinear(nn.Linear(4, 12), 2, 0.5, QKV)
    theirs = injected(["0"], nn.Sequential(nn.Linear(4, 12)))[0]
    for layer in (ours, theirs):
        expected = randomised(layer).eval()(x)
        merged = resora.merge(layer)
        assert type(merged) is nn.Linear
        torch.testing.assert_close(merged(x), expected)


def test_a_layer_that_is_used_twice_is_merged_once():
    layer = randomised(LowRankLinear(nn.Linear(4, 12), 2, 0.5, QKV))
    model = nn.Sequential(layer, nn.Linear(12, 4), layer)
    x = torch.randn(3, 2, 4)
    expected = model(x)
    resora.merge(model)
    assert model[0] is model[2]
    torch.testing.assert_close(model(x), expected)


def test_a_transformers_model_forgets_that_it_had_adapters():
    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    model = BertForSequenceClassification(config).eval()
    before = tree(model)
    model.add_adapter(LoraConfig(r=2, target_modules=["query"]))
    randomised(model)
    expected = model(WORDS).logits
    merged = resora.merge(model)
    torch.testing.assert_close(merged(WORDS).logits, expected)
    names = [modules[:3] for modules in (tree(merged), before)]
    assert names[0] == names[1]
    merged.add_adapter(LoraConfig(r=2, target_modules=["query"]))


def test_a_compiled_model_comes_back_plain():
    torch._dynamo.reset()
    model = randomised(wrapped()).double().eval()
    expected = model(WORDS)
    merged = resora.merge(torch.compile(model, backend="eager"))
    assert type(merged) is Model
    torch.testing.assert_close(merged(WORDS), expected)


@pytest.mark.filterwarnings("ignore:All adapters are already merged")
def test_adapters_that_are_merged_already_are_only_taken_away():
    model = randomised(wrapped()).double().eval()
    expected = model(WORDS)
    model.merge_adapter()
    merged = resora.merge(model)
    torch.testing.assert_close(merged(WORDS), expected, rtol=0, atol=1e-10)
    assert tree(merged) == tree(plain())


class Scaled(nn.Module):
    """An adapter around another layer, which may be adapted itself."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.factor = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x):
        return self.factor * self.base(x)

    @torch.no_grad()
    def merged(self):
        self.base.weight *= self.factor
        self.base.bias *= self.factor
        return self.base


@pytest.mark.parametrize("make", [resora_lora, lambda: injected(["qkv"])])
def test_adapters_around_adapters_fold_from_the_inside(make):
    model = randomised(make()).eval()
    model.attn.qkv = Scaled(Scaled(model.attn.qkv))
    model.fc = Scaled(nn.Sequential(model.fc))
    model.fc.merged = lambda: model.fc.base[0]
    model.fc.factor.data.fill_(1)
    expected = model(WORDS)
    merged = resora.merge(model)
    torch.testing.assert_close(merged(WORDS), expected, rtol=0, atol=1e-10)
    assert tree(merged) == tree(plain())


@pytest.mark.parametrize("name", ["full", "linear"])
def test_a_method_that_adds_no_module_leaves_nothing_but_a_mark(name):
    model = plain()
    make_method(name).adapt(model, "head")
    before = copy.deepcopy(model.state_dict())
    for outer in (nn.Sequential(model), model):
        if applied_to(model) is None:
            make_method(name).adapt(model, "head")
        assert resora.merge(outer) is outer
        assert applied_to(model) is None
    assert tree(model) == tree(plain())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with pytest.raises(ValueError, match="no adapter to merge"):
        resora.merge(model)


class Unfoldable(Linear):
    is_mergeable = False


def test_a_method_that_cannot_be_merged_is_named():
    model = plain()
    Unfoldable().adapt(model, "head")
    randomised(injected(["fc"], model))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match=r"^test-merge cannot be merged: what it adds is no change"
    ):
        resora.merge(model)
    assert applied_to(model) is not None
    after = model.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())


class NoMerged(nn.Linear):
    def tap(self, record):
        raise NotImplementedError

    def factors(self):
        return None


def grouped():
    model = nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1, groups=2), nn.Linear(4, 4))
    return injected(["0", "1", "2"], model)


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return injected(["0", "1"], model)


def tied_adapters():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return injected(["0", "1", "2"], model)


def no_bias():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    return injected(["0", "1"], model, lora_bias=True)


def switched_off():
    model = several()
    model.base_model.disable_adapter_layers()
    return model


def half_merged():
    model = several()
    model.base_model.model.fc.merge(adapter_names=["other"])
    return model


UNMERGEABLE = {
    "no adapter": (plain, "Model has no adapter to merge"),
    "no method": (lambda: nn.Sequential(resora_lora(), NoMerged(2, 2)), "'1' .NoMerged.*`merged"),
    "grouped": (grouped, "'1' cannot be merged: Merging is not supported"),
    "tied": (tied, "'0' .Linear. cannot be merged: it shares its weight with '2'"),
    "tied adapters": (
        tied_adapters,
        "'0' .Linear. cannot be merged: it shares its weight with '2'",
    ),
    "no bias": (no_bias, "'1' cannot be merged: Impossible to merge"),
    "switched off": (switched_off, "switched off"),
    "half merged": (half_merged, "only its adapters .'other'. are merged"),
}


@pytest.mark.filterwarnings(
    "ignore:`lora_bias=True` was passed", "ignore:LoRA adapter added to Conv"
)
@pytest.mark.parametrize("case", UNMERGEABLE)
def test_what_cannot_be_merged_is_an_error_and_stays_as_it_was(case):
    make, message = UNMERGEABLE[case]
    model = randomised(make())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        resora.merge(model)
    after = model.state_dict()
    assert list(after) == list(before)
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
