"""The paper's claims: each verdict for a reason that is worked out by hand; the list itself."""

from __future__ import annotations

import csv
import io
import shlex
import tomllib

import pytest

from benchmarks.harness.registry import BENCHMARKS, select
from benchmarks.harness.store import Store
from reports import claims, published
from reports.claims import listing
from reports.claims.judging import Verdict
from reports.cli import main
from reports.published import FOLDER, few_shot
from reports.records import Records, load_grid

SUPPORTED, CONTRADICTED = Verdict.SUPPORTED, Verdict.CONTRADICTED
UNDECIDED, NOT_RUN = Verdict.UNDECIDED, Verdict.NOT_RUN
TASKS = ("cifar100", "caltech101", "eurosat")
PENALTIES = ("euclidean", "cosine", "nonlinear", "linear")


def judged(world, kind, *, drafts=None, **how):
    claim = claims.Claim(
        id="a",
        place="b",
        statement="c",
        paper="",
        kind=kind,
        benchmark="vtab1k",
        backbone=0,
        how=how,
    )
    scale = world.benchmark.scales["micro"]
    store = Store(world.results, scale.name)
    grid = load_grid(world.benchmark, "vit_micro", store, drafts=bool(drafts))
    records = Records(
        results=world.results, scale=scale.name, grids={("vtab1k", "vit_micro"): grid},
        undeclared={}, overrides={},
    )  # fmt: skip
    return listing.judge(claim, records)


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
    assert found.missing == {"lora-r8+linear": (2, 6)}
    assert found.is_lacking
    assert found.command == ("'vtab1k/vit_micro/*/lora-r8+linear'", "--scale micro")


def test_a_missing_seed_is_told_and_does_not_stop_the_verdict(full_world):
    gain(full_world, "lora-r8+linear", "lora-r8", (1.8, 2.0, 2.2))
    full_world.path("eurosat", "lora-r8+linear", 1).unlink()
    found = judged(full_world, "accuracy", pairs=[PAIR])
    assert found.verdict is SUPPORTED
    assert "+2.00 [+1.50, +2.50] (5 of 6 pairs); over the control" in found.numbers[0]
    assert found.missing == {"lora-r8+linear": (1, 6)}
    assert not found.is_lacking


def test_the_control_speaks_up_where_it_gives_another_verdict(full_world):
    """The penalty gains 1.8, 2.0, 2.2 over the base; the control about as much, more, less."""
    gain(full_world, "lora-r8+linear", "lora-r8", (1.8, 2.0, 2.2))
    gain(full_world, "lora-r8+control", "lora-r8", (1.0, 2.0, 3.0))
    found = judged(full_world, "accuracy", pairs=[PAIR])
    assert found.verdict is SUPPORTED
    assert found.numbers[0].endswith(": not distinguishable")
    gain(full_world, "lora-r8+control", "lora-r8", (2.8, 3.0, 3.2))
    found = judged(full_world, "accuracy", pairs=[PAIR])
    assert found.numbers[0].endswith("over the control -1.00 [-1.00, -1.00]: contradicted")
    gain(full_world, "lora-r8+control", "lora-r8", (0.8, 1.0, 1.2))
    found = judged(full_world, "accuracy", pairs=[PAIR])
    assert found.numbers[0].endswith("over the control +1.00 [+1.00, +1.00]")


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
        "lora-r8+linear: 0.200, lora-r8: 0.200; change +0.000 [+0.000, +0.000]",
    )
    assert judged(full_world, "floor", methods=["lora-r8"], floor=0.1).verdict is SUPPORTED
    assert judged(full_world, "floor", methods=["lora-r8"], floor=0.3).verdict is CONTRADICTED
    assert judged(full_world, "floor", methods=["linear"], floor=0.1).verdict is NOT_RUN


def test_parameters_are_compared_exactly(full_world):
    assert judged(full_world, "parameters", pairs=[PAIR]).verdict is SUPPORTED
    found = judged(full_world, "parameters", pairs=[["lora-r8", "linear"]])
    assert found.verdict is CONTRADICTED
    assert found.numbers == (
        "lora-r8 and linear: 46,080 and 0 trained; differ on caltech101, cifar100, eurosat",
    )
    for seed in (0, 1):
        full_world.path("eurosat", "lora-r8", seed).unlink()
    found = judged(full_world, "parameters", pairs=[PAIR])
    assert found.verdict is NOT_RUN
    assert found.missing == {"lora-r8": (2, 6)}


