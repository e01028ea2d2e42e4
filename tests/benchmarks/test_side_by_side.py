"""Cells that train side by side come to what they come to alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from benchmarks import backbones
from benchmarks.training import side_by_side
from benchmarks.training.finite import Diverged
from benchmarks.training.precision import FP32, Precision
from benchmarks.training.shared_forward import NotShared
from benchmarks.training.trainer import Plan, Problem, Stage
from resora import ReSoRA
from resora.petl import make_method

PLAN = Plan(
    epochs=2, batch_size=4, learning_rate=5e-3, weight_decay=0.05, warmup_epochs=1, evaluate_every=2
)
HEADS = {"vit_micro": "head", "swin_micro": "head.fc", "convnext_micro": "head.fc"}
# method, penalty and seed of cells of one family
CELLS = [("lora-r8", None, 0), ("lora-r2", "linear", 1), ("lora-r4", "nonlinear", 2)]
CELLS += [("lora-r8", "euclidean", 3), ("lora-r2", "cosine", 0)]


class Batches(Problem):
    chance_loss = math.log(10)
    steps = 2

    def __init__(self, dtype):
        self.dtype = dtype

    def batches(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.steps):
            yield (
                torch.randn(4, 3, 32, 32, generator=generator, dtype=self.dtype),
                torch.randint(10, (4,), generator=generator),
            )

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model):
        images = torch.linspace(-1, 1, 3 * 32 * 32, dtype=self.dtype).view(1, 3, 32, 32)
        return {"test_top1_accuracy": float(model(images).sum())}


def stage_of(folder, cell, backbone="vit_micro", dtype=torch.float64, plan=PLAN, precision=FP32):
    name, penalty, seed = cell
    torch.manual_seed(seed)
    config = {"name": backbone, "weights": backbone, "drop_path": 0.2}
    model, _ = backbones.build(config, 10)
    method = make_method(name)
    method.adapt(model, HEADS[backbone])
    for key, parameter in model.named_parameters():
        if key.endswith("lora_b"):  # where penalties have a gradient
            torch.nn.init.normal_(parameter, std=0.02)
    model.to(dtype)
    options = {"sample": "image"} if penalty == "nonlinear" else {}
    return Stage(
        model,
        Batches(dtype),
        plan,
        order_seed=10 + seed,
        noise_seed=20 + seed,
        folder=folder / f"{name}+{penalty}-{seed}",
        identity="x",
        method=method,
        penalty=penalty and ReSoRA(model, penalty, weight=0.3, **options),
        precision=precision,
    )


def both_ways(tmp_path, cells, **options):
    backbone = options.get("backbone", "vit_micro")
    alone = [stage_of(tmp_path / "alone", cell, **options) for cell in cells]
    expected = [stage.run() for stage in alone]
    beside = [stage_of(tmp_path / "beside", cell, **options) for cell in cells]
    found = side_by_side.run(beside, HEADS[backbone])
    return alone, expected, beside, found


def assert_same(tmp_path, cells, tolerance, **options):
    alone, expected, beside, found = both_ways(tmp_path, cells, **options)
    start = [stage_of(tmp_path / "start", cell, **options) for cell in cells]
    for one, other, before in zip(alone, beside, start, strict=True):
        triples = zip(*(list(s.model.parameters()) for s in (one, other, before)), strict=True)
        moved, error = [], []
        for p, q, initial in triples:
            if p.requires_grad:
                moved.append((p - initial).flatten())
                error.append((q - p).flatten())
            else:
                assert torch.equal(q, initial), "what is frozen stays as it was"
        assert torch.cat(error).norm() <= tolerance * torch.cat(moved).norm()
        assert torch.cat(moved).norm() > 0
    for one, other in zip(expected, found, strict=True):
        assert one.curves.keys() == other.curves.keys()
        for name, series in one.curves.items():
            pairs = list(zip(series, other.curves[name], strict=True))
            assert [p is None for p, _ in pairs] == [q is None for _, q in pairs], name
            for p, q in pairs:
                assert q == p or q == pytest.approx(p, rel=10 * tolerance), name


def test_four_steps_of_five_cells_are_those_of_each_alone(tmp_path):
    assert_same(tmp_path, CELLS, 1e-9)


@pytest.mark.parametrize("backbone", ["swin_micro", "convnext_micro"])
def test_on_other_backbones(tmp_path, backbone):
    assert_same(tmp_path, CELLS[:1] + CELLS[4:], 1e-9, backbone=backbone)


def test_in_float32_they_agree_to_rounding(tmp_path):
    # Adam divides a gradient by its own size, so that a small one's rounding comes out at full size.
    assert_same(tmp_path, CELLS[:3], 2e-3, dtype=torch.float32)


def test_in_bfloat16_they_agree_to_its_rounding(tmp_path):
    _, expected, _, found = both_ways(
        tmp_path, CELLS[:2], dtype=torch.float32, precision=Precision("bf16")
    )
    for one, other in zip(expected, found, strict=True):
        assert other.curves["train_loss"] == pytest.approx(one.curves["train_loss"], rel=0.01)


def test_a_killed_run_goes_on_although_its_cells_stopped_apart(tmp_path, monkeypatch):
    plan = replace(PLAN, epochs=3, evaluate_every=3)
    _, expected, _, _ = both_ways(tmp_path, CELLS[:2], plan=plan)
    first, second = (stage_of(tmp_path / "killed", cell, plan=plan) for cell in CELLS[:2])
    closed = []

    def stop(stage):
        plain = stage.close_epoch

        def close(progress, loss, penalty):
            closed.append(stage)
            if len(closed) == 4:
                raise KeyboardInterrupt
            plain(progress, loss, penalty)

        stage.close_epoch = close

    stop(first)
    stop(second)
    with pytest.raises(KeyboardInterrupt):
        side_by_side.run([first, second], "head")
    again = [stage_of(tmp_path / "killed", cell, plan=plan) for cell in CELLS[:2]]
    found = side_by_side.run(again, "head")
    for one, other in zip(expected, found, strict=True):
        assert other.curves["train_loss"] == pytest.approx(one.curves["train_loss"], rel=1e-8)
        assert other.epoch == 3


def test_one_that_diverges_leaves_the_others(tmp_path):
    wild = replace(PLAN, learning_rate=1e30)
    plans = [PLAN, wild, PLAN]
    stages = [stage_of(tmp_path, cell, plan=plan) for cell, plan in zip(CELLS, plans, strict=False)]
    found = side_by_side.run(stages, "head")
    assert isinstance(found[1], Diverged)
    for index in (0, 2):
        expected = stage_of(tmp_path / "alone", CELLS[index]).run()
        assert found[index].curves["train_loss"] == pytest.approx(
            expected.curves["train_loss"], rel=1e-8
        )


def test_what_cannot_be_joined_is_refused(tmp_path):
    one = stage_of(tmp_path, CELLS[0])
    with pytest.raises(NotShared, match="batch size"):
        side_by_side.SideBySide(
            [one, stage_of(tmp_path, CELLS[1], plan=replace(PLAN, batch_size=2))], "head"
        )
    for name in ("moslora-r4", "linear", "full"):
        with pytest.raises(NotShared, match="only plain LoRA"):
            side_by_side.SideBySide([one, stage_of(tmp_path, (name, None, 0))], "head")
    other = stage_of(tmp_path, CELLS[1])
    other.model.blocks[2].norm1.weight.data[3] += 1
    with pytest.raises(NotShared, match="frozen weights differ"):
        side_by_side.SideBySide([one, other], "head")
    half = stage_of(tmp_path, CELLS[1], dtype=torch.float32, precision=Precision("bf16"))
    with pytest.raises(NotShared, match="precision"):
        side_by_side.SideBySide([one, half], "head")


def test_frozen_weights_are_there_once(tmp_path):
    stages = [stage_of(tmp_path, cell) for cell in CELLS[:3]]
    side_by_side.SideBySide(stages, "head")
    storages = {stage.model.blocks[0].mlp.fc1.weight.data_ptr() for stage in stages}
    assert len(storages) == 1
    own = {stage.model.head.weight.data_ptr() for stage in stages}
    assert len(own) == 3
