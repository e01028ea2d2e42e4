"""Tables from hand-made records against numbers worked out by hand; holes and refusals."""

from __future__ import annotations

import pytest

from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.store import State
from reports import published
from reports.page import FAILED, HOLE, NOT_IN_SUITE

AVERAGE, ALL = ("mean", "average"), ("mean", "all_set_average")
OVER_BASE, OVER_CONTROL = (
    ("delta", f"all_set_average_over_{name}") for name in ("base", "control")
)


def test_cells_groups_and_averages(full_world):
    part = full_world.table()
    cell = part.at("lora-r8", "task", "cifar100")
    # 50, 52: mean 51, deviations -1 and 1, std sqrt(2).
    assert cell.value == pytest.approx(51)
    assert cell.std == pytest.approx(2**0.5)
    # seed 0: (50 + 60) / 2 = 55; seed 1: (52 + 64) / 2 = 58.
    natural = part.at("lora-r8", "group_mean", "natural")
    assert natural.value == pytest.approx(56.5)
    assert natural.std == pytest.approx(3 / 2**0.5)
    # seed 0: (55 + 80) / 2 = 67.5; seed 1: (58 + 80) / 2 = 69.
    average = part.at("lora-r8", *AVERAGE)
    assert average.value == pytest.approx(68.25)
    assert average.std == pytest.approx(1.5 / 2**0.5)
    # seed 0: 190 / 3; seed 1: 196 / 3.
    everything = part.at("lora-r8", *ALL)
    assert everything.value == pytest.approx(193 / 3)
    assert everything.std == pytest.approx(2 / 2**0.5)
    assert everything.n == 2
    assert part.value("lora-r8", "params_m", "trainable_without_head") == pytest.approx(0.04608)


def test_differences_are_paired_by_task_and_seed(full_world):
    part = full_world.table()
    over_base = part.at("lora-r8+linear", *OVER_BASE)
    # Over the base, by task: 1, 2, 3: mean 2, std 1, t(2, 0.975) / sqrt(3) = 2.48414.
    assert over_base.value == pytest.approx(2)
    assert over_base.low == pytest.approx(2 - 2.48414, abs=1e-5)
    assert over_base.n == 6
    # Over the control, by task: (1 + 0) / 2, 1, 2: mean 3.5 / 3.
    assert part.value("lora-r8+linear", *OVER_CONTROL) == pytest.approx(3.5 / 3)
    assert part.at("lora-r8", *OVER_BASE) is None
    assert part.at("lora-r8+control", *OVER_CONTROL) is None


def test_texts_of_the_means(full_world):
    block = full_world.report().page.ours[0]
    ours = block.row("lora-r8+linear")
    assert ours["All tasks"].whole == "66.3 ± 1.4"
    assert ours["Δ base [95 %]"].text == "+2.00 [-0.48, +4.48]"
    assert ours["paper Avg."].text == "77.2"
    assert ours["paper All"].text == "75.0"
    assert ours["paper Δ base"].text == "+0.7"
    control = block.row("lora-r8+control")
    assert control["Δ control [95 %]"].text == ""
    assert control["paper All"].text == ""


def test_a_method_that_the_suite_lacks_is_a_row_but_not_a_hole(full_world):
    found = full_world.report()
    bitfit = found.page.ours[0].row("bitfit")
    assert bitfit["Average"].text == NOT_IN_SUITE
    assert bitfit["paper All"].text == "62.0"
    assert found.holes == []


def test_a_missing_task_makes_every_mean_over_it_a_hole(full_world):
    for seed in (0, 1):
        full_world.path("cifar100", "lora-r8", seed).unlink()
    found = full_world.report()
    (part,) = found.parts
    assert part.value("lora-r8", "task", "cifar100") is None
    assert part.value("lora-r8", "group_mean", "natural") is None
    assert part.value("lora-r8", "group_mean", "specialized") == pytest.approx(80)
    assert part.value("lora-r8", *AVERAGE) is None
    assert part.value("lora-r8", *ALL) is None
    assert part.value("lora-r8+linear", *ALL) is not None
    assert part.value("lora-r8+linear", *OVER_BASE) is None
    assert len(found.holes) == 2
    page = found.page
    assert page.ours[1].row("lora-r8")["Cifar100"][:3] == (HOLE, "", "")
    assert page.ours[0].row("lora-r8")["All tasks"].text == HOLE
    assert "Declared cells without a number: 2 of 24." in page.legend


