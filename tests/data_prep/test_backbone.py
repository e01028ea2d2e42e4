"""The embedded backbone: what is committed is what its record says, and the program that made it runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks import backbones
from data_prep.embedded import pretrain

FOLDER = Path(backbones.EMBEDDED)
WEIGHTS = FOLDER / "vit_micro.safetensors"
RECORD = json.loads((FOLDER / "vit_micro.json").read_text())


def test_weights_are_those_of_the_record():
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == RECORD["sha256"]
    assert WEIGHTS.stat().st_size == RECORD["bytes"] <= 4_000_000
    assert RECORD["finished"]
    state = load_file(WEIGHTS)
    assert {value.dtype for value in state.values()} == {np.dtype(np.float16)}
    assert sum(value.size for value in state.values()) == RECORD["parameters"]


def test_weights_fit_and_only_the_head_is_fresh():
    config = {"name": "vit_micro", "weights": "vit_micro", "drop_path": 0.0}
    torch.manual_seed(0)
    model, weights = backbones.build(config, num_classes=7)
    assert weights.sha256 == RECORD["sha256"]
    state = load_file(WEIGHTS)
    for name, value in model.state_dict().items():
        if not name.startswith("head."):
            assert np.array_equal(value.numpy(), state[name].astype(np.float32))
    assert model.head.weight.shape == (7, 160)


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(backbones.UsageError, match="did you mean 'vit_micro'"):
        backbones.build({"name": "vit_mikro"}, num_classes=2)


@pytest.mark.slow
def test_pre_training_runs_and_resumes(tmp_path):
    common = ["--minutes=0", "--pool=4096", "--batch=64", "--threads=1"]
    folders = [f"--out={tmp_path / 'out'}", f"--work={tmp_path / 'work'}"]
    pretrain.main([*common, *folders, "--images=128"])
    first = json.loads((tmp_path / "out" / "vit_micro.json").read_text())
    assert first["images_seen"] == 128
    pretrain.main([*common, *folders, "--images=256"])
    second = json.loads((tmp_path / "out" / "vit_micro.json").read_text())
    assert second["images_seen"] == 256
    assert second["steps"] == 4
    assert second["sha256"] != first["sha256"]
    made = tmp_path / "out" / "vit_micro.safetensors"
    assert load_file(made).keys() == load_file(WEIGHTS).keys()
