"""The embedded backbones: what is committed is what the records say, and the program that made them runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks import backbones
from data_prep.embedded import pool, pretrain, pretrain_probe
from data_prep.embedded.pretrain_networks import NETWORKS, onto_patches, pooled_and_cells

FOLDER = Path(backbones.EMBEDDED)
each_network = pytest.mark.parametrize("name", NETWORKS)


def record(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def weights(name):
    return FOLDER / f"{name}.safetensors"


def test_every_network_of_the_embedded_world_has_its_weights():
    small = {n for n, b in backbones.BACKBONES.items() if isinstance(b, backbones.Small)}
    assert small == NETWORKS.keys() == {path.stem for path in FOLDER.glob("*.safetensors")}


@each_network
def test_weights_are_those_of_the_record(name):
    made = record(name)
    assert hashlib.sha256(weights(name).read_bytes()).hexdigest() == made["sha256"]
    assert weights(name).stat().st_size == made["bytes"] <= 4_000_000
    assert made["name"] == name
    assert made["finished"]
    state = load_file(weights(name))
    assert {value.dtype for value in state.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(value).all() for value in state.values())
    assert sum(value.size for value in state.values()) == made["parameters"]


@each_network
def test_weights_fit_and_only_the_head_is_fresh(name):
    config = {"name": name, "weights": name, "drop_path": 0.0}
    model, found = backbones.build(config, num_classes=7)
    assert found.sha256 == record(name)["sha256"]
    state = load_file(weights(name))
    head = backbones.head_of(name)
    loaded = {k: v for k, v in model.state_dict().items() if not k.startswith(f"{head}.")}
    assert loaded.keys() == state.keys()
    for key, value in loaded.items():
        assert np.array_equal(value.numpy(), state[key].astype(np.float32))
    layer = model.get_submodule(head)
    assert layer.weight.shape == (7, NETWORKS[name].width)


@each_network
def test_built_for_tasks_as_for_pre_training(name):
    network, small = NETWORKS[name], backbones.BACKBONES[name]
    settings = {k: v for k, v in network.settings.items() if k != "drop_path_rate"}
    assert (small.kind, small.settings) == (network.kind, settings)
    text = json.dumps({"class": f"{network.kind.__module__}.{network.kind.__name__}", **settings})
    written = {k: v for k, v in record(name)["architecture"].items() if k != "drop_path_rate"}
    assert written == json.loads(text)


@each_network
def test_targets_are_learned_from_what_a_classifier_sees(name):
    network = NETWORKS[name]
    model = network.build().eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        pooled, cells = pooled_and_cells(model, images)
        model.reset_classifier(5)
        model.get_submodule(backbones.head_of(name)).register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0])
        )
        seen = []
        model(images)
    assert pooled.shape == (2, network.width)
    assert cells.shape == (2, network.side**2, network.width)
    torch.testing.assert_close(pooled, seen[0])


def test_a_coarser_map_answers_for_the_patches_beneath_it():
    size = 3
    patches = torch.arange(16.0).view(1, 16, 1).expand(1, 16, size)
    assert torch.equal(onto_patches(patches, side=4, grid=4), patches)
    assert torch.equal(onto_patches(patches.reshape(1, 1, -1), side=1, grid=4), patches)
    cells = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    answers = torch.tensor(cells, dtype=torch.float32).view(1, 4, 4, 1).expand(1, 4, 4, size)
    assert torch.equal(onto_patches(answers.flatten(2), side=2, grid=4), patches)
    assert pool.GRID == 4


@each_network
def test_probe_tells_brightness_from_pooled_features(name):
    networks = pretrain_probe.networks(name, weights(name))
    assert networks.keys() == {"pre-trained", "random"}
    labels = torch.arange(40) % 2
    images = (60 + 100 * labels).view(-1, 1, 1, 1) + torch.randint(0, 30, (40, 3, 32, 32))
    split = {"images": images.to(torch.uint8), "labels": labels}
    for network in networks.values():
        assert pretrain_probe.accuracy(network, split, split) == 1.0


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """One pool for all networks, as in real runs; each has a checkpoint of its own beside it."""
    return tmp_path_factory.mktemp("work")


@pytest.mark.slow
@each_network
def test_pre_training_runs_and_resumes(name, work, tmp_path):
    common = [f"--backbone={name}", "--minutes=0", "--pool=4096", "--batch=64", "--threads=1"]
    folders = [f"--out={tmp_path}", f"--work={work}"]
    made = tmp_path / f"{name}.json"
    pretrain.main([*common, *folders, "--images=128"])
    first = json.loads(made.read_text())
    assert first["images_seen"] == 128
    pretrain.main([*common, *folders, "--images=256"])
    second = json.loads(made.read_text())
    assert second["images_seen"] == 256
    assert second["steps"] == 4
    assert second["sha256"] != first["sha256"]
    assert load_file(made.with_suffix(".safetensors")).keys() == load_file(weights(name)).keys()
