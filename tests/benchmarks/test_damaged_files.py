"""Damage that ``tests/fuzz.py`` found, and that the program finds a fault where there is one."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import backbones
from benchmarks.flickr30k import bert
from benchmarks.harness.errors import UsageError
from benchmarks.msrvtt import clip
from benchmarks.training import data
from tests import fuzz
from tests.benchmarks.packed import pack_task


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04", b"{", b"[]", b"3", b'"splits"', b"[" * 100_000, b'{"splits": {}}', b"{}"],
)
def test_a_damaged_manifest_is_one_line(content, tmp_path):
    folder = pack_task(tmp_path, "eurosat", 10, n=8)
    (folder / "manifest.json").write_bytes(content)
    for call in (
        lambda: data.load_images(folder, "train800", normalise=None, device="cpu"),
        lambda: data.fingerprint(folder),
    ):
        with pytest.raises(UsageError, match=r"\A.*data_prep verify names the fault\Z"):
            call()


def test_a_manifest_with_another_count_does_not_shorten_the_test_split(tmp_path):
    folder = pack_task(tmp_path, "eurosat", 10, n=8)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["test"]["n"] = 3
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert len(data.open_stream(folder, "test", normalise=None, device="cpu")) == 8


VIT = {"name": "vit_micro", "weights": "vit_micro", "drop_path": 0.0}
BERT = {"name": "bert_micro", "weights": "bert_micro", "dropout": 0.0}
CLIP = {"name": "clip_micro", "weights": "clip_micro"}


@pytest.mark.parametrize(
    ("file", "build"),
    [
        ("vit_micro.safetensors", lambda: backbones.build(VIT, 2)),
        ("bert_micro/model.safetensors", lambda: bert.build(BERT, backbones.Files())),
        ("clip_micro/model.safetensors", lambda: clip.build(CLIP, backbones.Files())),
    ],
)
def test_one_bit_of_embedded_weights(file, build, tmp_path, monkeypatch):
    shutil.copytree(backbones.EMBEDDED, tmp_path / "backbones")
    for module in (backbones, bert.hub_weights):
        monkeypatch.setattr(module, "EMBEDDED", tmp_path / "backbones")
    monkeypatch.setattr(backbones, "ROOT", tmp_path)
    build()
    path = tmp_path / "backbones" / file
    content = bytearray(path.read_bytes())
    content[-100] ^= 1  # a low bit of a number, which changes little
    path.write_bytes(bytes(content))
    with pytest.raises(UsageError, match=r"sha256 is not the one in .*\.json"):
        build()


@pytest.mark.slow
def test_the_program_sees_a_checksum_that_is_not_looked_at(monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", "1")  # as the program does
    monkeypatch.setattr("benchmarks.training.data.hash_of", lambda path: _said(path))
    assert fuzz.main(["--kinds", "split", "--count", "12"]) == 1
    assert fuzz.OTHER in capsys.readouterr().out


def _said(path):
    manifest = json.loads(path.with_name("manifest.json").read_text())
    return manifest["splits"][path.stem]["sha256"]
