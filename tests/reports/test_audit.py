"""The audit of parameters: its arithmetic, its verdicts, what it counts; and all audits together."""

from __future__ import annotations

import csv
import io
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from reports.audit.arithmetic import evaluate
from reports.audit.check import Check, Standing, as_csv, markdown, summary
from reports.audit.counting import (
    EITHER_WAY,
    HEAD_COUNTED,
    HEAD_LEFT_OUT,
    Count,
    Counting,
    Setting,
    Verdict,
    judge,
    rounds_to,
)
from reports.audit.params import COUNTINGS, audit, listing, printed_counts
from reports.cli import main
from reports.published import load_parts

COUNTING_OF = [
    (backbone, method) for backbone, countings in COUNTINGS.items() for method in countings
]

# Every count that a paper, a repository or our own arithmetic has found before, without the head.
COUNTS = {
    ("vit_b16", "full"): 85_798_656,
    ("vit_b16", "bitfit"): 102_912,
    ("vit_b16", "lst"): 2_376_300,
    ("vit_b16", "adaptformer"): 156_768,
    ("vit_b16", "noah"): Fraction(6_842_551, 19),
    ("vit_b16", "ssf"): 205_824,
    ("vit_b16", "fact-tk"): Fraction(13 * 86_528 + 6 * 30_976, 19),
    ("vit_b16", "lora-r8"): 442_368,
    ("vit_b16", "moslora-r8"): 444_672,
    ("vit_b16", "dtl-plus"): Fraction(6 * 43_776 + 4 * 49_152 + 9 * 56_064, 19),
    ("swin_b", "full"): 86_743_224,
    ("swin_b", "bitfit"): 137_216,
    ("swin_b", "dtl-plus"): 128_512,
    ("convnext_b", "lora-r8"): 721_920,
    ("bert_base", "full"): 109_482_240,
    ("bert_base", "adapter"): 1_789_056,
    ("bert_base", "prefix"): 9_872_384,
    ("bert_base", "ssf"): 204_288,
    ("bert_base", "lst"): 7_457_485,
    ("bert_base", "unipt"): 5_921_281,
    ("clip_vit_b32", "adapter"): 5_146_368,
    ("clip_vit_b32", "bitfit"): 171_008,
    ("clip_vit_b32", "ssf"): 343_552,
    ("clip_vit_b32", "fact-tk"): 156_672,
    ("clip_vit_b32", "lst"): 9_058_332,
    ("clip_vit_b32", "unipt"): 9_584_642,
    ("clip_vit_b32", "lora-r8"): 491_520,
}

MATCHES = {
    "vit_b16": "full linear bitfit lst adaptformer ssf fact-tk lora-r2 lora-r4 lora-r8",
    "swin_b": "full linear",
    "convnext_b": "",
    "bert_base": "full partial adapter bitfit prefix ssf lst unipt lora-r8",
    "clip_vit_b32": "full partial fact-tk unipt",
}
ONLY_IF = {
    "vit_b16": "adalora-r8 noah dtl-plus",
    "swin_b": "bitfit vpt-deep fact-tk dtl-plus",
    "convnext_b": "",
    "bert_base": "adalora-r8",
    "clip_vit_b32": "adapter bitfit vpt-deep adalora-r8",
}
NOT_REPRODUCIBLE = {
    "vit_b16": "vpt-deep moslora-r8",
    "swin_b": "",
    "convnext_b": "lora-r8",
    "bert_base": "fact-tk",
    "clip_vit_b32": "ssf lst lora-r8",
}

