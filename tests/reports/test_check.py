"""Committed tables follow from committed records, and what does not is named."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from reports.cli import main

ROOT = Path(__file__).resolve().parents[2]
TABLES, RESULTS = ROOT / "reports" / "tables", ROOT / "results"


@pytest.fixture(autouse=True)
def _committed():
    """A person's own new records do not make these tests fail; a clean checkout, as CI has, runs them."""
    state = subprocess.run(
        [
            "git",
            "status",
            "--porcelain",
            "--",
            "results",
            "reports/tables",
            "README.md",
            "reports/RESULTS.md",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if state.returncode or state.stdout.strip():
        pytest.skip("records or tables here are not the committed ones: python -m reports check")


def test_the_committed_tables_follow_from_the_committed_records(capsys):
    assert main(["check", "--results", str(RESULTS), "--out", str(TABLES)]) == 0
    assert capsys.readouterr().out.endswith(
        "micro paper: 0 files differ from what the records give\n"
    )


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(TABLES / "micro", tmp_path / "micro")
    return tmp_path


def test_an_edited_a_missing_and_a_stray_file_are_named(copy, capsys):
    page = copy / "micro" / "table2.md"
    page.write_text(page.read_text().replace("56.7", "57.7", 1))
    picture = copy / "micro" / "redundancy.png"
    picture.write_bytes(picture.read_bytes()[:-1] + b"?")
    (copy / "micro" / "table5.tex").unlink()
    (copy / "micro" / "table9.md").write_text("by hand")
    assert main(["check", "--results", str(RESULTS), "--out", str(copy)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0] == f"{picture}: another picture than the records give"
    assert lines[1].startswith(f"{page}: line ")
    assert "57.7" in lines[1] or "the records give" in lines[1]
    assert lines[2] == f"{copy / 'micro' / 'table5.tex'}: missing, the records give it"
    assert lines[3] == f"{copy / 'micro' / 'table9.md'}: nothing builds it"
    assert lines[4] == "micro: 4 files differ from what the records give"


def test_every_number_of_a_table_has_its_record_in_the_sources():
    with (TABLES / "micro" / "table2.sources.csv").open() as file:
        sources = list(csv.DictReader(file))
    with (TABLES / "micro" / "table2.csv").open() as file:
        numbers = [line for line in csv.DictReader(file) if line["quantity"] == "task"]
    for line in numbers:
        behind = [s for s in sources if (s["method"], s["task"]) == (line["method"], line["name"])]
        assert len(behind) == int(line["n"]), (line["method"], line["name"])
    for source in sources[::40]:
        record = json.loads((RESULTS / source["record"]).read_text())
        assert record["record_sha256"] == source["record_sha256"]
        assert record["cell"]["seed"] == int(source["seed"])
