"""What a build covers: all six tables, from an empty store too; scales; drafts; the HTML page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from benchmarks.harness.registry import BENCHMARKS
from reports import figures, html
from reports.cli import main
from reports.page import Block, Column, Entry, Page, Row
from reports.published import load_parts
from reports.records import recorded_scales
from reports.scale import load_scale

SIX = [f"table{number}" for number in range(1, 7)]


class Reader(HTMLParser):
    """Tags that are open, rows of text, commands, and where things are loaded from."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.commands, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br", "line", "polyline", "input"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag, attrs):
        """Nothing is inside it."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "code" in self.open:
            self.commands.append(data)
        elif "tr" in self.open and data.strip():
            self.rows[-1].append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The folder of tables, and the exit code, from a store without records; without the figures."""
    out = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FIGURES", ())
        code = main(["build", "--results", str(out / "none"), "--out", str(out)])
    return out, code


def test_an_empty_store_gives_all_six_tables_of_every_scale_and_3(empty):
    out, code = empty
    assert code == 3
    assert sorted(folder.name for folder in out.iterdir()) == ["micro", "paper", "smoke"]
    for folder in out.iterdir():
        for name in SIX:
            for suffix in ("md", "tex", "csv", "sources.csv"):
                assert (folder / f"{name}.{suffix}").stat().st_size, (folder, name, suffix)
        for name in SIX:
            text = (folder / f"{name}.md").read_text()
            assert "no record" in text or "not here" in text


def test_the_rows_of_an_empty_table_are_there_with_the_papers_numbers(empty):
    out, _ = empty
    text = (out / "paper" / "table2.md").read_text()
    (row,) = re.findall(r"^\| lora-r8\+linear .*$", text.split("## ")[1], flags=re.M)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:9] == ["--"] * 8
    assert cells[9:] == ["0.44", "77.2", "75.0", "+0.7"]
    assert "EMBEDDED" not in text
    assert "EMBEDDED" in (out / "micro" / "table2.md").read_text()


def test_table_1_has_every_row_of_the_paper_and_the_control(empty):
    out, _ = empty
    text = (out / "paper" / "table1.md").read_text()
    for part in load_parts("table1").parts:
        assert f"Ours: {part.benchmark}" in text
        for row in part.rows:
            assert row.cells["rsum"] in text
    assert text.count("| lora-r8+control") == 2


def test_the_page_gives_the_command_of_every_row_with_holes(empty):
    out, _ = empty
    reader = read((out / "paper" / "index.html").read_text())
    grids = BENCHMARKS["vtab1k"]
    for method in grids.tables[0].rows:
        command = f"python -m benchmarks run 'vtab1k/vit_b16/*/{method}' --scale paper"
        assert (command in reader.commands) == (method in grids.methods), command
    assert "python -m benchmarks run 'vtab1k/swin_b/*/fact-tk' --scale paper" in reader.commands
    assert "python -m benchmarks run 'cost/vit_b16/*/lora-r2' --scale paper" in reader.commands
    for command in reader.commands:
        *_, selector, _, scale = command.replace("'", "").split()
        assert scale == "paper"
        assert (
            selector.split("/")[1] in BENCHMARKS[selector.split("/")[0]].scales["paper"].backbones
        )


def test_the_page_is_one_file(empty):
    out, _ = empty
    for scale in ("smoke", "paper"):
        text = (out / scale / "index.html").read_text()
        for source in read(text).sources:
            assert source.startswith(("#", "data:image/svg+xml;base64,")), source[:60]
        assert "http:" not in text
        assert "https:" not in text
    assert "NOT a reproduction" in (out / "smoke" / "index.html").read_text()
    assert "NOT a reproduction" not in (out / "paper" / "index.html").read_text()


