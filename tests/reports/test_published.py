"""The paper's tables as typed: complete, and their averages recomputed."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from reports import published
from reports.audit import averages
from reports.audit.averages import Verdict, check_averages, check_group_means, recompute
from reports.cli import main
from reports.published import load_parts

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
        (one.table, one.row, one.what): Verdict(one.verdict)
        for one in averages.listing().checks
        if not one.follows
    }
    assert found == DO_NOT_FOLLOW
    assert {one.table for one in averages.listing().checks} == {
        "table2",
        "table3",
        "table4",
        "table5",
    }


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
    table = published.load("table2")
    group_means = (Fraction("571.1") / 7, Fraction("345.0") / 4, Fraction("518.2") / 8)
    assert recompute(table, table.row("dtl-plus"), "average") == sum(group_means) / 3


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
    listed = [tuple(line.split()[1:4:2]) for line in lines if line.startswith("| table")][1:]
    assert listed == [(table, method) for table, method, _ in DO_NOT_FOLLOW]
    assert last == "12 of 76 printed averages do not follow from their cells"


def test_averages_as_csv_have_every_verdict(capsys):
    assert main(["audit", "averages", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 34 + 10 + 2 + 30
    wrong = {
        (row["table"], row["row"], row["what"]): row["verdict"]
        for row in rows
        if row["verdict"] != Verdict.FOLLOWS.value
    }
    assert wrong == {key: verdict.value for key, verdict in DO_NOT_FOLLOW.items()}
    assert {row["row"] for row in rows if row["reason"]} == {
        "fact-tk+linear",
        "dtl-plus+linear",
        "lora-r8+linear",
    }


def test_averages_of_group_means_by_hand() -> None:
    # Table 3's rows with a penalty are read as accuracies: 234.4 / 3 twice, and 233.0 / 3.
    sums = [
        "225.1",
        "187.8",
        "196.7",
        "214.7",
        "231.5",
        "234.4",
        "234.4",
        "234.4",
        "233.0",
        "233.0",
    ]
    checks = check_group_means(load_parts("table3"))
    assert [check.recomputed for check in checks] == [f"{float(one) / 3:.3f}" for one in sums]
    printed = ["75.0", "62.6", "65.6", "71.6", "77.2", "78.1", "78.1", "78.1", "77.7", "77.7"]
    assert [check.printed for check in checks] == printed
    checks += check_group_means(load_parts("table4"))
    assert [check.recomputed for check in checks[10:]] == ["77.167", "76.933"]
    assert all(check.follows for check in checks)


@pytest.mark.parametrize(
    ("printed", "verdict"),
    [
        ("77.7 ↓", Verdict.FOLLOWS),
        ("77.6", Verdict.CELL_ROUNDING),
        ("77.5", Verdict.IMPOSSIBLE),
    ],
)
def test_a_changed_average_of_group_means_is_found(printed: str, verdict: Verdict) -> None:
    table = load_parts("table3")
    swin, convnext = table.parts
    row = convnext.rows[0]  # 82.7, 85.6 and 64.7: 77.667
    rows = (replace(row, cells={**row.cells, "average": printed}), convnext.rows[1])
    checks = check_group_means(replace(table, parts=(swin, replace(convnext, rows=rows))))
    found = [(one.row, one.verdict) for one in checks if not one.follows]
    assert checks[8].verdict == verdict.value
    assert found == ([] if verdict is Verdict.FOLLOWS else [("lora-r8", verdict.value)])


def test_a_changed_average_is_found_and_no_other() -> None:
    table = published.load("table2")
    rows = tuple(
        replace(row, average=Decimal("72.2")) if row.method == "vpt-deep" else row
        for row in table.rows
    )
    before, after = check_averages(table), check_averages(replace(table, rows=rows))
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [(one.row, one.what, one.verdict) for one in changed] == [
        ("vpt-deep", "average", Verdict.IMPOSSIBLE.value)
    ]


def test_table3_averages_follow_from_the_groups() -> None:
    for part in load_parts("table3").parts:
        for row in part.rows:
            if row.remark is None:
                groups = [
                    Fraction(row.cells[name]) for name in ("natural", "specialized", "structured")
                ]
                assert abs(sum(groups) / 3 - Fraction(row.cells["average"])) <= Fraction(1, 20)


def test_table3_rows_with_a_penalty_repeat_a_baseline() -> None:
    swin, convnext = load_parts("table3").parts
    for part, base in ((swin, "dtl-plus"), (convnext, "lora-r8")):
        plain = part.row(base)
        assert plain is not None
        for row in part.rows:
            has_penalty = "+" in row.method
            assert (row.remark is not None) is has_penalty
            if has_penalty:
                numbers = [cell.split()[0] for cell in row.cells.values()]
                assert numbers[1:] == list(plain.cells.values())[1:]


def test_table1_has_two_halves_of_twelve_rows() -> None:
    halves = load_parts("table1").parts
    assert [part.benchmark for part in halves] == ["flickr30k", "msrvtt"]
    assert [row.label for row in halves[0].rows] == [row.label for row in halves[1].rows]
    assert all(len(part.rows) == 12 for part in halves)
