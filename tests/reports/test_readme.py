"""The README's results are written from the records, between its markers, and checked."""

from __future__ import annotations

import pytest

from benchmarks.harness.errors import UsageError
from reports import build, readme
from reports.cli import main

AROUND = "# A title\n\n{begin}\nby hand\n{end}\n\n## After\n"


@pytest.fixture
def page(full_world, tmp_path, monkeypatch):
    """A README with markers, and the small world."""
    monkeypatch.setattr(build, "BENCHMARKS", {"vtab1k": full_world.benchmark})
    path = tmp_path / "README.md"
    path.write_text(AROUND.format(begin=readme.BEGIN, end=readme.END))
    return path


def command(page, world, *more):
    return main(["readme", "--readme", str(page), "--results", str(world.results), *more])


def test_the_results_are_written_between_the_markers_and_nothing_else_changes(page, full_world):
    assert readme.differences(page, full_world.results)
    assert command(page, full_world) == 0
    text = page.read_text()
    before, _, rest = text.partition(readme.BEGIN)
    assert before == "# A title\n\n"
    assert rest.partition(readme.END)[2] == "\n\n## After\n"
    assert "by hand" not in text
    assert "NOT a reproduction of the paper's numbers" in text
    # 66.3 ± 1.4 and the differences are those of the small world, by hand in test_tables.py.
    (row,) = [line for line in text.splitlines() if line.startswith("| lora-r8+linear ")][:1]
    assert "66.3 ± 1.4" in row
    assert "+2.00 [-0.48, +4.48]" in row
    plain = " ".join(text.split())
    # By task 0.5, 1, 2: mean 1.1667, std 0.7638, times t(2, 0.975) / sqrt(3) = 2.4841: 1.897.
    assert "+1.17 [-0.73, +3.06]" in plain
    assert (
        "over the control: of 1 differences those that leave zero out are 0; by chance one in twenty"
        in plain
    )
    # The control over the base, by task: (0 + 1) / 2, 1, 1: mean 0.83.
    assert "The control over `lora-r8`, which has trained half as long: +0.83" in plain
    # Every record of the small world ends at 0.2.
    assert "| lora-r8+linear | 0.200 | 0.200 | 0.200 | 0 of 6 |" in plain
    assert readme.differences(page, full_world.results) == []
    assert command(page, full_world) == 0
    assert page.read_text() == text


def test_a_row_without_a_record_is_named_and_not_shown(page, full_world):
    for task in ("cifar100", "caltech101", "eurosat"):
        for seed in (0, 1):
            full_world.path(task, "lora-r8+control", seed).unlink()
    command(page, full_world)
    text = page.read_text()
    assert "Without a record: `lora-r8+control`." in text
    assert "over the control" not in text


def test_an_edited_number_is_found(page, full_world):
    command(page, full_world)
    page.write_text(page.read_text().replace("66.3", "67.3", 1))
    (line,) = readme.differences(page, full_world.results)
    assert line.startswith(f"{page}: its results are not those that the records give")


@pytest.mark.parametrize(
    "text",
    ["nothing", readme.BEGIN, f"{readme.END}\n{readme.BEGIN}", readme.BEGIN * 2 + readme.END],
)
def test_markers_are_needed(text, full_world):
    with pytest.raises(UsageError, match="needs one line"):
        readme.with_results(text, full_world.results)
