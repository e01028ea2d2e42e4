"""A damaged checkpoint is found out, said, and made again; it neither stops a run nor changes a number."""

from __future__ import annotations

import random
import warnings

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import run_group
from benchmarks.harness.stage1 import why_not_of_base
from benchmarks.training.checkpoint import (
    LAST_EPOCH,
    STAGE1,
    EpochWriter,
    has_stage1,
    load_epoch,
    save_stage1,
)

BASE = Cell.parse("vtab1k/vit_micro/eurosat/lora-r2/0")
SECOND = Cell.parse("vtab1k/vit_micro/eurosat/lora-r2+control/0")


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damages(content: bytes) -> list[bytes]:
    """Flips at the start, at the end and anywhere; truncations; an empty file; more than there was."""
    draw, bits = random.Random(0), 8 * len(content)
    places = [
        *range(0, 128, 8),
        *range(bits - 128, bits, 8),
        *(draw.randrange(bits) for _ in range(60)),
    ]
    cuts = [0, 1, 7, 8, 9, 31, 32, 33, len(content) // 2, len(content) - 1]
    return [
        *(flipped(content, bit) for bit in places),
        *(content[:n] for n in cuts),
        content + b"0",
    ]


@pytest.fixture
def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))


def test_no_damage_of_a_stage_1_checkpoint_passes(tmp_path, model):
    sha256 = save_stage1(tmp_path, model, "abc")
    path = tmp_path / STAGE1
    content = path.read_bytes()
    assert has_stage1(tmp_path, "abc")
    assert has_stage1(tmp_path, "abc", sha256)
    assert not has_stage1(tmp_path, "other")
    with pytest.warns(UserWarning, match="not the checkpoint of its run's record"):
        assert not has_stage1(tmp_path, "abc", "0" * 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for damaged in damages(content):
            path.write_bytes(damaged)
            assert not has_stage1(tmp_path, "abc", sha256)
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="cannot be read"):
        assert not has_stage1(tmp_path, "abc")
    assert save_stage1(tmp_path, model, "abc") == sha256
    assert has_stage1(tmp_path, "abc", sha256)


def test_no_damage_of_a_kept_epoch_passes(tmp_path):
    state = {"identity": "x", "model": {"a": torch.randn(64)}, "progress": {"epoch": 1}}
    EpochWriter(tmp_path, waits=True).write(state)
    path = tmp_path / LAST_EPOCH
    content = path.read_bytes()
    assert torch.equal(load_epoch(tmp_path, "x", "cpu")["model"]["a"], state["model"]["a"])
    for damaged in damages(content):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="the stage begins anew"):
            assert load_epoch(tmp_path, "x", "cpu") is None
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="the stage begins anew"):
        assert load_epoch(tmp_path, "x", "cpu") is None
    EpochWriter(tmp_path, waits=True).write(state)
    assert load_epoch(tmp_path, "x", "cpu") is not None


@pytest.mark.parametrize("damage", ["tensor", "header", "truncated", "empty", "another model's"])
def test_stage_1_is_trained_again_and_the_second_stage_has_its_numbers(settings, damage, tmp_path):
    run_group([BASE, SECOND], settings, lambda event: None)
    base, second = settings.store.load(BASE), settings.store.load(SECOND)
    assert base["stage1"] == second["stage1"]
    assert why_not_of_base(second, base) is None
    path = settings.work / settings.scale / "/".join(BASE.parts) / STAGE1
    content = path.read_bytes()
    if damage == "another model's":  # whole, and of the same configuration
        from safetensors.torch import load_file, save_file

        from benchmarks.training.checkpoint import MADE_OF
        from resora.adapted.values import sha256_of

        state = {name: value + 0.5 for name, value in load_file(path).items()}
        hashes = f"{base['config_hash']} {sha256_of(state)}"
        save_file(state, path, metadata={MADE_OF: hashes})
    else:
        path.write_bytes(
            {
                "tensor": flipped(content, 8 * len(content) - 2),
                "header": flipped(content, 3),
                "truncated": content[: len(content) // 2],
                "empty": b"",
            }[damage]
        )
    settings.store.path(SECOND).unlink()
    with pytest.warns(UserWarning, match="stage 1 is trained again"):
        run_group([SECOND], settings, lambda event: None)
    again = settings.store.load(SECOND)
    assert again["status"] == "ok"
    assert (again["metrics"], again["stage1"]) == (second["metrics"], second["stage1"])
    assert path.read_bytes() == content


def test_reports_can_tell_that_a_second_stage_is_not_of_its_base():
    def record(sha256):
        return {"stage1": None if sha256 is None else {"checkpoint_sha256": sha256}}

    one, other, older = record("a" * 64), record("b" * 64), record(None)
    assert "started from the checkpoint aaaaaaaaaaaa" in why_not_of_base(one, other)
    for pair in ((one, one), (one, older), (older, one), (one, None)):
        assert why_not_of_base(*pair) is None