# Conditions and settings of countings that the suite can build: backbone, row, which one, method, options.
BUILT = [
    ("vit_b16", "adalora-r8", 0, "adalora-r8", {"initial_rank": 8}),
    ("vit_b16", "dtl-plus", 0, "dtl-plus", {"kernel": 3}),
    ("vit_b16", "dtl-plus", 1, "dtl", {}),
    ("swin_b", "bitfit", 0, "bitfit", {"position_bias": True}),
    ("swin_b", "vpt-deep", 0, "vpt-deep", {"tokens": 13}),
    ("swin_b", "fact-tk", 0, "fact-tt", {"rank": 16}),
    ("swin_b", "dtl-plus", 0, "dtl", {"rank": 4}),
    ("convnext_b", "lora-r8", 2, "lora-r8", {"targets": ("fc1", "fc2")}),
    ("bert_base", "fact-tk", 0, "fact-tk", {"rank": 80}),
    ("bert_base", "fact-tk", 1, "fact-tt", {"rank": 60}),
    ("bert_base", "fact-tk", 3, "fact-tt", {"rank": 16}),
    ("clip_vit_b32", "bitfit", 0, "bitfit", {"norms": False}),
    ("clip_vit_b32", "lora-r8", 2, "lora-r6", {"targets": ("q", "v", "fc1", "fc2")}),
    ("clip_vit_b32", "lora-r8", 3, "lora-r8", {}),
]


@pytest.fixture(scope="module")
def findings():
    return audit()


def test_arithmetic_is_exact() -> None:
    assert evaluate("12 x 3 x 2 x 768 x 8") == 442_368
    assert evaluate("2 x (1,024 + 8^2) - 1") == 2_175
    assert evaluate("(2 x 3 + 4 x (5)) / 19") == Fraction(26, 19)


@pytest.mark.parametrize(
    "formula",
    ["", "12 x d", "1.5 x 2", "__import__('os')", "2^99", "2^(1/2)", "1 / 0", "12 3", "-1"],
)
def test_what_is_no_arithmetic_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="cannot evaluate"):
        evaluate(formula)


@pytest.mark.parametrize(
    ("count", "printed", "does"),
    [
        (442_368, "0.44", True),
        (444_672, "0.40", False),
        (145_000, "0.14", True),
        (145_000, "0.15", True),
        (145_001, "0.14", False),
        (109_482_240, "109.5", True),
        (0, "0", True),
        (1, "0", False),
    ],
)
def test_a_count_rounds_to_the_printed_digits(count: int, printed: str, does: bool) -> None:
    assert rounds_to(Fraction(count), Decimal(printed)) is does


def counting(**options) -> Counting:
    return Counting(method="lora-r8", formula="100,000", **options)


def test_a_match_says_if_the_head_is_counted_where_that_is_open() -> None:
    count = Count(Fraction(100_000), Fraction(40_000))
    for printed, words in (("0.10", HEAD_LEFT_OUT), ("0.14", HEAD_COUNTED), ("0.1", EITHER_WAY)):
        assert judge(counting(), Decimal(printed), count, head_is_open=True) == (
            Verdict.MATCHES,
            words,
        )
    closed = judge(counting(), Decimal("0.10"), count, head_is_open=False)
    assert closed == (Verdict.MATCHES, "")
    closed = judge(counting(), Decimal("0.14"), count, head_is_open=False)
    assert closed == (Verdict.ONLY_IF, " the head is counted")


def test_a_condition_holds_only_if_its_arithmetic_does() -> None:
    count = Count(Fraction(100_000), Fraction(0))
    others = (Setting("this", "2 x 100,000"), Setting("that", "3 x 100,000"))
    verdict, words = judge(counting(others=others), Decimal("0.2"), count, head_is_open=False)
    assert verdict is Verdict.ONLY_IF
    assert words.startswith(" this (2 x 100,000 = 200,000). Would not print it: that")
    verdict, words = judge(counting(others=others), Decimal("0.4"), count, head_is_open=False)
    assert verdict is Verdict.NOT_REPRODUCIBLE
    assert judge(counting(), Decimal("0.4"), None, head_is_open=False)[0] is Verdict.NOT_COUNTED


def test_a_match_hangs_on_what_is_assumed() -> None:
    count = Count(Fraction(100_000), Fraction(0))
    verdict = judge(counting(assumes="so it is"), Decimal("0.10"), count, head_is_open=False)
    assert verdict == (Verdict.ONLY_IF, " so it is")


