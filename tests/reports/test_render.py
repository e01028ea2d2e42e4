"""Markdown, LaTeX, CSV, terminal and figures: escaped, complete, and the same bytes twice."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports import figures, render
from reports.cli import main
from reports.page import Entry
from reports.records import table_names
from reports.scale import load_table


@pytest.fixture
def commands(only_world):
    """The commands on the small world; returns a function that runs one."""

    def run(*arguments):
        options = ["--results", str(only_world.results), "--scale", "micro"]
        return main([*arguments, *options])

    return run


@pytest.fixture
def page(full_world):
    return full_world.report().page


def test_latex_escapes(page):
    assert render.tex("a_b & 50% ± \\ ↑") == (r"a\_b \& 50\% $\pm$ \textbackslash{} $\uparrow$")
    assert render.tex("naïve") == "na?ve"
    assert render._latex_cell(Entry("-0.2 [-1.0, +2.0]")) == "$-$0.2 [$-$1.0, +2.0]"
    cell = render._latex_cell(Entry("81.2", "± 0.4 (n=2)", "a"))
    assert cell == r"81.2$_{\pm 0.4\,(n=2)}$$^{a}$"
    assert render._latex_cell(Entry("--")) == "--"
    text = render.latex(page)
    assert r"a\_title" in text
    assert r"vit\_micro" in text
    assert text.isascii()


@pytest.mark.parametrize("scale", ["smoke", "micro", "paper"])
def test_latex_has_every_character_of_our_own_words(tmp_path, scale):
    """What it does not know becomes a question mark; that is for words from elsewhere alone."""
    for page in (of.page for name in table_names() for of in load_table(tmp_path, scale, name)):
        words = [page.title, page.warning or "", *page.legend]
        for block in (*page.ours, *page.paper):
            words += [block.title, block.corner, *(column.title for column in block.columns)]
            words += [word for row in block.rows for word in (row.name, row.section)]
            words += [entry.whole for row in block.rows for entry in row.cells]
        unknown = {c for text in words for c in text if not c.isascii()} - render.LATEX.keys()
        assert not unknown, page.title


def test_latex_is_balanced_and_every_row_is_as_wide_as_its_table(full_world, page):
    text = render.latex(page)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    means = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = [line for line in means.splitlines() if " & " in line and "textit" not in line]
    assert len(rows) == len(full_world.benchmark.tables[0].rows)
    assert {line.count(" & ") for line in rows} == {12 - 1}
    # A table that is copied out still says what it is not.
    assert text.count("NOT a reproduction") == 1 + 3


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(full_world, tmp_path):
    for seed in (0, 1):
        full_world.write("eurosat", "lora-r8", seed, status="oom")
    (tmp_path / "table.tex").write_text(render.latex(full_world.report().page))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_markdown(page):
    text = render.markdown(page)
    assert "## Ours, by task: Natural" in text
    assert "| lora-r8+linear " in text
    assert "+2.00 [-0.48, +4.48]" in text
    assert render.md("a|b_c*") == r"a\|b\_c\*"
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace(r"\|", "").count("|") for line in block.splitlines()}) == 1


def test_markdown_names_the_file_of_an_edited_record(full_world):
    path = full_world.path("eurosat", "lora-r8", 0)
    path.write_text(path.read_text().replace("0.8", "0.9"))
    text = render.markdown(full_world.report().page)
    assert "<sup>a</sup>" in text
    assert "eurosat/lora-r8/0.json" in text


def test_csv_has_every_number_in_full(full_world):
    lines = list(csv.DictReader(io.StringIO(full_world.report().frame.to_csv(index=False))))
    found = {(line["method"], line["quantity"], line["name"]): line for line in lines}
    everything = found["lora-r8", "mean", "all_set_average"]
    assert float(everything["value"]) == pytest.approx(193 / 3, rel=1e-14)
    assert (everything["n"], everything["n_declared"]) == ("2", "2")
    assert everything["paper"] == everything["paper_printed"] == "74.3"
    changed = found["lora-r8+linear", "task", "caltech101"]
    assert (changed["paper_printed"], changed["paper"]) == ("-0.2", "93.9")
    absent = found["bitfit", "task", "cifar100"]
    assert (absent["n_declared"], absent["value"], absent["paper"]) == ("0", "", "72.8")


def test_terminal_fits(page):
    text = render.terminal(page)
    assert max(map(len, text.splitlines())) <= 140
    assert "81.0±0.0" in text


def test_terminal_cuts_what_is_too_wide(page):
    text = render.terminal(page, width=45)
    assert text.count("Ours, by task") > 1


def test_build_writes_everything_and_the_same_bytes_twice(commands, tmp_path, capsys):
    assert commands("build", "--out", str(tmp_path / "out")) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "out" / "micro").iterdir()}
    assert set(written) == {
        *(
            f"table{number}.{suffix}"
            for number in (2, 5)
            for suffix in ("md", "tex", "csv", "sources.csv")
        ),
        *(
            f"{name}.{suffix}"
            for name in (
                one.name for one in figures.FIGURES if set(one.tables) <= {"table2", "table5"}
            )
            for suffix in ("png", "svg")
        ),
        *("index.html", "claims.md", "claims.csv"),
    }
    assert written["accuracy_by_task.png"].startswith(b"\x89PNG")
    assert written["redundancy.svg"].rstrip().endswith(b"</svg>")
    assert "table2.md" in capsys.readouterr().out
    commands("build", "--out", str(tmp_path / "again"))
    for name, content in written.items():
        assert (tmp_path / "again" / "micro" / name).read_bytes() == content, name


def test_holes_end_the_build_with_3_and_what_is_not_used_is_named(
    commands, only_world, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(figures, "FIGURES", ())
    only_world.path("eurosat", "linear", 0).unlink()
    path = only_world.path("eurosat", "lora-r8", 0)
    path.write_text(path.read_text()[:100])
    assert commands("build", "--out", str(tmp_path)) == 3
    error = capsys.readouterr().err
    assert f"not used, invalid: {path}: not whole JSON" in error
    assert "declared cells without a number: 2;" in error


def test_show_prints_a_table(commands, capsys):
    assert commands("show", "table2") == 0
    out = capsys.readouterr().out
    assert "lora-r8+linear" in out
    assert "NOT a reproduction" in out


def test_an_unknown_table_or_scale_is_one_line_and_2(commands, only_world, capsys):
    assert commands("show", "tabel2") == 2
    assert "did you mean 'table2'?" in capsys.readouterr().err
    assert main(["build", "--scale", "mikro", "--results", str(only_world.results)]) == 2
    error = capsys.readouterr().err
    assert "did you mean 'micro'?" in error
    assert error.count("\n") == 1


def test_showing_a_table_loads_neither_torch_nor_matplotlib():
    """Each takes as long to import as the table to compute, with its 24 intervals."""
    code = (
        "import sys; from reports.cli import main; main(['show', 'table2', '--scale', 'micro']); "
        "print(sorted({'torch', 'matplotlib', 'jinja2', 'scipy', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lora-r8+linear" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