def test_growth_is_the_difference_of_gains_between_groups(full_world):
    """Gains of 1.8 and 2.2 in one group, of 0.5 in the other, whose one task is not labelled like them."""
    gain(full_world, "lora-r8+linear", "lora-r8", (1.8, 2.2, 0.5))
    found = judged(full_world, "growth", pairs=[PAIR], **{"from": "natural", "to": "natural"})
    assert found.verdict is UNDECIDED
    assert found.numbers == (
        "gain of lora-r8+linear at Natural − at Natural: +0.00 [+0.00, +0.00]",
    )
    found = judged(full_world, "growth", pairs=[PAIR], **{"from": "natural", "to": "specialized"})
    assert found.verdict is NOT_RUN


def test_the_best_of_several_is_above_each_rival(full_world):
    gain(full_world, "lora-r8+linear", "lora-r8", (1.8, 2.0, 2.2))
    gain(full_world, "linear", "lora-r8", (1.0, 2.0, 3.0))
    rivals = [["lora-r8+linear", rival] for rival in ("lora-r8", "linear")]
    found = judged(full_world, "accuracy", pairs=rivals)
    assert found.verdict is UNDECIDED
    assert found.numbers[0].startswith("lora-r8+linear − linear: +0.00")
    gain(full_world, "linear", "lora-r8", (0.8, 1.0, 1.2))
    assert judged(full_world, "accuracy", pairs=rivals).verdict is SUPPORTED


def test_of_many_parts_the_first_line_counts_them(full_world):
    gain(full_world, "lora-r8+linear", "lora-r8", (1.9, 2.1, -1.0))
    found = judged(full_world, "accuracy", pairs=[PAIR] * 3, over="tasks")
    assert len(found.numbers) == 10
    # Both seeds of a task are equal, so that no interval holds zero.
    assert found.numbers[0] == (
        "of 9 parts 6 go the claimed way, 6 of them with an interval without zero; 3 go the other "
        "way, 3 of them so"
    )


def test_drafts_count_where_they_are_asked_for_and_are_marked(full_world):
    gain(full_world, "lora-r8+linear", "lora-r8", (1.8, 2.0, 2.2))
    dirty = {"commit": "0123456789abcdef", "dirty": True}
    for seed in (0, 1):
        full_world.write("eurosat", "lora-r8+linear", seed, 0.522, code=dirty)
    assert judged(full_world, "accuracy", pairs=[PAIR]).verdict is NOT_RUN
    found = judged(full_world, "accuracy", drafts=True, pairs=[PAIR])
    assert found.is_draft
    claim = claims.load_claims()[0]
    for text in (
        claims.render_terminal([(claim, found)], "micro", full_world.results),
        claims.render_markdown([(claim, found)], "micro"),
    ):
        assert "DRAFT" in text


def test_an_empty_store_runs_no_claim(tmp_path, capsys):
    assert main(["claims", "--results", str(tmp_path), "--scale", "micro"]) == 3
    out = capsys.readouterr().out
    n = len(claims.load_claims())
    assert f"{n} claims: supported: 0, contradicted: 0, not distinguishable: 0, not run: {n}" in out
    assert "python -m benchmarks run 'vtab1k/vit_micro/*/lora-r8+linear'" in out
    assert max(map(len, out.splitlines())) <= 120
    assert "EMBEDDED WORLD" in out


def test_a_command_fills_the_records_that_were_looked_for(tmp_path, capsys):
    """With the settings and the folder of the call; its lines can be pasted, and choose cells."""
    folder = tmp_path / "my results"
    main(["claims", "--results", str(folder), "--scale", "micro", "--set", "data.variant=folder"])
    out = capsys.readouterr().out
    start = out.index("python -m benchmarks run", out.index(" lora-and-dtl "))
    words = shlex.split(out[start : out.index("\n\n", start)].replace("\\\n", " "))
    assert words[-6:] == [
        *("--scale", "micro", "--set", "data.variant=folder"),
        *("--results", str(folder)),
    ]
    assert len(select(words[4:-6], "micro")) == 7 * 19 * 3


