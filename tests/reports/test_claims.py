"""The paper's claims: each verdict for a reason that is worked out by hand; the list itself."""

from __future__ import annotations

import csv
import io
import tomllib

import pytest

from benchmarks.harness.registry import BENCHMARKS
from reports import claims
from reports.claims import costs, listing
from reports.claims.judging import Verdict
from reports.cli import main
from reports.grid import load_grid
from reports.published import FOLDER

SUPPORTED, CONTRADICTED = Verdict.SUPPORTED, Verdict.CONTRADICTED
UNDECIDED, NOT_RUN = Verdict.UNDECIDED, Verdict.NOT_RUN
TASKS = ("cifar100", "caltech101", "eurosat")


def judged(world, kind, **how):
    claim = claims.Claim(id="a", place="b", statement="c", paper="", kind=kind, backbone=0, how=how)
    scale = world.benchmark.scales["micro"]
    grid = load_grid(world.benchmark, scale, "vit_micro", world.results)
    return listing.judge(claim, [grid], world.results)


def gain(world, method, base, points):
    """Make a method better than its base by so many points, by task, on both seeds."""
    for task, gained in zip(TASKS, points, strict=True):
        for seed in (0, 1):
            world.write(task, base, seed, 0.5)
            world.write(task, method, seed, 0.5 + gained / 100)


PAIR = ["lora-r8+linear", "lora-r8"]


@pytest.mark.parametrize(
    ("points", "verdict", "numbers"),
    [
        # Mean 2, std 0.2, t(2, 0.975) / sqrt(3) = 2.4841: half width 0.497.
        ((1.8, 2.0, 2.2), SUPPORTED, "+2.00 [+1.50, +2.50]"),
        ((-1.8, -2.0, -2.2), CONTRADICTED, "-2.00 [-2.50, -1.50]"),
        # Mean 2, std 1: half width 2.48.
        ((1.0, 2.0, 3.0), UNDECIDED, "+2.00 [-0.48, +4.48]"),
    ],
)
def test_the_interval_decides(full_world, points, verdict, numbers):
    gain(full_world, "lora-r8+linear", "lora-r8", points)
    found = judged(full_world, "accuracy", pairs=[PAIR])
    assert found.verdict is verdict
    (line,) = found.numbers
    assert f"lora-r8+linear − lora-r8: {numbers}; over the control " in line
    assert found.n_pairs == 6


def test_a_missing_task_is_not_run_and_says_what_is_missing(full_world):
    for seed in (0, 1):
        full_world.path("eurosat", "lora-r8+linear", seed).unlink()
    found = judged(full_world, "accuracy", pairs=[PAIR])
    assert found.verdict is NOT_RUN
    assert found.missing == {("vit_micro", "lora-r8+linear"): (2, 6)}


def test_each_of_several_parts(full_world):
    """Supported with all; contradicted by one; undecided with one; not run with a hole alone."""
    control = ["lora-r8+control", "lora-r8"]
    gain(full_world, "lora-r8+linear", "lora-r8", (1.8, 2.0, 2.2))
    gain(full_world, "lora-r8+control", "lora-r8", (2.8, 3.0, 3.2))
    assert judged(full_world, "accuracy", pairs=[PAIR, control]).verdict is SUPPORTED
    gain(full_world, "lora-r8+control", "lora-r8", (1.0, 2.0, 3.0))
    assert judged(full_world, "accuracy", pairs=[PAIR, control]).verdict is UNDECIDED
    gain(full_world, "lora-r8+control", "lora-r8", (-2.8, -3.0, -3.2))
    found = judged(full_world, "accuracy", pairs=[PAIR, control])
    assert found.verdict is CONTRADICTED
    assert found.numbers[0].startswith("lora-r8+control")  # what decides comes first
    for seed in (0, 1):
        full_world.path("eurosat", "lora-r8+control", seed).unlink()
    found = judged(full_world, "accuracy", pairs=[PAIR, control])
    assert found.verdict is NOT_RUN
    assert found.numbers[0].startswith("lora-r8+linear")