def test_the_prompts_of_clip_are_10_to_16() -> None:
    fits = [n for n in range(1, 30) if rounds_to(Fraction(12 * (768 + 512) * n), Decimal("0.2"))]
    assert fits == list(range(10, 17))
    assert "10 to 16" in str(COUNTINGS["clip_vit_b32"]["vpt-deep"].assumes)


def test_the_prompts_of_vit_would_be_60_2_to_61_3() -> None:
    fits = [n / 10 for n in range(500, 700) if rounds_to(Fraction(9216 * n, 10), Decimal("0.56"))]
    assert (fits[0], fits[-1]) == (60.3, 61.3)
    assert rounds_to(Fraction(9216 * 6023, 100), Decimal("0.56"))


def test_every_printed_count_has_a_counting_and_every_counting_a_row() -> None:
    rows = list(printed_counts())
    assert len(rows) == 24 + 17 + 10 + 15
    assert {(row.backbone, row.base) for row in rows} == set(COUNTING_OF)
    assert all(row.counting for row in rows)


def test_every_formula_is_the_count(findings) -> None:
    for found in findings:
        where = f"{found.printed.backbone} {found.printed.method}"
        assert found.count is not None, f"{where}: {found.words}"
        assert evaluate(found.printed.counting.formula) == found.count.adapter, where
        assert found.printed.head.value == found.count.head, where
        assert "arithmetic is wrong" not in found.words


def test_the_counts_are_the_known_ones(findings) -> None:
    found = {(f.printed.backbone, f.printed.method): f.count.adapter for f in findings}
    assert {key: found[key] for key in COUNTS} == COUNTS


def test_the_verdicts(findings) -> None:
    found = {(f.printed.backbone, f.printed.method): f.verdict for f in findings}
    expected = {
        (backbone, method): verdict
        for verdict, rows in (
            (Verdict.MATCHES, MATCHES),
            (Verdict.ONLY_IF, ONLY_IF),
            (Verdict.NOT_REPRODUCIBLE, NOT_REPRODUCIBLE),
        )
        for backbone, methods in rows.items()
        for method in methods.split()
    }
    assert {key: found[key] for key in COUNTING_OF} == expected


def test_a_reason_is_given_exactly_where_a_count_cannot_be_had(findings) -> None:
    for found in findings:
        is_lost = found.verdict is Verdict.NOT_REPRODUCIBLE
        assert (found.printed.counting.because is not None) is is_lost, found.printed


def test_a_penalty_counts_nothing(findings) -> None:
    counts = {(f.printed.table, f.printed.backbone, f.printed.method): f.count for f in findings}
    for table, backbone, method in counts:
        assert counts[table, backbone, method] == counts[table, backbone, method.split("+")[0]]


@pytest.mark.parametrize(
    ("backbone", "row", "index", "method", "options"), BUILT, ids=lambda value: str(value)
)
def test_conditions_are_what_the_method_counts(backbone, row, index, method, options) -> None:
    from reports.audit import networks

    other = COUNTINGS[backbone][row].others[index]
    built, reason = networks.count(backbone, Counting(method=method, options=options, formula="0"))
    assert built is not None, reason
    assert built.adapter == other.value, other.condition


def test_the_largest_noah_subnet_is_that_of_svhn() -> None:
    from reports.audit import networks

    counting = COUNTINGS["vit_b16"]["noah"]
    sizes = {}
    for task, options in counting.per_task.items():
        built, _ = networks.count("vit_b16", Counting(method="noah", options=options, formula="0"))
        assert built is not None
        sizes[task] = built.adapter
    assert max(sizes, key=sizes.__getitem__) == "svhn"
    assert sizes["svhn"] == counting.others[0].value == 431_686


def test_convnext_prints_the_count_of_swin() -> None:
    swin, widths = COUNTINGS["convnext_b"]["lora-r8"].others[:2]
    assert swin.value == widths.value == 577_536
    assert rounds_to(swin.value, Decimal("0.58"))


