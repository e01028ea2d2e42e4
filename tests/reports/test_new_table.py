"""A new table is a declaration: fifteen lines give Markdown, LaTeX, CSV and its place on the page."""

from __future__ import annotations

import csv
from dataclasses import replace

from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.spec import Table
from reports import figures, forms
from reports.cli import main
from reports.layout import Layout, Show, View
from reports.specs import AVERAGE, LAYOUTS


def add_table(monkeypatch, benchmark):
    """Gains of LoRA by group, beside the mean."""
    layout = Layout(
        ours=lambda part: [
            View(
                title="Averages and specialised tasks",
                columns=(
                    AVERAGE,
                    Show(title="EuroSAT", quantity="task", name="eurosat", form=forms.mean),
                ),
            )
        ],
        legend=lambda part: ["Average: the mean of the group means."],
    )
    monkeypatch.setitem(LAYOUTS, "short", layout)
    table = Table(name="short", title="A short table", rows=("linear", "lora-r8"), layout="short")
    tables = (*benchmark.tables, table)
    monkeypatch.setitem(BENCHMARKS, "vtab1k", replace(benchmark, tables=tables))


def test_a_new_table_is_written_everywhere(only_world, monkeypatch, tmp_path, capsys):
    add_table(monkeypatch, only_world.benchmark)
    monkeypatch.setattr(figures, "FIGURES", ())
    options = ["--results", str(only_world.results), "--scale", "micro"]
    assert main(["build", *options, "--out", str(tmp_path)]) == 0
    folder = tmp_path / "micro"
    assert "| lora-r8  | 68.2 ± 1.1 |      80.0 |" in (folder / "short.md").read_text()
    assert r"lora-r8 & 68.2$_{\pm 1.1}$ & 80.0 \\" in (folder / "short.tex").read_text()
    with (folder / "short.csv").open() as file:
        lines = {(line["method"], line["name"]): line for line in csv.DictReader(file)}
    assert lines["lora-r8", "average"]["value"] == "68.25"
    page = (folder / "index.html").read_text()
    assert '<section id="short">' in page
    assert '<a href="#short">A short table</a>' in page
    capsys.readouterr()
    assert main(["show", "short", *options]) == 0
    assert "A short table · scale micro" in capsys.readouterr().out