def test_fewer_seeds_say_their_n(full_world):
    full_world.path("eurosat", "lora-r8", 1).unlink()
    found = full_world.report()
    (part,) = found.parts
    assert part.at("lora-r8", "task", "eurosat").std is None
    # Without the same seeds everywhere there is a mean of the tasks' means, but no spread of it.
    everything = part.at("lora-r8", *ALL)
    assert everything.value == pytest.approx((51 + 62 + 80) / 3)
    assert (everything.std, everything.n) == (None, 1)
    assert found.page.ours[1].row("lora-r8")["Eurosat"].whole == "80.0 (n=1)"
    assert part.at("lora-r8+linear", *OVER_BASE).n == 5


def test_a_diverged_cell_is_marked_and_named(full_world):
    for seed in (0, 1):
        full_world.write("eurosat", "lora-r8", seed, status="diverged")
    page = full_world.report().page
    assert page.ours[1].row("lora-r8")["Eurosat"][:3] == (FAILED, "", "a")
    assert page.notes[0][0] == "a"
    assert "status diverged" in page.notes[0][1]
    assert "vtab1k/vit_micro/eurosat/lora-r8/1" in page.notes[0][1]


def test_an_edited_record_is_not_used_and_is_named(full_world):
    path = full_world.path("eurosat", "lora-r8", 0)
    path.write_text(path.read_text().replace("0.8", "0.9"))
    found = full_world.report()
    assert found.parts[0].at("lora-r8", "task", "eurosat").n == 1
    assert [hole.state for hole in found.holes] == [State.INVALID]
    page = found.page
    assert page.ours[1].row("lora-r8")["Eurosat"][:3] == ("80.0", "(n=1)", "a")
    assert "micro/vtab1k/vit_micro/eurosat/lora-r8/0.json" in page.notes[0][1]


def test_a_truncated_record_is_not_used_and_is_named(full_world):
    path = full_world.path("cifar100", "linear", 1)
    path.write_text(path.read_text()[:200])
    found = full_world.report()
    assert [hole.state for hole in found.holes] == [State.INVALID]
    assert "cifar100/linear/1.json" in found.page.notes[0][1]


def test_a_record_of_another_configuration_is_a_hole(full_world):
    full_world.write("eurosat", "linear", 0, 0.99, overrides={"method.name": "another"})
    found = full_world.report()
    assert found.parts[0].value("linear", "task", "eurosat") == pytest.approx(40)
    assert [hole.state for hole in found.holes] == [State.STALE]
    assert "of another configuration" in found.page.notes[0][1]


def test_the_papers_cells_stand_as_printed(full_world):
    block = full_world.report().page.paper[0]
    assert block.row("lora-r8+linear")["Caltech101"].text == "0.2 ↓"
    assert block.row("lora-r8")["Caltech101"].text == "94.1"
    assert "lora-r8+control" not in [row.name for row in block.rows]
    assert full_world.table().at("lora-r8+linear", "task", "caltech101").paper == "93.9"
    by_task = full_world.report().page.ours[1].row("lora-r8+linear")
    assert by_task["Caltech101"].paper == "93.9"  # beside an accuracy, no change


def test_the_papers_averages_that_do_not_follow_are_named(full_world):
    legend = " ".join(full_world.report().page.legend)
    named = (
        "in full, linear, adaptformer, ssf, moslora-r8+linear (python -m reports audit averages)"
    )
    assert f"The paper's averages do not follow from its cells {named}." in legend


def test_embedded_numbers_are_called_what_they_are(full_world):
    page = full_world.report().page
    assert "NOT a reproduction" in page.warning
    assert "scale micro" in page.title


@pytest.mark.parametrize("name", ["table2", "table5"])
def test_the_declared_tables_have_every_published_row_in_order(name):
    table = next(t for t in BENCHMARKS["vtab1k"].tables if t.name == name)
    paper = published.load(name)
    assert [row for row in table.rows if paper.row(row)] == [row.method for row in paper.rows]


@pytest.mark.parametrize("name", ["table2", "table5"])
def test_the_published_tasks_are_the_declared_ones(name):
    assert published.load(name).tasks == tuple(task.name for task in BENCHMARKS["vtab1k"].tasks)