def test_csv_and_markdown_have_every_claim(tmp_path, capsys):
    options = ["claims", "--results", str(tmp_path), "--scale", "paper"]
    main([*options, "--format", "csv"])
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["claim"] for line in lines] == [claim.id for claim in claims.load_claims()]
    assert {line["verdict"] for line in lines} == {"not run"}
    main([*options, "--format", "markdown"])
    text = capsys.readouterr().out
    assert all(f"| {claim.id} " in text for claim in claims.load_claims())
    assert all(f"### {claim.id}: not run" in text for claim in claims.load_claims())
    assert "EMBEDDED" not in text
    assert main(["claims", "--scale", "papr"]) == 2


def test_every_claim_is_about_what_is_declared():
    found = claims.load_claims()
    assert len({claim.id for claim in found}) == len(found) >= 25
    for claim in found:
        assert claim.place
        assert claim.statement.endswith(".")
        if claim.kind == "absent":
            is_there = claim.benchmark in BENCHMARKS
            assert is_there == ("why" in claim.how), "it is here now: judge it, or say why not"
            continue
        benchmark = BENCHMARKS[claim.benchmark]
        for scale in benchmark.scales.values():
            backbone = scale.backbones[claim.backbone]
            declared = benchmark.methods_on.get(backbone, benchmark.methods)
            rows = [*claim.how.get("pairs", ()), *claim.how.get("quads", ())]
            methods = [*claim.how.get("methods", ()), *(name for row in rows for name in row)]
            assert set(methods) <= set(declared), claim.id
        assert set(claim.how.get("tasks", ())) <= {task.name for task in benchmark.tasks}, claim.id
        assert {claim.how.get(end) for end in ("from", "to")} <= {None, *benchmark.groups}, claim.id


def test_the_numbers_of_the_paper_follow_from_its_tables():
    by_id = {claim.id: claim.paper for claim in claims.load_claims()}
    two, five = published.load("table2"), published.load("table5")
    lora = two.row("lora-r8+linear")
    signs = [cell.compare(0) for cell in lora.cells.values()]
    up, down, level = (signs.count(sign) for sign in (1, -1, 0))
    assert by_id["across-tasks"] == f"{up} up, {down} down, {level} unchanged"
    groups = [sum(lora.cells[task] for task in tasks) / len(tasks) for tasks in two.groups.values()]
    assert by_id["across-groups"] == f"from its cells: {signed(groups)}"
    assert by_id["lora"] == f"{signed([lora.average])} on both averages"
    assert lora.average == lora.all_set_average
    others = [two.row(f"{base}+linear") for base in ("fact-tk", "moslora-r8", "dtl-plus")]
    assert by_id["fact-moslora-dtl"] == f"{signed(r.all_set_average for r in others)} on all tasks"

    def gained(rank, penalty, task=None):
        base, row = (five.absolute(f"lora-r{rank}{end}") for end in ("", f"+{penalty}"))
        return (
            row.cells[task] - base.cells[task]
            if task
            else row.all_set_average - base.all_set_average
        )

    every = [gained(rank, name) for rank in (2, 4, 8) for name in PENALTIES]
    assert by_id["all-improve"] == f"{min(every):+} to {max(every):+} on all tasks"
    assert by_id["all-improve-at-r8"] == f"{signed(every[-4:])} on all tasks"
    euclidean, cosine = (signed(gained(rank, name) for rank in (2, 4, 8)) for name in PENALTIES[:2])
    assert by_id["pairwise-gains-grow"].endswith(f"R_e {euclidean}; R_c {cosine}")
    of_both = [
        signed(gained(rank, name, task) for rank in (2, 4, 8))
        for name in PENALTIES[:2]
        for task in ("svhn", "kitti_dist")
    ]
    for numbers in of_both:
        assert numbers in by_id["pairwise-at-higher-rank"]
    low, high = few_shot.GAIN
    assert by_id["few-shot"] == f"{low:+} to {high:+}"


def signed(numbers):
    return ", ".join(f"{float(number):+.1f}" for number in numbers)


def test_the_facts_of_figure_4_name_the_declared_tasks():
    raw = tomllib.loads((FOLDER / "figure4.toml").read_text(encoding="utf-8"))
    by_id = {claim.id: claim for claim in claims.load_claims()}
    for fact in ("faster", "steady"):
        assert sorted(raw[fact]) == sorted(by_id[fact].how["tasks"])
