"""The audit of FLOPs: its arithmetic by hand and against torch's counter, its verdicts, what it rules out."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from reports import published
from reports.audit import flops
from reports.audit.arithmetic import evaluate
from reports.audit.check import markdown
from reports.audit.counting import Verdict
from reports.cli import main

PENALTIES = ("euclidean", "cosine", "nonlinear", "linear")
TOKENS = 32 * 197

# Of a block 12 d^2 a token (q, k, v and proj 4, MLP 8) and 2 x 197^2 d an image; d^2 = 589,824.
PATCHES = 3_699_376_128  # 32 x 196 x 589,824
LAYERS = 535_428_071_424  # 144 x 6,304 x 589,824
ATTENTION = 22_890_479_616  # 12 x 2 x 32 x 38,809 x 768
FULL = PATCHES + LAYERS + ATTENTION
LORA = FULL + 697_171_968  # 36 x 2 x 768 x 2 x 6,304 = 110,592 x 6,304
DTL = FULL + 232_390_656  # a third of it
MAPS = 267_714_035_712  # 72 x 589,824 x 6,304


@pytest.fixture(scope="module")
def found():
    return {finding.method: finding for finding in flops.audit()}


def tera(value: Fraction | int) -> float:
    return round(float(value) / 10**12, 3)


def test_the_counts_by_hand(found) -> None:
    assert evaluate(flops.LINEAR) == PATCHES + LAYERS
    assert evaluate(flops.ATTENTION) == ATTENTION
    pooled_linear = 36 * 3 * 589_824 * 32
    pooled_nonlinear = 36 * 5 * 32_768
    by_hand = {
        "full": FULL,
        "lora-r2": LORA,
        "lora-r2+euclidean": LORA + MAPS,
        "lora-r2+cosine": LORA + MAPS,
        "lora-r2+nonlinear": LORA + MAPS + pooled_nonlinear,
        "lora-r2+linear": LORA + MAPS + pooled_linear,
        "dtl": DTL,
        "dtl+euclidean": DTL + MAPS // 3,
        "dtl+cosine": DTL + MAPS // 3,
        "dtl+nonlinear": DTL + MAPS // 3 + pooled_nonlinear // 3,
        "dtl+linear": DTL + MAPS // 3 + pooled_linear // 3,
    }
    assert {method: one.value for method, one in found.items()} == by_hand
    assert (tera(PATCHES + LAYERS), tera(FULL), tera(LORA)) == (0.539, 0.562, 0.563)
    assert (tera(LORA + MAPS), tera(DTL + MAPS // 3)) == (0.830, 0.651)


def test_every_printed_number_and_what_it_hangs_on(found) -> None:
    printed = {"full": "0.54", "lora-r2": "0.56", "dtl": "0.56"}
    printed |= {f"lora-r2+{penalty}": "0.83" for penalty in PENALTIES}
    printed |= {f"dtl+{penalty}": "0.65" for penalty in PENALTIES}
    assert {method: str(one.printed) for method, one in found.items()} == printed
    assert {one.verdict for one in found.values()} == {Verdict.ONLY_IF}
    for method, one in found.items():
        assert one.conditions[0] == flops.IS_FORWARD
        rest = " ".join(one.conditions[1:])
        assert ("products of the attention are left out" in rest) is (method == "full")
        assert ("36 matrices of rank 2" in rest) is method.startswith("lora-r2+")
        assert ("12 matrices of rank 2" in rest) is method.startswith("dtl+")
        assert (flops.IS_POOLED in rest) is method.endswith(("+linear", "+nonlinear"))


def test_full_is_printed_without_the_attention_and_lora_with_it() -> None:
    assert not flops.prints(flops.FULL, Decimal("0.54"))
    assert flops.prints(flops.LINEAR, Decimal("0.54"))
    assert not flops.prints(f"{flops.LINEAR} + {flops.low_rank(36, 2)}", Decimal("0.56"))
    assert not flops.prints(f"{flops.LINEAR} + {flops.low_rank(36, 8)}", Decimal("0.56"))
    assert not flops.one_way_prints_all()


def test_the_number_of_maps_that_the_printed_numbers_take() -> None:
    one_map = 589_824 * TOKENS  # 3,718,250,496
    for base, count, printed, fits in (
        ("lora-r2", LORA, "0.83", [71, 72, 73]),
        ("dtl", DTL, "0.65", [23, 24]),
    ):
        by_hand = [
            n
            for n in range(1, 400)
            if abs(Fraction(count + n * one_map, 10**12) - Fraction(printed)) <= Fraction(1, 200)
        ]
        assert by_hand == fits
        assert flops.number_of_maps(base, Decimal(printed)) == fits


def test_what_other_settings_would_print() -> None:
    values = {(one.row, one.words): tera(one.value) for one in flops.READINGS}
    assert values == {
        ("lora-r2+linear", "24 matrices, r = 2"): 0.741,
        ("lora-r2+linear", "36 matrices, r = 2"): 0.830,
        ("lora-r2+linear", "48 matrices, r = 2"): 0.920,
        ("lora-r2+linear", "24 matrices, r = 8"): 1.278,
        ("lora-r2+linear", "36 matrices, r = 4"): 1.099,
        ("lora-r2+linear", "36 matrices, r = 8"): 1.636,
        ("lora-r2+linear", "R_l's own products over all tokens"): 1.232,
        ("lora-r2+nonlinear", "R_n's own products over all tokens"): 45.925,
        ("lora-r2+linear", "maps after the mean over tokens"): 0.564,
        ("lora-r2+linear", "features as z_i b_i, without maps"): 0.563,
        ("dtl+linear", "12 matrices, r = 2"): 0.651,
        ("dtl+linear", "12 matrices, r = 4"): 0.741,
        ("dtl+linear", "R_l's own products over all tokens"): 0.785,
    }
    printed = {one.method: one.printed for one in flops.audit()}
    fit = [
        one.words
        for one in flops.READINGS
        if flops.prints(f"{flops.FULL} + {one.added}", printed[one.row])
    ]
    assert fit == ["36 matrices, r = 2", "12 matrices, r = 2"]


def test_what_the_closed_form_needs() -> None:
    needs = [evaluate(need.closed) for need in flops.NEEDS]
    assert needs == [907_776, 14_524_416, 302_592]
    shares = [evaluate(need.closed) / evaluate(need.with_maps) for need in flops.NEEDS]
    assert shares == [Fraction(rank, 768**2) for rank in (2, 8, 2)]  # N r^2 over r d^2 N


@pytest.mark.parametrize("printed", ["0.53", "0.55", "0.84"])
def test_a_number_that_nothing_gives(printed: str) -> None:
    finding = flops.judge("full", "Full", Decimal(printed))
    assert (finding.verdict, finding.conditions) == (Verdict.NOT_REPRODUCIBLE, ())


def test_a_changed_table_is_found(monkeypatch, capsys) -> None:
    table = published.load_costs("table6")
    cells = {method: dict(row) for method, row in table.cells.items()}
    cells["lora-r2+linear"]["flops_t"] = "1.64"
    cells["full"]["flops_t"] = "0.56"
    monkeypatch.setattr(published, "load_costs", lambda _: replace(table, cells=cells))
    verdicts = {one.method: one.verdict for one in flops.audit()}
    lost = [method for method, one in verdicts.items() if one is Verdict.NOT_REPRODUCIBLE]
    assert lost == ["lora-r2+linear"]
    assert flops.one_way_prints_all()
    assert main(["audit", "flops"]) == 0
    last = capsys.readouterr().out.rpartition("\n\n")[2]
    assert "1 cannot be had" in last
    assert "two ways" not in last


def test_the_forward_pass_is_what_torch_counts() -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks import backbones

    classes = 10
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad():
        config = {"name": "vit_b16", "weights": "random", "drop_path": 0.0}
        model = backbones.build(config, num_classes=classes)[0]
        # The counter does not know the fused attention of every device.
        with sdpa_kernel(SDPBackend.MATH), counter:
            model(torch.empty(32, 3, 224, 224))
    assert counter.get_total_flops() == 2 * (FULL + 32 * 768 * classes)


def test_penalties_cost_what_torch_counts() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import resora.literal as literal
    from resora import penalties

    def count(call, *arguments) -> int:
        with FlopCounterMode(display=False) as counter:
            call(*arguments)
        return counter.get_total_flops() // 2

    with torch.device("meta"):
        x, a, b = torch.empty(TOKENS, 768), torch.empty(2, 768), torch.empty(2, 768)
        images = torch.empty(2, 768, 32)
    assert count(literal.features_from_maps, x, a, b) == evaluate(flops.maps(1, 2))
    assert count(literal.linear, images) == evaluate(flops.products_of_linear(1, "32"))
    few, z, directions = (
        torch.randn(2, 768, 32),
        torch.randn(36, TOKENS, 2),
        torch.randn(36, 2, 768),
    )
    assert count(literal.nonlinear, few, 0.5) == evaluate(flops.products_of_nonlinear(1, "32"))
    assert count(literal.euclidean, images, 1.0) == count(literal.cosine, images) == 0
    assert count(penalties.linear, z, directions) == evaluate(flops.NEEDS[0].closed)


def test_the_listing_says_what_would_print_each_number() -> None:
    listing = flops.listing()
    text = markdown(listing)
    assert "71 to 73 maps" in text
    assert ": 3 of rank 2." in text
    assert "No one way of counting prints both 0.54" in listing.closing
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 3 * 2 + 11 + len(flops.READINGS) + len(flops.NEEDS)


def test_csv_has_arithmetic_that_gives_the_number(capsys) -> None:
    assert main(["audit", "flops", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["row"] for row in rows][:2] == ["full", "lora"]
    for row in rows:
        assert tera(evaluate(row["recomputed_from"])) == round(float(row["recomputed"]), 3)
        assert (row["table"], row["what"]) == ("table6", "flops_t")