def test_one_of_many_parts_below_zero_by_chance_contradicts_nothing(full_world):
    """Mean -2, std 0.7: half width 1.74 at 95 %, 2.52 at 97.5 % (t(2, 0.9875) = 6.205)."""
    gain(full_world, "lora-r8+control", "lora-r8", (-1.3, -2.0, -2.7))
    gain(full_world, "lora-r8+linear", "lora-r8", (1.8, 2.0, 2.2))
    control = ["lora-r8+control", "lora-r8"]
    alone = judged(full_world, "accuracy", pairs=[control])
    assert alone.verdict is CONTRADICTED
    both = judged(full_world, "accuracy", pairs=[PAIR, control])
    assert both.verdict is UNDECIDED
    assert "-2.00 [-3.74, -0.26]" in " ".join(both.numbers)


def test_over_groups_and_tasks(full_world):
    gain(full_world, "lora-r8+linear", "lora-r8", (1.9, 2.1, -1.0))
    found = judged(full_world, "accuracy", pairs=[PAIR], over="groups")
    # Natural: 1.9 and 2.1, t(1): half width 1.27. Specialized: both seeds -1.
    assert any("on Natural: +2.00 [+0.73, +3.27]" in line for line in found.numbers)
    assert any("on Specialized: -1.00 [-1.00, -1.00]" in line for line in found.numbers)
    assert found.verdict is CONTRADICTED
    one = judged(full_world, "accuracy", pairs=[PAIR], over="tasks", tasks=["cifar100"])
    assert one.verdict is SUPPORTED


def test_the_first_epoch_of_stage_2(full_world):
    for method, first in (("lora-r8+linear", 0.6), ("lora-r8+control", 0.5)):
        for task in TASKS:
            for seed in (0, 1):
                curves = {"stage2": {"epoch": [1, 2, 3], "test_top1_accuracy": [None, first, 0.1]}}
                full_world.write(task, method, seed, 0.1, curves=curves)
    pair = ["lora-r8+linear", "lora-r8+control"]
    found = judged(full_world, "accuracy", pairs=[pair], over="tasks", at="first")
    assert found.verdict is SUPPORTED
    assert len(found.numbers) == 3
    assert judged(full_world, "accuracy", pairs=[pair]).verdict is UNDECIDED  # both 10 % at the end


def test_a_larger_gain(full_world):
    """lora-r8+linear gains 2 over the base on each task, the control 0.5, 1, 1.5 less or more."""
    gain(full_world, "lora-r8+linear", "lora-r8", (2.0, 2.0, 2.0))
    gain(full_world, "lora-r8+control", "lora-r8", (0.9, 1.0, 1.1))
    quad = ["lora-r8+linear", "lora-r8", "lora-r8+control", "lora-r8"]
    found = judged(full_world, "gain", quads=[quad])
    assert found.verdict is SUPPORTED
    # 1.1, 1.0, 0.9: mean 1, std 0.1: half width 0.248.
    assert found.numbers == (
        "gain of lora-r8+linear − gain of lora-r8+control: +1.00 [+0.75, +1.25]",
    )


def test_redundancy_and_its_floor(full_world):
    # Every record of the small world ends at 0.2.
    found = judged(full_world, "redundancy", pairs=[PAIR])
    assert found.verdict is UNDECIDED
    assert found.numbers == (
        "lora-r8+linear: 0.200, lora-r8: 0.200; lower by 0.000 [+0.000, +0.000]",
    )
    assert judged(full_world, "floor", methods=["lora-r8"], floor=0.1).verdict is SUPPORTED
    assert judged(full_world, "floor", methods=["lora-r8"], floor=0.3).verdict is CONTRADICTED
    assert judged(full_world, "floor", methods=["linear"], floor=0.1).verdict is NOT_RUN


def test_parameters_are_compared_exactly(full_world):
    assert judged(full_world, "parameters", pairs=[PAIR]).verdict is SUPPORTED
    found = judged(full_world, "parameters", pairs=[["lora-r8", "linear"]])
    assert found.verdict is CONTRADICTED
    assert found.numbers == ("lora-r8 and linear: differ on caltech101, cifar100, eurosat",)


