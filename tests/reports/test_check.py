"""Committed tables follow from committed records, and what does not is named."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from reports import figures, readme
from reports.check import compared
from reports.cli import main

ROOT = Path(__file__).resolve().parents[2]
TABLES, RESULTS = ROOT / "reports" / "tables", ROOT / "results"


@pytest.fixture
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
            "benchmarks/README.md",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if state.returncode or state.stdout.strip():
        pytest.skip("records or tables here are not the committed ones: python -m reports check")


@pytest.mark.usefixtures("_committed")
def test_the_committed_tables_follow_from_the_committed_records(committed, committed_build):
    for name, folder in committed_build.items():
        assert list(compared(folder, TABLES / name)) == []
    files = {"readme": "README.md", "page": "reports/RESULTS.md", "recipes": "benchmarks/README.md"}
    pages = {name: ROOT / file for name, file in files.items()}
    assert readme.differences(pages, committed[readme.SCALE]) == []


@pytest.mark.usefixtures("_committed")
def test_an_edited_a_missing_and_a_stray_file_are_named(committed_build, tmp_path):
    copy = shutil.copytree(TABLES / "micro", tmp_path / "micro")
    page, numbers, picture = (
        copy / f"{name}" for name in ("table2.md", "table5.csv", "redundancy.png")
    )
    page.write_text(page.read_text().replace("56.7", "57.7", 1))
    lines = list(csv.DictReader(io.StringIO(numbers.read_text())))
    edited = next(line for line in lines if line["value"])
    numbers.write_text(numbers.read_text().replace(f",{edited['value']},", ",1.5,", 1))
    picture.write_bytes(picture.read_bytes()[:-1] + b"?")
    (copy / "table5.tex").unlink()
    (copy / "table9.md").write_text("by hand")
    (copy / "index.html").write_text("built, and not committed")
    found = list(compared(committed_build["micro"], copy))
    assert len(found) == 5
    assert found[0] == f"{picture}: another picture than the records give"
    assert found[1].startswith(f"{page}: line ")
    assert found[2].startswith(f"{numbers}: 1 values differ, first table5/micro/vtab1k/")
    assert found[2].endswith(f" value: '1.5', the records give {edited['value']!r}")
    assert found[3] == f"{copy / 'table5.tex'}: missing, the records give it"
    assert found[4] == f"{copy / 'table9.md'}: nothing builds it"


def test_the_command_names_what_differs(only_world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", ())
    options = ["--results", str(only_world.results), "--scale", "micro", "--out", str(tmp_path)]
    main(["build", *options])
    assert main(["check", *options]) == 0
    assert capsys.readouterr().out.endswith("micro: 0 files differ from what the records give\n")
    (tmp_path / "micro" / "table5.md").unlink()
    assert main(["check", *options]) == 1
    assert "missing, the records give it" in capsys.readouterr().out


@pytest.mark.usefixtures("_committed")
def test_every_number_of_a_table_has_its_record_in_the_sources():
    with (TABLES / "micro" / "table2.sources.csv").open() as file:
        sources = list(csv.DictReader(file))
    with (TABLES / "micro" / "table2.csv").open() as file:
        numbers = [line for line in csv.DictReader(file) if line["quantity"] == "task"]
    for line in numbers:
        behind = [s for s in sources if (s["method"], s["task"]) == (line["method"], line["name"])]
        assert len(behind) == int(line["n"] or 0), (line["method"], line["name"])
    for source in sources[::40]:
        record = json.loads((RESULTS / source["record"]).read_text())
        assert record["record_sha256"] == source["record_sha256"]
        assert record["cell"]["seed"] == int(source["seed"])
