"""Tables from hand-made records against numbers worked out by hand; holes and refusals."""

from __future__ import annotations

from decimal import Decimal

import pytest

from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.store import State
from reports import blocks, published
from reports.page import FAILED, HOLE, NOT_IN_SUITE


def row_of(data, method):
    return next(row for row in data.rows if row.method == method)


def entries_of(block, method):
    cells = dict(block.rows)[method]
    headings = (column.title.replace("\n", " ") for column in block.columns)
    return dict(zip(headings, cells, strict=True))


def test_cells_groups_and_averages(full_world):
    row = row_of(full_world.table(), "lora-r8")
    # 50, 52: mean 51, deviations -1 and 1, std sqrt(2).
    assert row.cells["cifar100"].spread.mean == pytest.approx(51)
    assert row.cells["cifar100"].spread.std == pytest.approx(2**0.5)
    # seed 0: (50 + 60) / 2 = 55; seed 1: (52 + 64) / 2 = 58.
    assert row.groups["natural"].mean == pytest.approx(56.5)
    assert row.groups["natural"].std == pytest.approx(3 / 2**0.5)
    # seed 0: (55 + 80) / 2 = 67.5; seed 1: (58 + 80) / 2 = 69.
    assert row.average.mean == pytest.approx(68.25)
    assert row.average.std == pytest.approx(1.5 / 2**0.5)
    # seed 0: 190 / 3; seed 1: 196 / 3.
    assert row.all_set_average.mean == pytest.approx(193 / 3)
    assert row.all_set_average.std == pytest.approx(2 / 2**0.5)
    assert row.all_set_average.n == 2
    assert row.params_m == pytest.approx(0.04608)


def test_differences_are_paired_by_task_and_seed(full_world):
    row = row_of(full_world.table(), "lora-r8+linear")
    # Over the base, by task: 1, 2, 3: mean 2, std 1, t(2, 0.975) / sqrt(3) = 2.48414.
    assert row.over_base.mean == pytest.approx(2)
    assert row.over_base.low == pytest.approx(2 - 2.48414, abs=1e-5)
    assert row.over_base.n_pairs == 6
    # Over the control, by task: (1 + 0) / 2, 1, 2: mean 3.5 / 3.
    assert row.over_control.mean == pytest.approx(3.5 / 3)
    assert row_of(full_world.table(), "lora-r8").over_base is None
    assert row_of(full_world.table(), "lora-r8+control").over_control is None


def test_texts_of_the_means(full_world):
    block = blocks.page(full_world.table()).ours[0]
    ours = entries_of(block, "lora-r8+linear")
    assert ours["All tasks"].text == "66.3 ± 1.4"
    assert ours["Δ base [95 %]"].text == "+2.00 [-0.48, +4.48]"
    assert ours["paper Avg."].text == "77.2"
    assert ours["paper All"].text == "75.0"
    assert ours["paper Δ base"].text == "+0.7"
    control = entries_of(block, "lora-r8+control")
    assert control["Δ control [95 %]"].text == ""
    assert control["paper All"].text == ""


def test_a_method_that_the_suite_lacks_is_a_row_but_not_a_hole(full_world):
    data = full_world.table()
    bitfit = entries_of(blocks.page(data).ours[0], "bitfit")
    assert bitfit["Average"].text == NOT_IN_SUITE
    assert bitfit["paper All"].text == "62.0"
    assert data.holes == []


def test_a_missing_task_makes_every_mean_over_it_a_hole(full_world):
    for seed in (0, 1):
        full_world.path("cifar100", "lora-r8", seed).unlink()
    data = full_world.table()
    row, penalised = row_of(data, "lora-r8"), row_of(data, "lora-r8+linear")
    assert row.cells["cifar100"].spread is None
    assert row.groups["natural"] is None
    assert row.groups["specialized"].mean == pytest.approx(80)
    assert row.average is None
    assert row.all_set_average is None
    assert penalised.all_set_average is not None
    assert penalised.over_base is None
    assert len(data.holes) == 2
    page = blocks.page(data)
    assert entries_of(page.ours[1], "lora-r8")["Cifar100"] == (HOLE, "")
    assert entries_of(page.ours[0], "lora-r8")["All tasks"].text == HOLE
    assert "Declared cells without a number: 2 of 24." in page.legend


