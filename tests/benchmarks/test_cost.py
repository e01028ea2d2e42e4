"""The cost benchmark: what its variants compute, what it counts, and its runs at the smallest scale."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.cost import counting, runner
from benchmarks.cost.adapters import make_method
from benchmarks.cost.spec import (
    BASELINE,
    CONTROL,
    COST,
    PAPER_METHOD,
    SYMBOLS,
    VARIANTS,
    variants_of,
)
from benchmarks.cost.step import OwnCost, TrainingStep, closed_penalty
from benchmarks.cost.timing import fast_algorithms, ratios, rotated, summary
from benchmarks.harness import workers
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.execute import Settings, run_cell
from benchmarks.harness.forecast import Forecast, estimate
from benchmarks.harness.registry import select
from benchmarks.harness.store import State
from resora import ReSoRA

CELL = Cell("cost", "vit_micro", "cpu-fp32", "lora-r2", 0)
BY_NAME = {variant.name: variant for variant in VARIANTS}
LITERAL = [variant for variant in VARIANTS if variant.form in ("literal", "maps")]


def config_of(cell, **overrides):
    return COST.config(cell, COST.scales["smoke"], overrides)


def step_of(method):
    cell = CELL.with_method(method)
    return TrainingStep(cell, config_of(cell), "cpu")


@pytest.fixture(scope="module")
def step():
    return step_of("lora-r2")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The record of a cell at the scale smoke, and the settings it ran with."""
    settings = Settings(scale="smoke", results=tmp_path_factory.mktemp("results"), device="cpu")
    rounds = []
    run_cell(CELL, settings, lambda event: rounds.append((event.epoch, event.epochs)))
    total = len(VARIANTS) + 2 + 1
    assert rounds == [*((done, total) for done in range(1, total + 1)), (0, 0)]
    return settings.store.load(CELL), settings


def test_a_cell_measures_every_variant(measured):
    record, settings = measured
    assert record["status"] == "ok", record["error"]
    assert settings.state(CELL) is State.FRESH
    closed = {variant.name for variant in VARIANTS if variant.form == "closed"}
    assert set(record["metrics"]) == {
        *(f"step_ratio/{name}" for name in BY_NAME if name != BASELINE),
        *(f"own_share/{name}" for name in closed),
    }
    for found in record["metrics"].values():
        assert found["median"] > 0
        assert math.isfinite(found["median"])
    assert set(record["cost"]["by_variant"]) == set(BY_NAME)
    rounds, literal = record["curves"]["rounds"], record["curves"]["literal_rounds"]
    assert set(rounds) == {BASELINE, CONTROL, *closed}
    assert set(literal) == {BASELINE, *(variant.name for variant in LITERAL)}
    assert {len(series) for series in rounds.values()} == {2}
    assert {len(series) for series in literal.values()} == {1}
    again = ratios(rounds[CONTROL], rounds[BASELINE])
    assert record["metrics"][f"step_ratio/{CONTROL}"] == summary(again)
    assert record["counts"] | {"batch_size": 4, "tokens": 17, "matrices": 18} == record["counts"]


def test_counts_are_those_of_the_equations(measured):
    counts = measured[0]["cost"]["by_variant"]
    base = counts[BASELINE]
    assert counts[CONTROL] == base
    samples, width, matrices, rank = 4 * 17, 160, 18, 2
    # Each of r maps d x d is applied to every token; R_l has three d x d products for a pair.
    maps = 2 * matrices * rank * width**2 * samples
    assert counts["maps-euclidean"]["forward_flops"] - base["forward_flops"] == maps
    assert counts["maps-cosine"]["forward_flops"] - base["forward_flops"] == maps
    assert counts["literal-euclidean"]["forward_flops"] == base["forward_flops"]
    gram = 2 * matrices * width**2 * samples
    assert (counts["literal-linear"]["forward_flops"] - base["forward_flops"]) % gram == 0
    assert counts["literal-linear"]["forward_flops"] >= base["forward_flops"] + 3 * gram
    # Twice again in the backward pass, but for the input of the first of six blocks: no gradient.
    extra = counts["maps-euclidean"]["step_flops"] - base["step_flops"]
    assert extra == 3 * maps - maps // 6
    for symbol in ("linear", "cosine", "euclidean"):
        closed, literal = counts[f"closed-{symbol}"], counts[f"literal-{symbol}"]
        assert closed["peak_memory_bytes"] < literal["peak_memory_bytes"]
        assert 0 < closed["aten_ops"] - base["aten_ops"] < literal["aten_ops"] - base["aten_ops"]
        assert closed["step_flops"] < 1.01 * base["step_flops"]


