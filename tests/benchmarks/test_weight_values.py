"""Values of weights are looked at: what no training gives is refused, and what is published is not."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks import backbones, hub_weights
from benchmarks.backbones import Files
from benchmarks.flickr30k import bert
from benchmarks.harness.errors import UsageError
from benchmarks.msrvtt import clip
from benchmarks.weight_values import check_values
from tests.benchmarks.test_weights import VIT, as_npz, built, published

WEIGHT = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """One parameter or buffer of each sort that networks have."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.layer_scale = nn.Parameter(torch.ones(8))
        self.types = nn.Embedding(2, 8)
        self.register_buffer("mask", torch.zeros(4, 4))
        self.register_buffer("position_ids", torch.arange(9)[None])


def checked(tmp_path, **changed):
    model = Network()
    state = {**model.state_dict(), **{k.replace("__", "."): v for k, v in changed.items()}}
    check_values(model, tmp_path / "weights.pth", state)


def placed(value, row=3, column=2, dtype=torch.float32):
    found = WEIGHT.to(dtype).clone()
    found[row, column] = value
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"layer_scale": torch.full((8,), 1e-6)},
        {"layer_scale": torch.zeros(8)},
        {"linear__weight": WEIGHT.half()},
        {"linear__weight": WEIGHT.bfloat16()},
        {"linear__weight": WEIGHT.double()},
        {"linear__weight": WEIGHT * 10},
        {"linear__weight": WEIGHT * 1e-6},
        {"linear__weight": placed(-900.0)},
        {"linear__weight": torch.eye(8)[:, :6]},
        {"norm__running_var": torch.tensor([146_335.0, 0, 1e-14, 1, 1, 1, 1, 1])},
        {"norm__running_mean": torch.full((8,), -173.0)},
        {"norm__weight": torch.ones(8)},
        {"types__weight": torch.zeros(2, 8)},
        {"mask": torch.full((4, 4), -100.0)},
        {"position_ids": torch.arange(9, dtype=torch.int32)[None]},
        {"of_nothing": torch.tensor([float("nan")])},
    ],
    ids=lambda changed: " ".join(changed) or "all as made",
)
def test_what_is_published_passes(changed, tmp_path):
    checked(tmp_path, **changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"linear__weight": placed(float("nan"))}, r"linear\.weight is nan at \[3, 2\]"),
        ({"linear__weight": placed(float("-inf"))}, r"linear\.weight is -inf at \[3, 2\]"),
        ({"linear__weight": placed(1e30)}, r"is 1e\+30 at \[3, 2\], outside -100000 to 100000"),
        ({"linear__weight": placed(-1e6)}, r"is -1e\+06 at \[3, 2\]"),
        ({"linear__weight": placed(1e300, dtype=torch.float64)}, r"is 1e\+300 at"),
        ({"linear__weight": placed(float("inf"), dtype=torch.float16)}, r"is inf at \[3, 2\]"),
        ({"linear__bias": torch.full((8,), 1e30)}, r"linear\.bias is 1e\+30 at \[0\]"),
        ({"layer_scale": torch.tensor(float("nan"))}, r"layer_scale is nan at \[\]"),
        ({"linear__weight": torch.zeros(8, 6)}, r"linear\.weight is 0 everywhere"),
        ({"linear__weight": torch.full((8, 6), 0.02)}, r"is 0\.02 everywhere"),
        ({"linear__weight": WEIGHT * 1e-30}, "which no training gives"),
        ({"linear__weight": WEIGHT * 1e3}, "which no training gives"),
        ({"linear__weight": (30 * WEIGHT).round()}, "scales of a quantised network are missing"),
        ({"linear__weight": (30 * WEIGHT).to(torch.int8)}, "is of the type torch.int8, without"),
        ({"linear__weight": WEIGHT.to(torch.float8_e4m3fn)}, "is of the type torch.float8_e4m3fn"),
        ({"linear__weight": WEIGHT > 0}, "is of the type torch.bool"),
        ({"linear__weight": WEIGHT.to(torch.complex64)}, "is of the type torch.complex64"),
        ({"linear__bias": torch.ones(8, dtype=torch.int64)}, "is of the type torch.int64"),
        ({"norm__running_var": torch.full((8,), 1e30)}, r"running_var is 1e\+30 at \[0\]"),
        ({"norm__running_var": torch.full((8,), -1.0)}, r"is -1 at \[0\], outside 0 to"),
        ({"norm__running_mean": torch.full((8,), float("nan"))}, "running_mean is nan"),
        ({"mask": torch.zeros(4, 4, dtype=torch.int32)}, "mask is of the type torch.int32"),
        ({"position_ids": torch.arange(9.0)[None]}, "in the network of torch.int64"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_no_training_gives_is_refused(changed, message, tmp_path):
    with pytest.raises(UsageError, match=rf"^weights\.pth: .*{message}.*; fetch it again"):
        checked(tmp_path, **changed)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_every_format_is_looked_at(suffix, tmp_path):
    network, model = published(*VIT)
    file = tmp_path / f"weights{suffix}"
    with torch.no_grad():
        model.blocks[2].mlp.fc1.weight[5, 7] = float("nan")
        model.head.weight.zero_()  # is not loaded
    if suffix == ".npz":
        np.savez(file, **as_npz(model))
    elif suffix == ".pth":
        torch.save({"model": model.state_dict()}, file)
    else:
        save_file(model.state_dict(), file)
    with pytest.raises(UsageError, match=r"blocks\.2\.mlp\.fc1\.weight is nan at \[5, 7\]"):
        built(network, file)


def test_quantised_npz_is_refused(tmp_path):
    network, model = published(*VIT)
    arrays = as_npz(model)
    key = "Transformer/encoderblock_3/MlpBlock_3/Dense_0/kernel"
    np.savez(tmp_path / "int8.npz", **{**arrays, key: (300 * arrays[key]).astype(np.int8)})
    with pytest.raises(UsageError, match=r"blocks\.3\.mlp\.fc1\.weight has whole numbers alone"):
        built(network, tmp_path / "int8.npz")


@pytest.mark.parametrize(
    ("load", "model", "name"),
    [
        (bert.load, lambda: bert.empty("bert_micro"), "bert_micro"),
        (clip.load, lambda: clip.empty("clip_micro"), "clip_micro"),
    ],
)
def test_what_is_no_tensor_is_one_line(load, model, name, tmp_path):
    state = load_file(backbones.EMBEDDED / name / "model.safetensors")
    key = next(iter(state))
    torch.save({**state, key: [1.0]}, tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"x\.pth cannot be read as weights"):
        load(model(), tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["vit_micro", "swin_micro", "convnext_micro"])
def test_embedded_weights_that_are_cut_off_are_one_line(name, tmp_path, monkeypatch):
    whole = (backbones.EMBEDDED / f"{name}.safetensors").read_bytes()
    (tmp_path / f"{name}.safetensors").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(backbones, "EMBEDDED", tmp_path)
    with pytest.raises(UsageError, match=rf"{name}\.safetensors cannot be read as weights"):
        backbones.build({"name": name, "weights": name, "drop_path": 0.0}, 2)


def embedded(name, monkeypatch, folder):
    """Copies of an embedded network's weights and of the record beside them; what loads them."""
    file = next(backbones.EMBEDDED.glob(f"{name}*/model.safetensors"), None)
    file = file or backbones.EMBEDDED / f"{name}.safetensors"
    record = file.with_name("record.json" if file.stem == "model" else f"{name}.json")
    place = folder / file.relative_to(backbones.EMBEDDED)
    place.parent.mkdir(exist_ok=True)
    for one in (file, record):
        shutil.copy(one, place.parent)
    for module in (backbones, hub_weights):
        monkeypatch.setattr(module, "EMBEDDED", folder)
    monkeypatch.setattr(backbones, "ROOT", folder)
    build = {"bert_micro": bert.build, "clip_micro": clip.build}.get(name)
    config = {"name": name, "weights": name, "drop_path": 0.0, "dropout": 0.1}
    call = (lambda: backbones.build(config, 2)) if build is None else lambda: build(config, Files())
    return place, place.parent / record.name, call


NETWORKS = ["vit_micro", "swin_micro", "convnext_micro", "bert_micro", "clip_micro"]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_flipped_bit_of_the_embedded_weights_is_loaded(name, tmp_path, monkeypatch):
    file, record, load = embedded(name, monkeypatch, tmp_path)
    load()
    whole, rng = file.read_bytes(), random.Random(0)
    for place in [0, 9, *(rng.randrange(len(whole)) for _ in range(4))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(UsageError, match=f"its sha256 is not the one in {record.name}"):
            load()
    file.write_bytes(whole)
    for text in ("", "{}", "[]", '{"sha256": null}'):
        record.write_text(text)
        with pytest.raises(UsageError, match="its sha256 is not the one in"):
            load()
