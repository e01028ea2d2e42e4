"""LoRA in the files of `peft`: what goes there and what comes from there computes the same."""

from __future__ import annotations

import copy
import importlib.util
import json

import pytest
import torch
from torch import nn

from data_prep.torchvision_guard import ensure_torchvision

if importlib.util.find_spec("peft") is None:
    pytest.skip("needs peft: the extra `peft`", allow_module_level=True)
ensure_torchvision()  # transformers imports torchvision

from resora.adapted import adapter_state, applied_to  # noqa: E402
from resora.adapted.peft_format import export_peft, import_peft  # noqa: E402
from resora.petl import make_method  # noqa: E402
from tests.resora.small_vision import images, swin, trained, unchanged, vit  # noqa: E402

LORAS = (
    {},
    {"scale": 0.3},
    {"targets": ("q", "v")},
    {"targets": ("v",)},
    {"targets": ("q", "k", "v", "proj", "fc1", "fc2"), "scale": 1 / 3},
    {"fused": True},
    {"fused": True, "targets": ("q", "k", "v", "fc2")},
)


def from_peft(model, folder):
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder).eval()


@pytest.mark.parametrize("options", LORAS, ids=str)
def test_peft_computes_what_was_exported_and_it_comes_back(options, tmp_path):
    model = trained("lora-r2", **options)
    export_peft(model, tmp_path)
    torch.testing.assert_close(from_peft(vit(), tmp_path)(images()), model(images()))
    plain = vit()
    assert import_peft(plain, tmp_path) == applied_to(model)
    torch.testing.assert_close(plain(images()), model(images()))


def test_a_swin_is_exported_too(tmp_path):
    model = trained("lora-r2", model=swin(), head="head.fc", targets=("q", "v", "proj"))
    export_peft(model, tmp_path)
    torch.testing.assert_close(from_peft(swin(), tmp_path)(images(32)), model(images(32)))
    plain = swin()
    assert import_peft(plain, tmp_path) == applied_to(model)


def test_separate_projections_are_mapped_one_to_one(tmp_path):
    from transformers import BertConfig, BertModel

    def bert():
        torch.manual_seed(0)
        return BertModel(
            BertConfig(
                hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=48, vocab_size=50,
            )
        ).eval()  # fmt: skip

    model = trained("lora-r2", model=bert(), head="", targets=("q", "v"))
    tokens = torch.arange(12).view(2, 6)
    expected = model(tokens).last_hidden_state
    export_peft(model, tmp_path, base_model="bert-base-uncased")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "bert-base-uncased"
    assert (config["r"], config["rank_pattern"], config["modules_to_save"]) == (2, {}, None)
    found = from_peft(bert(), tmp_path)(tokens).last_hidden_state
    torch.testing.assert_close(found, expected)
    plain = bert()
    assert import_peft(plain, tmp_path) == applied_to(model)
    torch.testing.assert_close(plain(tokens).last_hidden_state, expected)


def test_the_mixer_of_moslora_is_exported_in_the_factors(tmp_path):
    model = trained("moslora-r2")
    export_peft(model, tmp_path)
    torch.testing.assert_close(from_peft(vit(), tmp_path)(images()), model(images()))
    plain = vit()
    assert import_peft(plain, tmp_path).method == make_method("lora-r2")


def trained_by_peft(folder, **settings):
    from peft import LoraConfig, get_peft_model

    options = {"r": 4, "lora_alpha": 6, "target_modules": ["qkv"], "modules_to_save": ["head"]}
    model = get_peft_model(vit(), LoraConfig(**{**options, **settings})).eval()
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"target_modules": ["qkv", "fc1"], "lora_dropout": 0.1},
        {"r": 8, "rank_pattern": {"qkv": 4}, "alpha_pattern": {"attn.qkv": 3}},
    ],
    ids=str,
)
def test_what_peft_trained_computes_the_same_here(settings, tmp_path):
    model = trained_by_peft(tmp_path, **settings)
    plain = vit()
    applied = import_peft(plain, tmp_path)
    torch.testing.assert_close(plain(images()), model(images()))
    assert applied.head == "head"
    assert applied.method.fused
    assert {n.rpartition(".")[2] for n in adapter_state(plain)} == {
        "lora_a", "lora_b", "weight", "bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "trains biases"),
        ({"rank_pattern": {"blocks.1.attn.qkv": 2}}, "differ in rank and scale"),
        ({"target_modules": ["blocks.1.attn.qkv"]}, "same matrices in every block"),
        ({"modules_to_save": ["head", "norm"]}, "is not one module"),
        ({"target_modules": ["qkv", "patch_embed.proj"]}, "no linear layer|none of the layers"),
    ],
)
def test_what_peft_can_do_and_lora_here_cannot_is_refused(settings, message, tmp_path):
    trained_by_peft(tmp_path, **settings)
    plain = vit()
    before = copy.deepcopy(plain.state_dict())
    with pytest.raises(ValueError, match=message):
        import_peft(plain, tmp_path)
    assert unchanged(plain, before)
    assert applied_to(plain) is None


def test_another_head_is_refused_or_left_out(tmp_path):
    export_peft(trained("lora-r2"), tmp_path)
    with pytest.raises(ValueError, match=r"'head\.weight' is \(5, 24\) in the files"):
        import_peft(vit(classes=7), tmp_path)
    with pytest.raises(ValueError, match="hold more than a LoRA and the head ''"):
        import_peft(vit(), tmp_path, head="")
    trained_by_peft(tmp_path / "bare", modules_to_save=None)
    plain = vit(classes=7)
    kept = plain.head.weight.detach().clone()
    assert import_peft(plain, tmp_path / "bare", head="head").head == "head"
    assert torch.equal(plain.head.weight, kept)
    assert plain.head.weight.requires_grad


def test_only_lora_is_exported(tmp_path):
    with pytest.raises(ValueError, match="ssf has no form in peft's LoRA"):
        export_peft(trained("ssf"), tmp_path)
    with pytest.raises(ValueError, match="not adapted"):
        export_peft(vit(), tmp_path)
    with pytest.raises(ValueError, match="is adapted already"):
        import_peft(trained(), tmp_path)


def test_an_adapter_of_another_width_is_refused(tmp_path):
    export_peft(trained("lora-r2", head=""), tmp_path)
    plain = vit(width=32)
    before = copy.deepcopy(plain.state_dict())
    with pytest.raises(
        ValueError, match=r"'blocks\.0\.attn\.qkv' is 24 -> 72 in the files and 32 -> 96"
    ):
        import_peft(plain, tmp_path)
    assert unchanged(plain, before)
