"""MSR-VTT: what each method trains on ViT-B/32 and its text tower, against the numbers of Table 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.context import Context
from benchmarks.msrvtt.problem import Pairs
from benchmarks.msrvtt.spec import METHODS, MSRVTT
from benchmarks.training.trainer import Plan, Progress, Stage
from benchmarks.training.two_stage import _cost, adapt

CLIP = 151_277_313
BLOCKS = 12 * (768 + 512)

# what is trained, and what is printed in the paper's column in millions where a known setting has it
COUNTS = {
    "full": (CLIP, 151.3),
    "partial": (768 * 512 + 512 * 512, 0.7),
    "adapter": (5_146_368, None),
    "bitfit": (138_240, 0.1),
    "vpt-deep": (10 * BLOCKS, 0.2),
    "ssf": (343_552, None),
    "fact-tk": (156_672, None),
    "lst": (9_058_332, None),
    "unipt": (5_644_289 + 3_940_353, 9.6),
    "adalora-r8": (737_856, None),  # r = 12, from which it comes down to 8
    "lora-r8": (2 * 2 * 8 * BLOCKS, None),
}


def adapted(method, **overrides):
    cell = Cell("msrvtt", "clip_vit_b32", "1ka", method, 0)
    overrides = {"backbone.weights": "random"} | overrides
    config = MSRVTT.config(cell, MSRVTT.scales["paper"], overrides)
    context = Context(
        data=Path(), work=Path(), device="meta", on_epoch=lambda *_: None, weights=None
    )
    problem = Pairs(config, context)
    options = {key: value for key, value in config["method"].items() if key != "name"}
    with torch.device("meta"):
        model, _ = adapt(cell, options, problem)
    return config, problem, model


def costs(method, **overrides):
    _, problem, model = adapted(method, **overrides)
    return _cost(model, problem, Progress(), 0.0, "meta")


@pytest.mark.parametrize("method", COUNTS)
def test_what_a_method_trains(method):
    trained, printed = COUNTS[method]
    found = costs(method)
    assert found["trainable_params"] == trained
    assert found["head_params"] == 0
    if printed is not None:
        assert round(trained / 1e6, 1) == printed


def test_heads_are_trained_and_counted_apart():
    block = 4 * (512 * 512 + 512) + 2 * 512 * 2048 + 2048 + 512 + 4 * 512
    expected = {
        "meanP": 0,
        "seqLSTM": 2 * 4 * 512 * 512 + 2 * 4 * 512,
        "seqTransf": 77 * 512 + 4 * block,
        "tightTransf": 77 * 512 + 4 * block + 2 * 512 + 512 * 512 + 512 + 513,
    }
    for head, number in expected.items():
        found = costs("lora-r8", **{"model.head": head})
        assert found["head_params"] == number
        assert found["trainable_params"] == COUNTS["lora-r8"][0]
        assert found["total_params"] == CLIP + number + COUNTS["lora-r8"][0]


def test_second_stages_train_what_their_base_does():
    for method in METHODS:
        base, suffix, _ = parse_method(method)
        if suffix:
            assert costs(method) == costs(base)


@pytest.mark.parametrize("method", [m for m in METHODS if "+" not in m])
def test_what_a_method_adds_is_never_trained_at_the_towers_rate(method, tmp_path):
    """In the public code's groups, whatever lies under ``clip`` would silently have CLIP's rate of 1e-7."""
    config, problem, model = adapted(method, **{"model.head": "seqTransf"})
    plain = {id(p) for p in model.clip.parameters()} & problem._pretrained
    plan = Plan.of(config["stage1"])
    stage = Stage(model, problem, plan, order_seed=0, noise_seed=0, folder=tmp_path, identity="")
    stage.set_learning_rate(1.0, step_share=0.0)
    rates = {id(p): group["lr"] for group in stage.optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(stage.trained)
    at_the_time = plan.learning_rate * stage._share_of_rate(1.0)
    of_pretrained = at_the_time * (0.1 if method == "full" else 1.0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expected = of_pretrained if id(parameter) in plain else at_the_time
            assert rates[id(parameter)] == pytest.approx(expected), name
    added = [n for n, p in model.named_parameters() if id(p) not in plain and n.startswith("clip.")]
    assert bool(added) == (method not in ("full", "partial", "bitfit"))