def test_what_does_not_fit_is_a_hole() -> None:
    from reports.audit import networks

    count, reason = networks.count("swin_b", Counting(method="noah", formula="0"))
    assert count is None
    assert "noah" in reason


def test_markdown_has_a_part_a_table_and_a_line_a_row(findings) -> None:
    lines = markdown(listing(findings)).splitlines()
    parts = [line[3:].split()[:3] for line in lines if line.startswith("## ")]
    assert [" ".join(part[:2]).rstrip(":") for part in parts] == [
        *("Table 1", "Table 1", "Table 2", "Table 3", "Table 3", "Table 5")
    ]
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == len(findings) + 2 * 6
    assert {line.replace("\\|", "").count("|") for line in table} == {7}


def test_csv_has_the_numbers_in_full(findings) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(listing(findings).checks))))
    assert len(rows) == len(findings)
    found = {row["row"]: row for row in rows if row["table"] == "table2"}
    assert (found["lora-r8"]["printed"], found["lora-r8"]["recomputed"]) == ("0.44", "0.442368")
    assert found["lora-r8"]["verdict"] == "matches"
    assert found["bitfit"]["printed"] == "0.10"
    for row in rows:
        assert abs(float(evaluate(row["recomputed_from"])) - 1e6 * float(row["recomputed"])) < 1


def test_csv_counts_the_head_where_only_so_it_is_the_printed_number(findings) -> None:
    checks = listing(findings).checks
    recomputed = {(one.table, one.part, one.row): one.recomputed for one in checks}
    bert, clip = (part.name for part in load_parts("table1").parts)
    assert recomputed["table1", bert, "partial"] == "0.800160"
    assert recomputed["table1", clip, "unipt"] == "9.584642"
    assert recomputed["table1", bert, "lst"] == "7.457485"  # prints 7.5 with and without


def test_a_missing_package_is_named(monkeypatch, capsys) -> None:
    from reports.audit import networks

    def count(network, counting):
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

    monkeypatch.setattr(networks, "count", count)
    assert main(["audit", "params"]) == 2
    assert "transformers is missing" in capsys.readouterr().err


def check(audit: str, row: str, standing: Standing) -> Check:
    return Check(audit, "table2", "", row, "average", "1", "1", "", "", "", standing)


def test_a_value_counts_once_and_by_the_worst() -> None:
    checks = [
        check("averages", "one", Standing.FOLLOWS),
        check("deltas", "one", Standing.DOES_NOT),
        check("averages", "two", Standing.CONDITIONAL),
        check("deltas", "two", Standing.FOLLOWS),
        check("deltas", "three", Standing.FOLLOWS),
    ]
    found = summary(checks)
    (section,) = found.sections
    assert section.headings[2:] == ["values", "follow", "only under a condition", "do not follow"]
    assert [(row[0], *row[2:]) for row in section.rows] == [
        ("averages", "2", "1", "1", ""),
        ("deltas", "3", "2", "", "1"),
        ("all", "3", "1", "1", "1"),
    ]
    assert found.closing == "3 printed values checked; 1 do not follow."


def test_all_audits_give_the_committed_page_and_its_counts(capsys) -> None:
    page = Path(__file__).resolve().parents[2] / "reports" / "AUDIT.md"
    assert main(["audit"]) == 0
    text = capsys.readouterr().out
    assert text == page.read_text(encoding="utf-8")
    counted = [line.replace("|", " ").split() for line in text.splitlines()]
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


def test_one_csv_for_all_or_for_one(capsys) -> None:
    assert main(["audit", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert Counter(row["audit"] for row in rows) == {
        "averages": 76,
        "deltas": 99,
        "params": 66,
        "flops": 11,
    }
    columns = "audit table part row what printed recomputed recomputed_from verdict reason".split()
    assert list(rows[0]) == columns
    assert main(["audit", "--format", "csv", "deltas"]) == 0
    alone = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert alone == [row for row in rows if row["audit"] == "deltas"]
    assert main(["audit", "delta"]) == 2
    assert "did you mean 'deltas'?" in capsys.readouterr().err
