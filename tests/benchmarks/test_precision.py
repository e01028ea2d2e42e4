"""What a training computes in: float32 is what it was, bfloat16 is near it."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks import backbones
from benchmarks.harness.cell import Cell
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import pending
from benchmarks.harness.provenance import ROOT
from benchmarks.harness.registry import benchmark_named, declared, select
from benchmarks.harness.spec import config_hash
from benchmarks.harness.workers import run_many
from benchmarks.training.precision import FP32, Precision, hold_in_half
from benchmarks.training.trainer import Plan, Problem, Stage
from resora import ReSoRA
from resora.petl import METHODS, make_method

PLAN = Plan(
    epochs=2, batch_size=8, learning_rate=5e-3, weight_decay=0.05, warmup_epochs=1, evaluate_every=2
)
VIT = [name for name in METHODS if name != "noah" and METHODS[name].refusal("vit") is None]
RANKED = {"lora", "moslora", "adalora", "srlora"}


def adapted(name="lora-r4"):
    torch.manual_seed(0)
    config = {"name": "vit_micro", "weights": "random", "drop_path": 0.1}
    model, _ = backbones.build(config, 10)
    method = make_method(name)
    method.adapt(model, "head")
    torch.manual_seed(1)
    for parameter in model.parameters():  # an update that is not zero
        if parameter.requires_grad and parameter.ndim > 1:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
    return model.train(), method


class TwoBatches(Problem):
    chance_loss = math.log(10)
    steps = 2

    def batches(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.steps):
            yield torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model):
        return {"test_top1_accuracy": float(model(torch.ones(1, 3, 32, 32)).sum())}


def trained(folder, precision=FP32):
    model, method = adapted()
    regularizer = ReSoRA(model, weight=0.1)
    stage = Stage(
        model,
        TwoBatches(),
        PLAN,
        order_seed=3,
        noise_seed=4,
        folder=folder,
        identity="x",
        method=method,
        penalty=regularizer,
        precision=precision,
    )
    return model, stage.run()


def test_float32_is_the_plain_loop_to_the_bit(tmp_path):
    model, progress = trained(tmp_path)
    plain, _ = adapted()
    regularizer = ReSoRA(plain, weight=0.1)
    free = [p for p in plain.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in free if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in free if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-3, fused=True)
    losses = []
    for epoch in range(2):
        torch.manual_seed(4 + epoch)
        for step, (x, y) in enumerate(TwoBatches().batches(3 + epoch)):
            at = epoch + step / 2
            warm = at + 0.5 if epoch < 1 else 1.0
            for group in optimizer.param_groups:
                group["lr"] = 5e-3 * 0.5 * (1 + math.cos(math.pi * at / 2)) * warm
            loss = functional.cross_entropy(plain(x), y)
            losses.append(loss.detach())
            optimizer.zero_grad()
            (loss + regularizer()).backward()
            optimizer.step()
    for (name, one), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert progress.curves["train_loss"] == [
        torch.stack(losses[at : at + 2]).mean().item() for at in (0, 2)
    ]


def test_a_step_in_bfloat16_is_near_the_one_in_float32(tmp_path):
    model, whole = trained(tmp_path / "a")
    rounded, half = trained(tmp_path / "b", Precision("bf16"))
    start, _ = adapted()
    steps, errors = [], []
    for one, other, before in zip(
        model.parameters(), rounded.parameters(), start.parameters(), strict=True
    ):
        assert other.dtype == torch.float32
        if one.requires_grad:
            steps.append((one - before).flatten())
            errors.append((other - one).flatten())
    # 8 bits: each number is off by 0.2 %, and Adam takes the sign of a small gradient for its size.
    assert 0 < torch.cat(errors).norm() < 0.2 * torch.cat(steps).norm()
    for name in ("train_loss", "penalty"):
        assert half.curves[name] == pytest.approx(whole.curves[name], rel=0.01)
        assert half.curves[name] != whole.curves[name]


@pytest.mark.parametrize("name", VIT)
def test_weights_held_in_bfloat16_give_the_same_bits(name):
    name = f"{name}-r4" if name in RANKED else name
    runs = []
    for is_held in (False, True):
        model, method = adapted(name)
        count = hold_in_half(model, method) if is_held else 0
        torch.manual_seed(2)
        with Precision("bf16").forward("cpu"):
            loss = model(torch.randn(4, 3, 32, 32)).float().square().mean()
        loss.backward()
        runs.append((loss, [p.grad for p in model.parameters() if p.requires_grad]))
    changes_what_it_froze = name in ("srlora-r4", "adalora-r4")
    trains_all = name == "full"
    assert (count == 0) is (changes_what_it_froze or trains_all)
    assert torch.equal(runs[0][0], runs[1][0])
    for one, other in zip(runs[0][1], runs[1][1], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize(("name", "first"), [("lora-r4", 0), ("partial", 5), ("linear", 6)])
def test_nothing_before_what_is_trained_has_a_gradient(name, first):
    model, _ = adapted(name)
    asked = {}
    places = {f"blocks.{index}": model.blocks[index] for index in range(6)}
    places |= {"patch_embed": model.patch_embed, "norm1": model.blocks[0].norm1}
    for place, module in places.items():
        module.register_forward_hook(
            lambda module, inputs, out, place=place: asked.__setitem__(place, out.requires_grad)
        )
    loss = model(torch.randn(2, 3, 32, 32)).sum()
    assert not asked["patch_embed"]
    assert not asked["norm1"]
    assert [asked[f"blocks.{index}"] for index in range(6)] == [False] * first + [True] * (
        6 - first
    )
    loss.backward()
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_committed_records_keep_their_hash():
    seen = set()
    for path in sorted((ROOT / "results" / "micro").rglob("*.json")):
        cell = Cell.parse("/".join(path.relative_to(ROOT / "results/micro").with_suffix("").parts))
        if (cell.benchmark, cell.backbone, cell.method) in seen:
            continue
        seen.add((cell.benchmark, cell.backbone, cell.method))
        benchmark, scale = declared(cell, "micro")
        config = benchmark.config(cell, scale)
        assert config_hash(config) == json.loads(path.read_text())["config_hash"], cell
        if benchmark.is_timed:  # it measures several precisions, or names one of its own
            continue
        assert config["training"]["precision"] == "fp32"
        other = benchmark.config(cell, scale, {"training.precision": "bf16"})
        assert config_hash(other) != config_hash(config)
    assert {"vtab1k", "fewshot", "flickr30k"} <= {benchmark for benchmark, _, _ in seen}


def test_precision_is_a_setting_of_a_run(settings, tmp_path):
    selector = "vtab1k/vit_micro/eurosat/lora-r2+linear"
    few = {"data.limit_train": 16, "data.limit_test": 8}
    few |= {"stage1.batch_size": 8, "stage2.batch_size": 8}
    settings = dataclasses.replace(settings, overrides=settings.overrides | few)
    other = dataclasses.replace(
        settings,
        results=tmp_path / "r2",
        work=tmp_path / "w2",
        overrides=settings.overrides | {"training.precision": "bf16"},
    )
    records = []
    for one in (settings, other):
        run_many(pending(select([selector], "smoke"), one), one, 1, lambda event: None)
        record = one.store.load(Cell.parse(f"{selector}/0"))
        assert record["status"] == "ok", record["error"]
        records.append(record)
    whole, half = records
    assert half["config"]["training"]["precision"] == "bf16"
    assert half["protocol"]["sources"]["training.precision"] == "command line"
    assert whole["stage1"]["config_hash"] != half["stage1"]["config_hash"]
    found, expected = (r["curves"]["stage2"]["train_loss"] for r in (half, whole))
    assert found != expected
    assert found == pytest.approx(expected, rel=0.02)


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="did you mean 'bf16'"):
        Precision.of({"training": {"precision": "bf61"}})
    assert Precision.of({}) == FP32
    paper = benchmark_named("vtab1k").scales["paper"]
    assert "training.precision" not in paper.choices or paper.choices["training.precision"].source


@pytest.mark.parametrize(("name", "is_plain"), [("bf16", True), ("fp32", False)])
def test_a_cpu_attends_in_the_plain_form_in_bfloat16_alone(name, is_plain):
    q = torch.randn(2, 2, 5, 8, requires_grad=True)
    precision = Precision(name)
    before = torch.backends.cuda.flash_sdp_enabled()
    with precision.session("cpu"), precision.forward("cpu"):
        y = functional.scaled_dot_product_attention(q, q, q)
    assert ("Flash" not in y.grad_fn.name()) is is_plain
    assert torch.backends.cuda.flash_sdp_enabled() is before is True


@pytest.mark.gpu
def test_tf32_is_on_where_it_is_named_and_nowhere_else():
    layer = nn.Linear(512, 512).cuda()
    x = torch.randn(512, 512, device="cuda")
    exact = layer.double()(x.double())
    layer.float()
    errors = {}
    for name in ("fp32", "tf32"):
        with Precision(name).session("cuda"):
            errors[name] = (layer(x).double() - exact).abs().max().item()
    assert errors["fp32"] < 1e-4 < errors["tf32"]


@pytest.mark.gpu
def test_no_step_waits_for_the_device(tmp_path):
    model, method = adapted()
    model.cuda()
    batches = [(x.cuda(), y.cuda()) for x, y in TwoBatches().batches(0)]
    regularizer = ReSoRA(model, weight=0.1)
    stage = Stage(
        model, TwoBatches(), PLAN, order_seed=0, noise_seed=0, folder=tmp_path, identity="x",
        method=method, penalty=regularizer, precision=Precision("bf16"),
    )  # fmt: skip
    model.train()

    def step():
        for batch in batches:
            with stage.precision.forward("cuda"):
                loss = stage.problem.loss(model, batch)
            stage._update(loss + regularizer(), (0, 1))

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