def test_html_escapes_and_shows_sections_and_groups(only_world):
    scale = load_scale(only_world.results, "micro")
    entries = (
        Entry("1.0", "± 0.1 (n=2)", "a", 1.0, "0.9", "vtab1k/vit_micro//linear"),
        Entry("--"),
    )
    block = Block(
        title="a < b",
        columns=(Column("x & y", "second"), Column("z", "first")),
        rows=(Row("full", entries, "PETL <methods>", "run 'this'"),),
    )
    page = Page(title="Table 2 · scale paper", legend=(), ours=(block,))
    text = html.render(scale, [("table2", page)], [], only_world.results.parent / "out")
    assert "a &lt; b" in text
    assert "PETL &lt;methods&gt;" in text
    assert (
        '<a href="#vtab1k/vit_micro//linear">1.0</a> <small>± 0.1 (n=2)</small><sup>a</sup>' in text
    )
    # Groups stand in the order of their columns.
    heads = re.findall(r'scope="colgroup" data-group="(\w+)"', text)
    assert heads == ["second", "first"]
    assert 'title="run &#39;this&#39;">--</td>' in text
    assert ["full", "1.0", "± 0.1 (n=2)", "a", "0.9", "--"] in read(text).rows


def test_a_number_leads_to_its_records(only_world, tmp_path):
    scale = load_scale(only_world.results, "micro")
    pages = [(of.name, of.page) for of in scale.tables.values()]
    text = html.render(scale, pages, [], tmp_path / "tables" / "micro")
    record = scale.records.grid("vtab1k").at("lora-r8", "eurosat")[0]
    assert 'href="#vtab1k/vit_micro/eurosat/lora-r8"' in text
    assert '<li id="vtab1k/vit_micro/eurosat/lora-r8">' in text
    assert f'<a href="../../results/{record.path}">' in text
    assert record.record["record_sha256"] in text


def test_a_record_that_nobody_declares_has_a_heading_of_its_own(only_world, tmp_path, monkeypatch):
    """In no table and no hole; without such a record there is no heading."""
    monkeypatch.setattr(figures, "FIGURES", ())
    options = ["--results", str(only_world.results), "--scale", "micro", "--out", str(tmp_path)]
    page = tmp_path / "micro" / "index.html"
    main(["build", *options])
    before = (tmp_path / "micro" / "table2.csv").read_bytes()
    assert "Records that no benchmark declares" not in page.read_text()
    only_world.write("eurosat", "lora-r16", 0, 0.915)
    assert main(["build", *options]) == 0
    assert (tmp_path / "micro" / "table2.csv").read_bytes() == before
    text = page.read_text()
    section = text[text.index('<section id="undeclared">') :]
    assert '<a href="#vtab1k/vit_micro/eurosat/lora-r16">91.5</a>' in section
    assert '<li id="vtab1k/vit_micro/eurosat/lora-r16">' in section


def test_the_pareto_front_has_what_no_other_beats():
    points = {"a": (1, 10.0), "b": (2, 12.0), "c": (3, 11.0), "d": (2, 11.5), "e": (9, 13.0)}
    assert html.pareto_front(points) == ["a", "b", "e"]


def test_scales_without_records_are_left_out(only_world, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", ())
    out = tmp_path / "tables"
    assert recorded_scales(only_world.results) == ("micro",)
    main(["build", "--results", str(only_world.results), "--out", str(out)])
    assert [folder.name for folder in out.iterdir()] == ["micro"]


def test_a_draft_has_its_own_folder(only_world, tmp_path, monkeypatch, capsys):
    shown = [one for one in figures.FIGURES if one.name == "figure1b"]
    monkeypatch.setattr(figures, "FIGURES", tuple(shown))
    out = tmp_path / "tables"
    only_world.write("eurosat", "linear", 0, 0.4, code={"dirty": True})
    options = ["--results", str(only_world.results), "--out", str(out), "--scale", "micro"]
    main(["build", *options])
    path = only_world.path("eurosat", "linear", 0)
    assert f"not used, refused: {path}: the code that ran had" in capsys.readouterr().err
    main(["build", *options, "--draft"])
    assert "refused" not in capsys.readouterr().err
    assert sorted(folder.name for folder in out.iterdir()) == ["micro", "micro-draft"]
    assert "DRAFT" in (out / "micro-draft" / "table2.tex").read_text()
    assert "DRAFT" in (out / "micro-draft" / "figure1b.svg").read_text()
    assert "DRAFT" not in (out / "micro" / "table2.tex").read_text()
