"""Tables of one configuration alone: records of another data variant are never read into the same one."""

from __future__ import annotations

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.store import Store
from benchmarks.vtab1k.spec import VTAB1K
from reports.cli import main

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
                sources={}, where={"code": {"dirty": False}, "environment": {}, "hardware": {}}, run={},
            )  # fmt: skip
            Store(tmp_path, "paper").write(cell, record)
    return tmp_path


def linear_row(text):
    rows = [line for line in text.splitlines() if line.strip("| `").startswith("linear")]
    return next(row for row in rows if "±" in row or "50.0" in row or "75.0" in row)


def test_a_table_takes_the_records_of_one_variant(results, tmp_path, capsys):
    out = tmp_path / "tables"
    assert main(["build", "--results", str(results), "--scale", "paper", "--out", str(out)]) == 3
    declared = (out / "paper" / "table2.md").read_text()
    assert "50.0" in linear_row(declared)
    assert "75.0" not in linear_row(declared)
    assert "the record is of another configuration" in declared
    options = ["--results", str(results), "--scale", "paper", "--set", "data.variant=folder"]
    assert main(["build", *options, "--out", str(out)]) == 3
    other = (out / "paper-folder" / "table2.md").read_text()
    assert "75.0" in linear_row(other)
    assert "50.0" not in linear_row(other)
    assert "Configuration as declared, but for data.variant = folder." in other
    assert (out / "paper" / "table2.md").read_text() == declared
    capsys.readouterr()
    assert main(["show", "table2", *options]) == 0
    assert "data.variant = folder" in capsys.readouterr().out
