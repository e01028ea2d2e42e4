"""What cannot fit is told once, before the first step and by a dry run, and leaves no record."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks import backbones, hub_weights
from benchmarks.flickr30k import bert
from benchmarks.harness.cli import main
from benchmarks.msrvtt import clip
from data_prep.flickr30k import check, packed
from data_prep.msrvtt import packed as clips


@pytest.fixture
def options(settings, tmp_path):
    def of(benchmark, **changed):
        """Options of a run on data whose manifest says something else."""
        folder = tmp_path / "data" / "embedded" / benchmark
        shutil.copytree(settings.data / "embedded" / benchmark, folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["tokenizer"] |= changed
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return [f"--data={tmp_path / 'data'}", "--set=backbone.weights=random"]

    return of


def refused(capsys, settings, cells, options):
    """Run cells, and have a dry run look at them; return what both say."""
    every = ["run", cells, f"--results={settings.results}", f"--work={settings.work}", *options]
    every += ["--device=cpu", "--jobs=1"]
    assert main(every) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert main([*every, "--dry-run"]) == 3
    out = capsys.readouterr().out
    assert not settings.results.exists()
    (line,) = [line for line in out.splitlines() if line.startswith("missing for ")]
    assert line.partition(": ")[2] in error
    return error


def test_captions_of_another_vocabulary(capsys, settings, options):
    given = options("flickr30k", size=30_522)
    error = refused(capsys, settings, "flickr30k/bert_micro/f30k/lora-r8+[cl]*/0", given)
    assert "30522" in error
    assert "475" in error


def test_tokens_of_another_vocabulary(capsys, settings, options):
    given = options("msrvtt", size=49_408)
    error = refused(capsys, settings, "msrvtt/clip_micro/1ka/lora-r8+[cl]*/0", given)
    assert "49408 tokens in the vocabulary, clip_micro has 994" in error


def test_a_caption_that_is_too_long(capsys, settings, options, monkeypatch):
    short = dataclasses.replace(bert.TEXTS["bert_micro"], longest=5)
    monkeypatch.setitem(bert.TEXTS, "bert_micro", short)
    cells = "flickr30k/bert_micro/f30k/lora-r8+[cl]*/0"
    assert "bert_micro takes 5" in refused(capsys, settings, cells, options("flickr30k"))


def test_tokens_that_are_too_many(capsys, settings, options, monkeypatch):
    monkeypatch.setattr(type(clip.towers_named("clip_micro")), "longest", 5, raising=False)
    given = options("msrvtt", text_length=77)
    cells = "msrvtt/clip_micro/1ka/lora-r8+[cl]*/0"
    assert "have up to 77 tokens" in refused(capsys, settings, cells, given)


@pytest.mark.parametrize(
    ("cells", "weights"),
    [
        ("vtab1k/vit_micro/eurosat/lora-r8+[cl]*/0", "swin_micro"),
        ("flickr30k/bert_micro/f30k/lora-r8+[cl]*/0", "clip_micro"),
        ("msrvtt/clip_micro/1ka/lora-r8+[cl]*/0", "bert_micro"),
    ],
)
def test_weights_of_another_network(capsys, settings, cells, weights):
    given = [f"--data={settings.data}", f"--set=backbone.weights={weights}"]
    refused(capsys, settings, cells, given)


@pytest.mark.parametrize(
    ("cells", "size", "told"),
    [
        (
            "fewshot/vit_micro/cars-1shot/lora-r8+[cl]*/0",
            32,
            "24 training images do not fill one batch of 32",
        ),
        (
            "fewshot/vit_micro/cars-1shot/lora-r8+[cl]*/0",
            15,
            "mixing needs batches of an even size, not of 15",
        ),
        (
            "vtab1k/vit_micro/eurosat/lora-r8+[cl]*/0",
            97,
            "40 training images do not fill one batch of 97",
        ),
        ("flickr30k/bert_micro/f30k/lora-r8+[cl]*/0", 999, "do not fill one batch of 999"),
    ],
)
def test_a_batch_that_cannot_be_filled(capsys, settings, cells, size, told):
    given = [f"--data={settings.data}", f"--set=stage1.batch_size={size}"]
    given += ["--set=backbone.weights=random"]
    if size == 15:
        given += ["--set=augment.mixup=0.8", "--set=data.limit_train=20"]
    assert told in refused(capsys, settings, cells, given)


DAMAGES = {
    "nan": (lambda one: one.float().index_fill(0, torch.tensor(1), torch.nan), r"is nan at [1"),
    "int8": (lambda one: (100 * one).to(torch.int8), "is of the type torch.int8"),
    "zeros": (torch.zeros_like, "is 0 everywhere"),
    "1e30": (lambda one: torch.full_like(one.float(), 1e30), "is 1e+30 at [0"),
}


VTAB = ("vtab1k/vit_micro/eurosat/lora-r8+[cl]*/0", "vit_micro", "blocks.1.mlp.fc1.weight")
FLICKR = (
    "flickr30k/bert_micro/f30k/lora-r8+[cl]*/0",
    "bert_micro/model",
    "encoder.layer.1.output.dense.weight",
)
MSRVTT = (
    "msrvtt/clip_micro/1ka/lora-r8+[cl]*/0",
    "clip_micro/model",
    "text_model.encoder.layers.1.mlp.fc1.weight",
)


@pytest.mark.parametrize(
    ("place", "damage"),
    [(VTAB, "nan"), (FLICKR, "int8"), (FLICKR, "nan"), (MSRVTT, "zeros"), (MSRVTT, "1e30")],
    ids=lambda part: part if isinstance(part, str) else part[0].partition("/")[0],
)
def test_weights_that_fit_by_name_and_shape_alone(
    capsys, settings, tmp_path, monkeypatch, place, damage
):
    (cells, file, tensor), (change, message) = place, DAMAGES[damage]
    state = load_file(backbones.EMBEDDED / f"{file}.safetensors")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    save_file({**state, tensor: change(state[tensor])}, tmp_path / f"{file}.safetensors")
    for module in (backbones, hub_weights):
        monkeypatch.setattr(module, "EMBEDDED", tmp_path)
    error = refused(capsys, settings, cells, [f"--data={settings.data}"])
    assert f"{(tmp_path / file).name}.safetensors: {tensor} {message}" in error


def test_what_verifying_compares_with_is_what_backbones_have():
    for variant, name in (("embedded", "bert_micro"), ("folder", "bert_base")):
        assert packed.VOCABULARY[variant] == bert.text_named(name).pieces
    for variant, name in (("embedded", "clip_micro"), ("folder", "clip_vit_b32")):
        towers = clip.towers_named(name)
        assert [*clips.FITS[variant].values()] == [towers.tokens, towers.size]


def test_verifying_the_data_finds_the_caption_that_a_run_refuses(settings, monkeypatch):
    limits = {"embedded": "bert_micro", "folder": "bert_base"}
    assert limits.keys() == packed.LONGEST.keys()
    for variant, name in limits.items():
        assert packed.LONGEST[variant] == bert.text_named(name).longest
    found = check.check(settings.data, "embedded", {})
    assert not [text for text in found.wrong if "pieces with" in text]
    monkeypatch.setitem(packed.LONGEST, "embedded", 5)
    found = check.check(settings.data, "embedded", {})
    assert [text for text in found.wrong if "a run takes 5" in text]