def test_an_empty_store_runs_no_claim(tmp_path, capsys):
    assert main(["claims", "--results", str(tmp_path), "--scale", "micro"]) == 3
    out = capsys.readouterr().out
    n = len(claims.load_claims())
    assert f"{n} claims: supported: 0, contradicted: 0, not distinguishable: 0, not run: {n}" in out
    assert "python -m benchmarks run 'vtab1k/vit_micro/*/lora-r8+linear' --scale micro" in out
    assert max(map(len, out.splitlines())) <= 120
    assert "EMBEDDED WORLD" in out


def test_csv_and_markdown_have_every_claim(tmp_path, capsys):
    options = ["claims", "--results", str(tmp_path), "--scale", "paper"]
    main([*options, "--format", "csv"])
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["claim"] for line in lines] == [claim.id for claim in claims.load_claims()]
    assert {line["verdict"] for line in lines} == {"not run"}
    main([*options, "--format", "markdown"])
    text = capsys.readouterr().out
    assert all(f"| {claim.id} " in text for claim in claims.load_claims())
    assert "EMBEDDED" not in text
    assert main(["claims", "--scale", "papr"]) == 2


def test_every_claim_is_about_what_is_declared():
    vtab = BENCHMARKS["vtab1k"]
    found = claims.load_claims()
    assert len({claim.id for claim in found}) == len(found) >= 25
    for claim in found:
        assert claim.place
        assert claim.statement.endswith(".")
        if claim.kind == "absent":
            assert claim.how["benchmark"] not in BENCHMARKS, "it is here now: judge it"
            continue
        for scale in vtab.scales.values():
            backbone = scale.backbones[claim.backbone]
            declared = vtab.methods_on.get(backbone, vtab.methods)
            rows = [*claim.how.get("pairs", ()), *claim.how.get("quads", ())]
            methods = [*claim.how.get("methods", ()), *(name for row in rows for name in row)]
            assert set(methods) <= set(declared), claim.id
        assert set(claim.how.get("tasks", ())) <= {task.name for task in vtab.tasks}, claim.id


def test_the_facts_of_figure_4_name_the_declared_tasks():
    raw = tomllib.loads((FOLDER / "figure4.toml").read_text(encoding="utf-8"))
    by_id = {claim.id: claim for claim in claims.load_claims()}
    for fact in ("faster", "steady"):
        assert sorted(raw[fact]) == sorted(by_id[fact].how["tasks"])


def gpu(euclidean, others, gpu="NVIDIA H100"):
    ratios = dict.fromkeys(costs.PENALTIES, others) | {"euclidean": euclidean}
    metrics = {f"step_ratio/closed-{name}": {"median": 1 + r} for name, r in ratios.items()}
    metrics |= {f"own_share/closed-{name}": {"median": r} for name, r in ratios.items()}
    variants = {f"closed-{n}": {"peak_memory_bytes": 2**31 + r * 2**30} for n, r in ratios.items()}
    return {
        "cell": {"method": "lora-r2", "task": "cuda-bf16"},
        "hardware": {"gpu": gpu, "cpu": "a CPU"},
        "metrics": metrics,
        "cost": {"by_variant": variants | {"baseline": {"peak_memory_bytes": 2**31}}},
    }


@pytest.mark.parametrize(
    ("record", "time", "memory", "cheapest"),
    [
        (gpu(0.1, 0.3), True, True, True),
        (gpu(0.5, 0.3), False, True, False),
        (gpu(0.2, 0.7), False, False, True),
    ],
)
def test_costs_on_a_gpu(record, time, memory, cheapest):
    assert costs._holds(record, "time", 1.34) is time
    assert costs._holds(record, "memory", 0.6) is memory
    assert costs._holds(record, "cheapest", None) is cheapest


def test_costs_on_a_cpu_are_shown_and_judge_nothing(tmp_path):
    assert costs.judge(tmp_path, "time", 1.34).verdict is NOT_RUN
    found = costs.judge(FOLDER.parents[1] / "results", "time", 1.34)
    if found.verdict is NOT_RUN:  # until someone commits a record of a GPU
        assert found.numbers[-1] == "no GPU record; the paper's is of a GPU"
