"""Counts, schedules and selection rules of the training code."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks import backbones
from benchmarks.training.data import Images, Normalisation
from benchmarks.training.trainer import Plan, Problem, Stage
from benchmarks.training.two_stage import _selected
from resora.petl import make_method


@pytest.mark.parametrize(("rank", "count"), [(2, 110_592), (4, 221_184), (8, 442_368)])
def test_lora_parameters_on_vit_b16(rank, count):
    with torch.device("meta"):
        model = backbones.timm.create_model("vit_base_patch16_224", num_classes=100)
        make_method(f"lora-r{rank}").adapt(model, backbones.head_of("vit_micro"))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = sum(p.numel() for p in model.head.parameters())
    assert trained - head == count
    assert head == 769 * 100


def test_full_counts_the_backbone_of_vit_b16():
    with torch.device("meta"):
        model = backbones.timm.create_model("vit_base_patch16_224", num_classes=0)
        make_method("full").adapt(model, backbones.head_of("vit_micro"))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 85_798_656


def test_selection_rules():
    curves = {
        "test_top1_accuracy": [None, 0.5, None, 0.7, None, 0.6],
        "val_top1_accuracy": [None, 0.8, None, 0.2, None, 0.8],
    }
    rules = _selected(curves, "top1_accuracy")
    assert rules == {"last_epoch": 0.6, "best_val": 0.5, "max_test": 0.7}
    curves["val_top1_accuracy"] = [None] * 6
    assert _selected(curves, "top1_accuracy")["best_val"] is None


def test_normalisation():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    half = torch.full((1, 3, 1, 1), 127.5)
    images = Images(pixels, torch.zeros(2), Normalisation(half, half))
    assert images.inputs(slice(None)).unique().tolist() == [-1.0, 1.0]


class OneBatch(Problem):
    chance_loss = 1.0
    steps = 4

    def __init__(self):
        self.rates = []

    def batches(self, seed):
        return iter([torch.ones(1, 2)] * 4)

    def loss(self, model, batch):
        return model(batch).square().mean()

    def evaluate(self, model):
        return {"val_top1_accuracy": None, "test_top1_accuracy": 0.5}


def test_schedule_is_cosine_with_linear_warm_up(tmp_path):
    plan = Plan(
        epochs=4,
        batch_size=1,
        learning_rate=1.0,
        weight_decay=0.1,
        warmup_epochs=1,
        evaluate_every=2,
    )
    model = nn.Linear(2, 1)
    stage = Stage(
        model, OneBatch(), plan, order_seed=0, noise_seed=0, folder=tmp_path, identity="x"
    )
    rates = []
    step = stage.optimizer.step
    stage.optimizer.step = lambda: rates.append(stage.optimizer.param_groups[0]["lr"]) or step()
    progress = stage.run()
    assert len(rates) == 16
    assert rates[0] == pytest.approx(0.25)
    assert max(rates) == rates[3]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert progress.curves["epoch"] == [1, 2, 3, 4]
    assert progress.curves["test_top1_accuracy"] == [None, 0.5, None, 0.5]
    groups = stage.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [p.ndim for p in groups[1]["params"]] == [1]