@pytest.mark.parametrize("method", ["lora-r2", "dtl", "dtl-r2"])
@pytest.mark.parametrize("variant", LITERAL, ids=lambda variant: variant.name)
def test_literal_variants_have_the_value_and_gradient_of_the_closed_ones(method, variant):
    step = step_of(method)
    config = config_of(CELL.with_method(method))["penalty"]
    step.forget_gradients()
    with step.penalised(variant) as penalty:
        step.loss(None)
        expected = penalty()
        expected.backward()
    literal = [parameter.grad for parameter in step.trained]
    step.forget_gradients()
    options = {
        "euclidean": {"beta": config["literal_beta"]},
        "nonlinear": {"fraction": config["fraction"], "width": "median"},
    }.get(variant.penalty, {})
    weight = config["weight"]
    closed = ReSoRA(step.model, variant.penalty, weight=weight, sample=variant.sample, **options)
    step.loss(None)
    value = closed()
    value.backward()
    closed.close()
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    found = [parameter.grad for parameter in step.trained]
    # R_c as printed has rounding errors where the gradient is zero.
    scale = max(float(grad.abs().max()) for grad in found if grad is not None)
    for grad, theirs in zip(found, literal, strict=True):
        if grad is not None:
            torch.testing.assert_close(grad, theirs, rtol=1e-3, atol=1e-3 * scale)


def test_a_penalty_alone_has_the_gradients_of_the_one_in_the_step(step):
    # Those of R_c do not go through the layers before: z enters by its signs.
    variant = BY_NAME["closed-cosine"]
    step.forget_gradients()
    OwnCost(step, variant)()
    alone = {name: p.grad for name, p in step.model.named_parameters() if "lora_b" in name}
    step.forget_gradients()
    with step.penalised(variant) as penalty:
        step.loss(None)
        penalty().backward()
    assert len(alone) == 6
    for name, found in alone.items():
        torch.testing.assert_close(found, step.model.get_parameter(name).grad)
        assert found.abs().max() > 0


def test_a_step_leaves_no_listener_behind(step):
    for variant in VARIANTS:
        with step.penalised(variant) as penalty:
            step(penalty)
    handles = [hook for module in step.model.modules() for hook in module._forward_pre_hooks]
    taps = [m._taps._records for m in step.model.modules() if hasattr(m, "_taps")]
    assert handles == []
    assert len(taps) == 6
    assert not any(taps)


def test_peak_memory_sees_what_a_penalty_keeps(step):
    size = 1_000_000
    leaf = torch.ones(size, requires_grad=True)
    step(None)

    def keeps():
        # Its inner tensor is kept for the backward pass, which makes two more of its size at a time.
        return 0.0 * (leaf + 1).square().sum()

    extra = counting.peak_memory(step, keeps) - counting.peak_memory(step, None)
    assert 4 * size <= extra <= 4 * 4 * size


def test_summary_by_hand():
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert summary([3.0]) == {"median": 3.0, "lower_quartile": None, "upper_quartile": None}
    expected = {"median": 3.0, "lower_quartile": 2.0, "upper_quartile": 4.0}
    assert summary([5.0, 1.0, 3.0, 2.0, 4.0]) == expected


