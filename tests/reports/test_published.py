"""The paper's tables as typed: complete, and their averages recomputed."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from reports import published
from reports.cli import main
from reports.published.averages import Verdict, check_averages

# Every printed average that is not the rounded mean of the cells printed beside it. Those marked
# IMPOSSIBLE cannot be the average of any cells that round to the printed ones.
DO_NOT_FOLLOW = {
    ("table2", "full", "average"): Verdict.CELL_ROUNDING,
    ("table2", "linear", "average"): Verdict.CELL_ROUNDING,
    ("table2", "adaptformer", "average"): Verdict.CELL_ROUNDING,
    ("table2", "ssf", "all_set_average"): Verdict.CELL_ROUNDING,
    ("table2", "moslora-r8+linear", "all_set_average"): Verdict.CELL_ROUNDING,
    ("table5", "lora-r2+euclidean", "average"): Verdict.CELL_ROUNDING,
    ("table5", "lora-r2+euclidean", "all_set_average"): Verdict.IMPOSSIBLE,
    ("table5", "lora-r2+nonlinear", "average"): Verdict.IMPOSSIBLE,
    ("table5", "lora-r2+nonlinear", "all_set_average"): Verdict.IMPOSSIBLE,
    ("table5", "lora-r4+linear", "all_set_average"): Verdict.CELL_ROUNDING,
    ("table5", "lora-r8+nonlinear", "average"): Verdict.CELL_ROUNDING,
    ("table5", "lora-r8+nonlinear", "all_set_average"): Verdict.CELL_ROUNDING,
}

TABLE2_METHODS = [
    *("full", "linear", "bitfit", "vpt-deep", "lst", "adalora-r8", "adaptformer", "noah", "ssf"),
    *("fact-tk", "fact-tk+linear", "lora-r8", "lora-r8+linear"),
    *("moslora-r8", "moslora-r8+linear", "dtl-plus", "dtl-plus+linear"),
]


def test_rows_whose_printed_average_does_not_follow() -> None:
    found = {
        (check.table, check.method, check.average): check.verdict
        for name in ("table2", "table5")
        for check in check_averages(published.load(name))
        if not check.follows
    }
    assert found == DO_NOT_FOLLOW


def test_table2_rows_in_printed_order() -> None:
    assert [row.method for row in published.load("table2").rows] == TABLE2_METHODS


def test_table5_rows_in_printed_order() -> None:
    suffixes = ("", "+euclidean", "+cosine", "+nonlinear", "+linear")
    expected = [f"lora-r{rank}{suffix}" for rank in (2, 4, 8) for suffix in suffixes]
    assert [row.method for row in published.load("table5").rows] == expected


@pytest.mark.parametrize("name", ["table2", "table5"])
def test_every_row_has_a_cell_for_each_of_the_19_tasks(name: str) -> None:
    table = published.load(name)
    assert [len(tasks) for tasks in table.groups.values()] == [7, 4, 8]
    for row in table.rows:
        assert tuple(row.cells) == table.tasks


def test_the_lora_rows_of_both_tables_agree() -> None:
    two, five = published.load("table2"), published.load("table5")
    for method in ("lora-r8", "lora-r8+linear"):
        ours, theirs = two.absolute(method), five.absolute(method)
        assert ours is not None
        assert theirs is not None
        assert ours.cells == theirs.cells
        assert (ours.average, ours.all_set_average) == (theirs.average, theirs.all_set_average)


def test_changes_are_signed_and_added_to_their_base_row() -> None:
    table = published.load("table2")
    changes, absolute = table.row("lora-r8+linear"), table.absolute("lora-r8+linear")
    assert changes is not None
    assert absolute is not None
    assert changes.cells["caltech101"] == Decimal("-0.2")
    assert absolute.cells["caltech101"] == Decimal("93.9")
    assert absolute.cells["kitti_dist"] == Decimal("82.1")
    assert (absolute.average, absolute.all_set_average) == (Decimal("77.2"), Decimal("75.0"))


def test_recomputed_average_by_hand() -> None:
    # DTL+ in Table 2: natural 571.1 / 7, specialized 345.0 / 4, structured 518.2 / 8.
    check = next(c for c in check_averages(published.load("table2")) if c.method == "dtl-plus")
    group_means = (Fraction("571.1") / 7, Fraction("345.0") / 4, Fraction("518.2") / 8)
    assert check.recomputed == sum(group_means) / 3


@pytest.mark.parametrize(
    ("printed", "expected"),
    [("0.2 ↓", "-0.2"), ("2.1 ↑", "2.1"), ("0.0", "0.0"), (Decimal("97.0"), "97.0")],
)
def test_parse_printed(printed: Decimal | str, expected: str) -> None:
    assert published.parse_printed(printed) == Decimal(expected)


def test_parse_printed_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="cannot read"):
        published.parse_printed("0.2 up")


def test_an_unknown_table_names_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match="table2, table3, table4, table5"):
        published.load("table9")


def test_the_audit_lists_the_averages_that_do_not_follow_and_no_other(capsys):
    assert main(["audit", "averages"]) == 0
    *lines, _, last = capsys.readouterr().out.splitlines()
    listed = [tuple(line.split()[:2]) for line in lines[2:]]
    assert listed == [(table, method) for table, method, _ in DO_NOT_FOLLOW]
    assert last == "12 of 64 printed averages do not follow from their cells"
    assert main(["audit", "averages", "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 64 + 2
