"""The README's results are written from the records, between its markers, and checked."""

from __future__ import annotations

import pytest

from benchmarks.harness.errors import UsageError
from reports import readme
from reports.cli import main
from reports.scale import load_scale

AROUND = "# A title\n\n{begin}\nby hand\n{end}\n\n## After\n"


@pytest.fixture
def page(only_world, tmp_path):
    """A README with markers, and the small world."""
    for name in ("RESULTS.md", "RECIPES.md", "README.md"):
        path = tmp_path / name
        path.write_text(AROUND.format(begin=readme.BEGIN, end=readme.END))
    return path


def pages(page):
    others = {"page": "RESULTS.md", "recipes": "RECIPES.md"}
    return {"readme": page} | {name: page.with_name(file) for name, file in others.items()}


def command(page, world):
    options = [f"--{name}={path}" for name, path in pages(page).items()]
    return main(["readme", *options, "--results", str(world.results)])


def differences(page, world):
    return readme.differences(pages(page), load_scale(world.results, "micro"))


def test_the_results_are_written_between_the_markers_and_nothing_else_changes(page, only_world):
    assert differences(page, only_world)
    assert command(page, only_world) == 0
    text = page.with_name("RESULTS.md").read_text()
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
        "against their control: 0 of 1 intervals do not contain zero. By chance, one in twenty"
        in plain
    )
    # The control over the base, by task: (0 + 1) / 2, 1, 1: mean 0.83.
    assert "The control against `lora-r8`, which is trained for half as many epochs: +0.83" in plain
    # Every record of the small world ends at 0.2.
    assert "| lora-r8+linear | 0.200 | 0.200 | 0.200 | 0 of 6 |" in plain
    assert differences(page, only_world) == []
    assert command(page, only_world) == 0
    assert page.with_name("RESULTS.md").read_text() == text
    rows = [line.split("|")[1:-1] for line in page.read_text().splitlines() if "| " in line]
    rows = {method.strip(): [cell.strip() for cell in cells] for method, *cells in rows}
    assert rows["lora-r8+linear"] == ["66.3 ± 1.4", "+1.17 [-0.73, +3.06]", "0.200"]
    assert list(rows)[1:3] == ["lora-r8", "lora-r8+control"]


def test_a_row_without_a_record_is_named_and_not_shown(page, only_world):
    for task in ("cifar100", "caltech101", "eurosat"):
        for seed in (0, 1):
            only_world.path(task, "lora-r8+control", seed).unlink()
    command(page, only_world)
    text = page.with_name("RESULTS.md").read_text()
    assert "No record yet: `lora-r8+control`." in text
    assert "against their control" not in text


@pytest.mark.parametrize("name", ["README.md", "RESULTS.md"])
def test_an_edited_number_is_found(name, page, only_world):
    command(page, only_world)
    page = page.with_name(name)
    page.write_text(page.read_text().replace("66.3", "67.3", 1))
    (line,) = differences(page.with_name("README.md"), only_world)
    assert line.startswith(f"{page}: its results are not those that the records give")


@pytest.mark.parametrize(
    "text",
    ["nothing", readme.BEGIN, f"{readme.END}\n{readme.BEGIN}", readme.BEGIN * 2 + readme.END],
)
def test_markers_are_needed(text):
    with pytest.raises(UsageError, match="needs one line"):
        readme.with_results(text, "made")
