"""All audits together: each in turn, a summary that counts a value once, and one CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest

from reports.audit.check import Check, Standing
from reports.audit.layout import WIDTH
from reports.audit.listings import summary
from reports.cli import main


def check(audit: str, row: str, standing: Standing) -> Check:
    return Check(
        audit=audit,
        table="table2",
        row=row,
        what="average",
        printed="1",
        recomputed="1",
        source="",
        verdict="",
        standing=standing,
    )


def test_a_value_counts_once_and_by_the_worst() -> None:
    checks = [
        check("averages", "one", Standing.FOLLOWS),
        check("deltas", "one", Standing.DOES_NOT),
        check("averages", "two", Standing.CONDITIONAL),
        check("deltas", "two", Standing.FOLLOWS),
        check("deltas", "three", Standing.FOLLOWS),
    ]
    listing = summary.listing(checks)
    (section,) = listing.sections
    headings = [column.heading.replace("\n", " ") for column in section.columns]
    assert headings[2:] == ["values", "follow", "only under a condition", "do not follow"]
    assert [(row[0], *row[2:]) for row in section.rows] == [
        ("averages", "2", "1", "1", ""),
        ("deltas", "3", "2", "", "1"),
        ("all", "3", "1", "1", "1"),
    ]
    assert listing.closing == "3 printed values checked; 1 do not follow."


def test_all_audits_in_turn_and_a_summary(capsys) -> None:
    assert main(["audit"]) == 0
    text = capsys.readouterr().out
    headings = [
        "Averages: printed, and recomputed from the cells beside them",
        "Numbers that the paper prints in two places",
        "Trainable parameters: the paper's counts and ours",
        "Table 6's FLOPs: printed, and by arithmetic",
        "Summary",
    ]
    places = [text.index(f"{heading}\n{'=' * len(heading)}\n") for heading in headings]
    assert places == sorted(places)
    assert max(map(len, text.splitlines())) <= WIDTH
    counted = [line.split() for line in text[places[-1] :].splitlines()]
    by_audit = {line[0]: line for line in counted if line}
    assert by_audit["averages"][-3:] == ["76", "64", "12"]
    assert by_audit["deltas"][-3:] == ["99", "85", "14"]
    assert by_audit["params"][-4:] == ["66", "41", "15", "10"]
    assert by_audit["flops"][-2:] == ["11", "11"]
    # 252 checks, of which 32 are of a value that another one is of: 22 parameters (Table 4's are in deltas
    # alone), 8 averages (2 + 2 of Tables 2 and 5, 1 of Table 4, 3 of Table 3), and in deltas LoRA and R_l of
    # Table 6 twice.
    assert by_audit["all"][-4:] == ["220", "158", "26", "36"]
    assert text.splitlines()[-1] == "220 printed values checked; 36 do not follow."


def test_one_csv_for_all_and_more_columns_for_one(capsys) -> None:
    assert main(["audit", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert Counter(row["audit"] for row in rows) == {
        "averages": 76,
        "deltas": 99,
        "params": 66,
        "flops": 11,
    }
    common = list(rows[0])
    assert common == (
        "audit table part row what printed recomputed recomputed_from verdict reason".split()
    )
    assert main(["audit", "--format", "csv", "deltas"]) == 0
    alone = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert alone == [row for row in rows if row["audit"] == "deltas"]
    assert main(["audit", "params", "--format", "csv"]) == 0
    params = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [{name: row[name] for name in common} for row in params] == [
        row for row in rows if row["audit"] == "params"
    ]
    assert {"without_head", "formula"} <= params[0].keys()


@pytest.mark.slow
def test_the_committed_page_has_what_the_audits_find(capsys):
    page = Path(__file__).resolve().parents[2] / "reports" / "AUDIT.md"
    assert main(["audit", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.rstrip("\n") + "\n" == page.read_text(encoding="utf-8")
