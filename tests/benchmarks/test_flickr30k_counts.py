"""Flickr30K: what each method trains on BERT-base, against the numbers that explain the paper's Table 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.flickr30k.problem import Pairs
from benchmarks.flickr30k.spec import FLICKR30K, METHODS
from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.context import Context
from benchmarks.training.trainer import Progress
from benchmarks.training.two_stage import _cost, adapt

BERT = 109_482_240
HEAD = 768 * 1024 + 1024 + 12_704
IMAGE = 2048 * 1024 + 1024 + (2048 * 512 + 512) + 2 * 512 + (512 * 1024 + 1024) + 12_704

# adapter alone, and what is printed in the paper's column in millions: with the head or without
COUNTS = {
    "full": (BERT, 109.5, False),
    "partial": (0, 0.8, True),
    "adapter": (1_789_056, 2.6, True),
    "bitfit": (102_912, 0.9, True),
    "prefix": (9_872_384, 10.7, True),
    "ssf": (204_288, 0.2, False),
    "fact-tk": (86_528, None, True),
    "lst": (7_457_485, 7.5, True),
    "unipt": (5_921_281, 5.9, True),
    "adalora-r8": (442_656, None, True),
    "lora-r8": (294_912, 1.1, True),
}


def costs(method, **options):
    cell = Cell("flickr30k", "bert_base", "f30k", method, 0)
    config = FLICKR30K.config(cell, FLICKR30K.scales["paper"], {"backbone.weights": "random"})
    context = Context(
        data=Path(), work=Path(), device="meta", on_epoch=lambda *_: None, weights=None
    )
    problem = Pairs(config, context, 2048)
    options |= {key: value for key, value in config["method"].items() if key != "name"}
    with torch.device("meta"):
        model, _ = adapt(cell, options, problem)
    return _cost(model, problem, Progress(), 0.0, "meta")


@pytest.mark.parametrize("method", COUNTS)
def test_what_a_method_trains(method):
    adapter, printed, has_head = COUNTS[method]
    found = costs(method)
    assert found["trainable_params"] == adapter
    in_place_of_the_projection = method in ("lst", "unipt")
    head = 12_704 if in_place_of_the_projection else HEAD
    assert found["head_params"] == head
    assert found["image_encoder_params"] == IMAGE
    if printed is not None:
        assert round((adapter + has_head * head) / 1e6, 1) == printed


def test_head_and_backbone():
    assert HEAD == 800_160
    # The public code's image encoder has a norm of 1,024 channels that it never uses.
    assert IMAGE == 3_688_352 - 2 * 1024
    assert costs("partial")["total_params"] == BERT + HEAD + IMAGE


def test_second_stages_train_what_their_base_does():
    for method in METHODS:
        base, suffix, _ = parse_method(method)
        if suffix:
            assert costs(method) == costs(base)
