"""Backbones by name: their classification layers, random weights, and errors that say what to do."""

from __future__ import annotations

import pytest
import torch

from benchmarks import backbones
from benchmarks.harness.errors import UsageError

PARAMETERS = {
    "vit_micro": 1_889_760,
    "swin_micro": 1_500_276,
    "convnext_micro": 1_903_424,
    "vit_b16": 85_798_656,
    "swin_b": 86_743_224,
    "convnext_b": 87_566_464,
}


def random(name, drop_path=0.0):
    return {"name": name, "weights": "random", "drop_path": drop_path}


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_sizes_and_heads(name):
    with torch.device("meta"):
        model, weights = backbones.build(random(name), num_classes=7)
    assert weights == backbones.Weights("random", None)
    head = model.get_submodule(backbones.head_of(name))
    assert isinstance(head, torch.nn.Linear)
    assert head.out_features == 7
    of_head = sum(p.numel() for p in head.parameters())
    assert sum(p.numel() for p in model.parameters()) - of_head == PARAMETERS[name]


@pytest.mark.parametrize("name", ["vit_micro", "swin_micro", "convnext_micro"])
def test_small_networks_classify_and_drop_paths(name):
    torch.manual_seed(0)
    model, _ = backbones.build(random(name, drop_path=0.5), num_classes=3)
    images = torch.randn(2, 3, 32, 32)
    assert model.eval()(images).shape == (2, 3)
    model.train()
    assert not torch.equal(model(images), model(images))


def test_weights_that_do_not_fit():
    config = {"name": "vit_micro", "weights": "swin_micro", "drop_path": 0.0}
    with pytest.raises(UsageError, match=r"swin_micro\.safetensors does not fit VisionTransf"):
        backbones.build(config, num_classes=2)


def test_missing_weights_name_the_command():
    config = {"name": "vit_micro", "weights": "swin_nano", "drop_path": 0.0}
    with pytest.raises(UsageError, match="pretrain --backbone vit_micro"):
        backbones.build(config, num_classes=2)


def test_checkpoint_of_another_network():
    config = {"name": "swin_b", "weights": "convnext_base.fb_in22k", "drop_path": 0.0}
    with pytest.raises(UsageError, match="which timm calls swin_base_patch4_window7_224"):
        backbones.build(config, num_classes=2)


@pytest.mark.parametrize(
    "ask", [backbones.head_of, lambda name: backbones.build({"name": name}, 2)]
)
def test_unknown_backbone_names_the_nearest(ask):
    with pytest.raises(UsageError, match="did you mean 'swin_micro'"):
        ask("swin_mikro")