def test_fewer_seeds_say_their_n(full_world):
    full_world.path("eurosat", "lora-r8", 1).unlink()
    data = full_world.table()
    row = row_of(data, "lora-r8")
    assert row.cells["eurosat"].spread.std is None
    # Without the same seeds everywhere there is a mean of the tasks' means, but no spread of it.
    assert row.all_set_average.mean == pytest.approx((51 + 62 + 80) / 3)
    assert (row.all_set_average.std, row.all_set_average.n) == (None, 1)
    assert entries_of(blocks.page(data).ours[1], "lora-r8")["Eurosat"].text == "80.0 (n=1)"
    assert row_of(data, "lora-r8+linear").over_base.n_pairs == 5


def test_a_diverged_cell_is_marked_and_named(full_world):
    for seed in (0, 1):
        full_world.write("eurosat", "lora-r8", seed, status="diverged")
    page = blocks.page(full_world.table())
    assert entries_of(page.ours[1], "lora-r8")["Eurosat"] == (FAILED, "a")
    assert page.notes[0][0] == "a"
    assert "status diverged" in page.notes[0][1]
    assert "vtab1k/vit_micro/eurosat/lora-r8/1" in page.notes[0][1]


def test_an_edited_record_is_not_used_and_is_named(full_world):
    path = full_world.path("eurosat", "lora-r8", 0)
    path.write_text(path.read_text().replace("0.8", "0.9"))
    data = full_world.table()
    assert row_of(data, "lora-r8").cells["eurosat"].spread.n == 1
    assert [found.state for found in data.holes] == [State.INVALID]
    page = blocks.page(data)
    assert entries_of(page.ours[1], "lora-r8")["Eurosat"] == ("80.0 (n=1)", "a")
    assert "micro/vtab1k/vit_micro/eurosat/lora-r8/0.json" in page.notes[0][1]


def test_a_truncated_record_is_not_used_and_is_named(full_world):
    path = full_world.path("cifar100", "linear", 1)
    path.write_text(path.read_text()[:200])
    data = full_world.table()
    assert [found.state for found in data.holes] == [State.INVALID]
    assert "cifar100/linear/1.json" in blocks.page(data).notes[0][1]


def test_a_record_of_another_configuration_is_a_hole(full_world):
    full_world.write("eurosat", "linear", 0, 0.99, overrides={"method.name": "another"})
    data = full_world.table()
    assert row_of(data, "linear").cells["eurosat"].spread.mean == pytest.approx(40)
    assert [found.state for found in data.holes] == [State.STALE]
    assert "of another configuration" in blocks.page(data).notes[0][1]


def test_the_papers_cells_stand_as_printed(full_world):
    block = blocks.page(full_world.table()).paper[0]
    assert entries_of(block, "lora-r8+linear")["Caltech101"].text == "0.2 ↓"
    assert entries_of(block, "lora-r8")["Caltech101"].text == "94.1"
    assert "lora-r8+control" not in dict(block.rows)
    assert row_of(full_world.table(), "lora-r8+linear").absolute.cells["caltech101"] == Decimal(
        "93.9"
    )


def test_the_papers_averages_that_do_not_follow_are_named(full_world):
    legend = " ".join(blocks.page(full_world.table()).legend)
    named = (
        "in full, linear, adaptformer, ssf, moslora-r8+linear (python -m reports audit averages)"
    )
    assert f"The paper's averages do not follow from its cells {named}." in legend


def test_embedded_numbers_are_called_what_they_are(full_world):
    page = blocks.page(full_world.table())
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
