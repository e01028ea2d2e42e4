"""Tables of one configuration alone: records of another data variant are never read into the same one."""

from __future__ import annotations

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.store import Store
from benchmarks.vtab1k.spec import VTAB1K
from reports.cli import main
from reports.scale import load_scale, load_table

SCALE = VTAB1K.scales["paper"]


@pytest.fixture
def results(tmp_path):
    """`linear` on ViT-B/16: 50 % on cifar100 from TFDS, 75 % on caltech101 from exported files."""
    for task, variant, value in (("cifar100", "tfds", 0.5), ("caltech101", "folder", 0.75)):
        overrides = {} if variant == "tfds" else {"data.variant": variant}
        for seed in SCALE.seeds:
            cell = Cell("vtab1k", "vit_b16", task, "linear", seed)
            record = build_record(
                VTAB1K, SCALE, cell, VTAB1K.config(cell, SCALE, overrides), status="ok", error=None,
                outcome=Outcome(
                    metrics={"top1_accuracy": {"last_epoch": value}}, cost={"trainable_params": 0}
                ),
                sources={}, where={"code": {"dirty": False}, "environment": {}, "hardware": {}},
                run={"attempt": 1},
            )  # fmt: skip
            Store(tmp_path, "paper").write(cell, record)
    return tmp_path


def test_a_table_takes_the_records_of_one_variant(results, capsys):
    options = ["--results", str(results), "--scale", "paper"]
    assert main(["show", "table2", *options]) == 0
    declared = capsys.readouterr().out
    assert "the record is of another configuration" in declared
    assert "data.variant" not in declared
    assert main(["show", "table2", *options, "--set", "data.variant=folder"]) == 0
    assert "Configuration as declared, but for data.variant = folder." in capsys.readouterr().out
    for settings, values in (({}, [50.0, None]), ({"data.variant": "folder"}, [None, 75.0])):
        (table,) = load_table(results, "paper", "table2", settings)
        tasks = ("cifar100", "caltech101")
        assert [table.parts[0].value("linear", "task", task) for task in tasks] == values


def test_other_settings_and_drafts_have_folders_of_their_own(tmp_path):
    assert load_scale(tmp_path, "paper").folder == "paper"
    assert load_scale(tmp_path, "paper", {"data.variant": "a/b"}).folder == "paper-a-b"
    assert load_scale(tmp_path, "paper", drafts=True).folder == "paper-draft"