def test_every_variant_comes_first_in_some_round():
    assert [rotated("abc", index) for index in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_deterministic_algorithms_are_off_while_measuring_and_back_after():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with fast_algorithms():
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_literal_variant_that_does_not_fit_is_left_out(monkeypatch, tmp_path):
    plain = counting.count

    def count(step, variant):
        if variant.form == "literal":
            raise torch.OutOfMemoryError("no room")
        return plain(step, variant)

    monkeypatch.setattr(runner, "count", count)
    cell = CELL.with_method("dtl-r2")
    settings = Settings(scale="smoke", results=tmp_path, device="cpu")
    assert run_cell(cell, settings, lambda event: None) == "ok"
    record = settings.store.load(cell)
    left_out = record["protocol"]["left_out"]
    assert left_out == {f"literal-{name}": "out of memory" for name in SYMBOLS}
    assert "step_ratio/literal-linear" not in record["metrics"]
    assert "step_ratio/maps-linear" in record["metrics"]


def test_weights_that_are_not_finite_fail_the_cell(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "variants_of", lambda method: variants_of("full"))
    cell = CELL.with_method("dtl-r2")
    rate = {"optimizer.learning_rate": math.inf}
    measurement = runner.Measurement(cell, config_of(cell, **rate), _context(tmp_path))
    with pytest.raises(runner.NotFinite):
        measurement.run(0.0)


def _context(folder):
    return runner.Context(data=folder, work=folder, device="cpu", on_epoch=lambda *event: None)


def test_dtl_sized_updates_have_dtls_count():
    step = step_of("dtl-r2")
    trained = sum(p.numel() for p in step.trained) - sum(
        p.numel() for p in step.model.head.parameters()
    )
    assert trained == 6 * 2 * 2 * 160
    assert [len(z) for _, z in step.activations()] == [1] * 6


@pytest.mark.parametrize("method", COST.methods)
def test_methods_can_be_made(method):
    made = make_method(**config_of(CELL.with_method(method))["method"])
    assert made.options().get("rank") == {"full": None, "lora-r8": 8}.get(method, 2)


def test_there_is_nothing_to_penalise_in_full(tmp_path):
    settings = Settings(scale="smoke", results=tmp_path, device="cpu")
    cell = CELL.with_method("full")
    assert run_cell(cell, settings, lambda event: None) == "ok"
    record = settings.store.load(cell)
    assert set(record["cost"]["by_variant"]) == {BASELINE, CONTROL}
    assert set(record["metrics"]) == {f"step_ratio/{CONTROL}"}
    assert (record["counts"]["matrices"], record["counts"]["tokens"]) == (0, 17)
    assert record["cost"]["trainable_params"] > 1e6


def test_a_step_of_dtl_keeps_less_than_one_of_its_sizes(tmp_path):
    # Its backward pass ends at the first block that gets the side network's sum.
    steps = {method: step_of(method) for method in ("dtl", "dtl-r2")}
    for step in steps.values():
        step(None)
    small, large = (counting.count(steps[m], BY_NAME[BASELINE]) for m in ("dtl", "dtl-r2"))
    assert small.step_flops < 0.8 * large.step_flops
    assert small.peak_memory_bytes < large.peak_memory_bytes


def test_options_of_the_closed_penalty_are_the_declared_ones(step):
    penalty = closed_penalty(
        step.model, BY_NAME["closed-nonlinear-token"], {"weight": 2.0, "fraction": 0.3}
    )
    assert (penalty.weight, penalty.sample, penalty.options) == (2.0, "token", {"fraction": 0.3})
    penalty.close()


def test_cells_of_an_absent_device_are_left_out(capsys, tmp_path):
    options = ["--device=cpu", "--jobs=1", f"--results={tmp_path}"]
    assert main(["run", "cost/*/*/dtl-r2", *options, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "left out: 2 of 3 cells need the device cuda" in out
    assert "1 cells chosen" in out
    assert main(["run", "cost/*/cuda-*", *options]) == 2
    error = capsys.readouterr().err
    assert "nothing to run: 10 of 10 cells need the device cuda, which is not available" in error
    assert error.count("\n") == 1


def test_the_device_of_a_cell_is_its_tasks(measured):
    record, settings = measured
    assert record["hardware"]["device"] == "cpu"
    assert main(["run", str(CELL), "--device=cuda", f"--results={settings.results}"]) == 2


def test_timed_cells_run_alone_and_last(monkeypatch, settings):
    calls = []

    def run_groups(groups, settings, jobs, report, seen):
        calls.append(({cell.benchmark for group in groups for cell in group}, jobs))
        return []  # nothing is left to other runs

    monkeypatch.setattr(workers, "_run_groups", run_groups)
    cells = select(["cost/*/cpu-*", "vtab1k/vit_micro/eurosat"], "smoke")
    workers.run_many(cells, settings, 4, lambda event: None)
    assert calls == [({"vtab1k"}, 4), ({"cost"}, 1)]


def test_the_estimate_knows_that_timed_cells_take_turns(measured):
    forecast = Forecast(measured[1], None, any_device=True)
    one, eight = (estimate([CELL] * 40, forecast, jobs) for jobs in (1, 8))
    assert one.replace("in 1 processes", "in 8 processes") == eight


def test_the_paper_has_a_row_for_each_penalty():
    (table,) = COST.tables
    assert set(PAPER_METHOD) <= set(COST.methods)
    assert set(table.rows) == {
        name
        for method in PAPER_METHOD.values()
        for name in (method, *(f"{method}+{one}" for one in SYMBOLS if method != "full"))
    }
    assert {variant.penalty for variant in VARIANTS} == {"", *SYMBOLS}


@pytest.mark.gpu
@pytest.mark.parametrize("task", ["cuda-fp32", "cuda-bf16"])
def test_a_gpu_cell(task, tmp_path):
    cell = Cell("cost", "vit_micro", task, "lora-r2", 0)
    settings = Settings(scale="smoke", results=tmp_path, device="cuda")
    assert run_cell(cell, settings, lambda event: None) == "ok"
    record = settings.store.load(cell)
    assert record["hardware"]["gpu"]
    assert record["cost"]["by_variant"][BASELINE]["peak_memory_bytes"] > 0
