"""``run --reference``: no shortcut at all comes to the same numbers, but for rounding."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.execute import pending
from benchmarks.harness.registry import select
from benchmarks.harness.workers import run_many
from benchmarks.training import two_stage


def ran(settings, path):
    run_many(
        pending(select([path, path.replace("+linear", "")], "smoke"), settings), settings, 1, print
    )
    record = settings.store.load(Cell.parse(path))
    assert record["status"] == "ok", record["error"]
    return record


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["lora-r8+linear", "dtl-plus+linear", "full", "lst"])
def test_losses_are_the_same(settings, tmp_path, method, precision):
    path = f"vtab1k/vit_micro/eurosat/{method}/0"
    # Most CPUs take a second for a batch in bfloat16.
    few = {"data.limit_train": 24, "data.limit_test": 8, "stage1.batch_size": 8}
    few |= {"stage2.batch_size": 8} if "+" in method else {}
    settings = dataclasses.replace(
        settings, overrides=settings.overrides | few | {"training.precision": precision}
    )
    quick = ran(settings, path)
    plain = ran(
        dataclasses.replace(settings, results=tmp_path / "r2", work=tmp_path / "w2", plain=True),
        path,
    )
    assert plain["cost"]["cached_features"] is None
    assert quick["config_hash"] == plain["config_hash"]
    stage = "stage2" if "+" in method else "stage1"
    for series in ("train_loss", "penalty"):
        ours, theirs = (record["curves"][stage][series] for record in (quick, plain))
        if ours[0] is not None:
            assert ours == pytest.approx(theirs, rel=1e-5 if precision == "fp32" else 1e-2)
    assert quick["counts"] == plain["counts"]


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_turned_off(settings, monkeypatch, plain):
    seen = []
    adamw, held = torch.optim.AdamW, two_stage.hold_in_half

    def optimizer(groups, **options):
        seen.append((options["fused"], options["foreach"]))
        return adamw(groups, **options)

    monkeypatch.setattr(torch.optim, "AdamW", optimizer)
    monkeypatch.setattr(two_stage, "hold_in_half", lambda *args: seen.append("held") or held(*args))
    overrides = settings.overrides | {"training.precision": "bf16"}
    ran(
        dataclasses.replace(settings, plain=plain, overrides=overrides),
        "vtab1k/vit_micro/eurosat/linear/0",
    )
    assert seen == ([(False, False)] if plain else ["held", (True, None)])


def test_the_option_takes_no_other_shortcut(capsys, settings):
    options = ["--reference", "--batch-cells", "2", "--data", str(settings.data)]
    assert main(["run", "vtab1k/vit_micro/eurosat/lora-r8/0", *options]) == 2
    assert (
        "--reference turns off all shortcuts, and --batch-cells is one" in capsys.readouterr().err
    )
