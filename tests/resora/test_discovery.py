"""What counts as a low-rank layer, under which name, and what is refused instead of passed over."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from data_prep.torchvision_guard import ensure_torchvision

if importlib.util.find_spec("peft") is None:
    pytest.skip("needs peft: the extra `peft`", allow_module_level=True)
ensure_torchvision()  # transformers imports torchvision
from peft import AdaLoraConfig, LoraConfig, get_peft_model, inject_adapter_in_model  # noqa: E402

from resora import ReSoRA  # noqa: E402
from resora.discovery import NoLowRankLayer, low_rank_layers  # noqa: E402
from resora.petl import Factors  # noqa: E402
from resora.petl.layers.low_rank import LowRankLinear  # noqa: E402

QKV = ("q", "k", "v")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mha = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return self.fc(x + self.mha(x, x, x)[0])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.blocks = nn.Sequential(Block(), Block())
        self.conv = nn.Conv1d(8, 8, 1, groups=2)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.conv(self.blocks(self.words(x)).mT).mT)


WORDS = torch.arange(15).reshape(3, 5) % 11


def model(targets=("head",), **options):
    torch.manual_seed(0)
    return inject_adapter_in_model(
        LoraConfig(r=2, target_modules=list(targets), **options), Model()
    )


def adalora():
    config = AdaLoraConfig(init_r=2, target_r=1, total_step=10, target_modules=["blocks.0.fc"])
    return inject_adapter_in_model(config, model())


# What cannot be listened to: a message, and globs that leave it alone.
REFUSED = {
    "embedding": (
        lambda: model(["head", "words"]),
        r"'words.default' \(Embedding\) cannot be regularised: an embedding .*exclude=\['words.default'\]",
        ["words.*"],
    ),
    "attention": (
        lambda: model(["head", "mha"]),
        r"'blocks.0.mha.default' \(MultiheadAttention\).*never calls lora_A.*The same holds for "
        r"'blocks.0.mha.base_layer.out_proj.default', 'blocks.1.mha.default', .*, \.\.\.\]\)",
        ["*.mha.*"],
    ),
    "out_proj of an attention": (
        lambda: model(["head", "mha"]),
        r"'blocks.0.mha.base_layer.out_proj.default' \(Linear\).*lies in a MultiheadAttention",
        ["*.mha.default", "*.mha.base_layer.out_proj"],
    ),
    "parameter": (
        lambda: model(["head"], target_parameters=["blocks.0.fc.weight"]),
        r"'blocks.0.fc.default' \(ParamWrapper\)",
        ["blocks.0.fc"],
    ),
    "grouped convolution": (
        lambda: model(["head", "conv"]),
        r"'conv.default' \(Conv1d\) .*grouped convolution",
        ["conv.default"],
    ),
    "AdaLoRA": (adalora, r"'blocks.0.fc.default' \(SVDLinear\) .*no Linear", ["blocks.0.fc.*"]),
    "variant": (
        lambda: inject_adapter_in_model(
            LoraConfig(r=2, target_modules=["fc"], init_lora_weights="mica"), model()
        ),
        r"'blocks.0.fc.default' \(Linear\) .*no plain B A x \(MiCALinearVariant\)",
        ["*.fc"],
    ),
}


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer", "ignore:Already found")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_listened_to_is_refused_unless_it_is_excluded(kind):
    make, message, globs = REFUSED[kind]
    found = make()
    excluded = globs[:1] if kind == "out_proj of an attention" else []
    with pytest.raises(ValueError, match=message):
        ReSoRA(found, weight=1.0, exclude=excluded)
    regularizer = ReSoRA(found, weight=1.0, exclude=globs)
    assert list(regularizer.layers) == ["head.default"]
    found(WORDS)
    assert regularizer() > 0


def test_names_are_those_of_the_layer_and_the_adapter():
    assert list(low_rank_layers(model(["fc"]))) == ["blocks.0.fc.default", "blocks.1.fc.default"]
    wrapped = get_peft_model(Model(), LoraConfig(r=2, target_modules=["head"]), adapter_name="mine")
    assert list(low_rank_layers(wrapped)) == ["base_model.model.head.mine"]
    assert list(low_rank_layers(model(["head"]).head)) == ["default"]


class OfMyOwn(nn.Linear):
    def tap(self, record):
        raise NotImplementedError

    def factors(self):
        return Factors(self.weight[None])


def test_layers_of_all_origins_are_found_together():
    found = model(["fc"])
    found.blocks[0].fc = LowRankLinear(nn.Linear(8, 24), 2, 1.0, QKV)
    found.head = OfMyOwn(8, 2)
    layers = low_rank_layers(found)
    assert list(layers) == ["blocks.0.fc", "blocks.1.fc.default", "head"]
    assert layers["head"] is found.head


def test_a_layer_that_is_used_twice_is_found_once():
    layer = LowRankLinear(nn.Linear(4, 12), 2, 1.0, QKV)
    assert list(low_rank_layers(nn.ModuleDict({"one": layer, "two": layer}))) == ["one"]


def test_exclude():
    found = model(["fc", "head"])
    for globs in (["blocks.*"], "blocks.*", ["*.fc"], ["blocks.0.fc.default", "blocks.1.*"]):
        assert list(low_rank_layers(found, globs)) == ["head.default"]
    with pytest.raises(
        ValueError, match=r"\['fc.\*'\] matches no low-rank layer \(found: 'blocks.0.fc"
    ):
        low_rank_layers(found, ["head*", "fc.*"])
    with pytest.raises(NoLowRankLayer, match="has no low-rank layer left"):
        low_rank_layers(found, ["*"])


def test_a_model_without_low_rank_layers_is_told_what_was_looked_for():
    with pytest.raises(NoLowRankLayer, match=r"`tap` and `factors`.*LoRA layers of peft"):
        low_rank_layers(Model())
