"""The few-shot table and its figures, from hand-made records with known accuracies."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fewshot.spec import EMBEDDED_SETS, FEWSHOT, METHODS, SETS, SHOTS
from benchmarks.harness.cell import Cell
from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.store import Store
from reports import claims, readme
from reports.figures.few_shot import accuracy_over_shots, gain_over_shots
from reports.published import few_shot as published
from reports.records import load_grid, read
from reports.scale import load_scale

(TABLE,) = FEWSHOT.tables
SCALE = FEWSHOT.scales["micro"]
NAMES = [name for name, *_ in SETS]
OFFSETS = {"adapter": 0.0, "lora-r8": 1.0, "lora-r8+linear": 3.0, "lora-r8+control": 2.5}


def accuracy(name, shots, method, seed):
    """20 % and a point more with each set, seed and shot; what the method adds, for one twice at 16."""
    gain = OFFSETS[method]
    if method == "lora-r8+linear" and shots == 16:
        gain += 2.0 + 0.1 * NAMES.index(name)
    return (20 + NAMES.index(name) + seed + shots + gain) / 100


def write(results, name, shots, method, seed):
    cell = Cell("fewshot", "vit_micro", f"{name}-{shots}shot", method, seed)
    rules = {"last_epoch": 0.0, "max_test": 1.0, "best_val": accuracy(name, shots, method, seed)}
    record = build_record(
        FEWSHOT,
        SCALE,
        cell,
        FEWSHOT.config(cell, SCALE),
        status="ok",
        error=None,
        outcome=Outcome(
            metrics={"top1_accuracy": rules}, redundancy=None, cost={"trainable_params": 46_080}
        ),
        sources={},
        where={"code": {"commit": "0" * 16, "dirty": False}, "environment": {}, "hardware": {}},
        run={"attempt": 1},
    )
    store = Store(results, "micro")
    store.write(cell, record)
    return store.path(cell)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few_shot") / "results"
    for name in NAMES:
        for shots in SHOTS:
            for method in OFFSETS:
                for seed in SCALE.seeds:
                    write(folder, name, shots, method, seed)
    return folder


def grid_of(results):
    return load_grid(FEWSHOT, "vit_micro", Store(results, "micro"))


@pytest.fixture(scope="module")
def found(results, laid_out):
    return laid_out(TABLE, grid_of(results))


@pytest.fixture
def data(found):
    return found.parts[0]


@pytest.fixture
def page(found):
    return found.page


def rows(page, title):
    block = next(block for block in page.ours if block.title.startswith(title))
    return {row.name: [entry.whole for entry in row.cells] for row in block.rows}


def test_means_by_shots_are_those_by_hand(page):
    """Mean over the sets: 22 + seed + shots + gain; over the seeds 23 + shots + gain, std 1."""
    found = rows(page, "By shots")
    assert list(found) == list(METHODS)
    assert found["adapter"][1:] == [
        *("24.0 ± 1.0", "25.0 ± 1.0", "27.0 ± 1.0", "31.0 ± 1.0", "39.0 ± 1.0"),
        "29.2 ± 1.0",
    ]
    assert found["lora-r8+linear"][1] == "27.0 ± 1.0"
    assert found["lora-r8+linear"][5] == "44.2 ± 1.0"
    assert found["dtl-plus"] == ["--"] * 7


def test_gains_by_shots_are_those_by_hand(page):
    """2 points over stage 1 and 0.5 over the control; at 16 shots 2.0 to 2.4 more, which has an interval."""
    found = rows(page, "Gain")
    over_base = found["lora-r8+linear − lora-r8"]
    assert over_base[:4] == ["+2.00 [+2.00, +2.00] ↑"] * 4
    # t(0.975, 4) = 2.776; the std of 4.0, 4.1, 4.2, 4.3, 4.4 is 0.158.
    assert over_base[4] == "+4.20 [+4.00, +4.40] ↑"
    assert found["lora-r8+linear − lora-r8+control"][0] == "+0.50 [+0.50, +0.50] ↑"
    assert found["lora-r8+control − lora-r8"][5] == "+1.50 [+1.50, +1.50] ↑"
    assert found["dtl-plus+linear − dtl-plus"] == ["--"] * 6


def test_each_set_has_a_block(page):
    assert [block.title for block in page.ours[2:]] == [label for _, label, *_ in SETS]
    assert rows(page, "Oxford Pets")["adapter"][0] == "26.0 ± 1.0"
    assert "NOT a reproduction" in page.warning
    assert "Declared cells without a number: 450 of 750." in page.legend


def test_a_mean_with_a_hole_is_a_hole(tmp_path, laid_out):
    folder = tmp_path / "results"
    for shots in SHOTS:
        for name in NAMES[: 4 if shots == 2 else 5]:
            write(folder, name, shots, "adapter", 0)
    table = laid_out(TABLE, grid_of(folder))
    found = rows(table.page, "By shots")
    assert found["adapter"][1:3] == ["23.0 (n=1)", "--"]
    assert found["adapter"][-1] == "--"
    figure = accuracy_over_shots(table.parts[0])
    heights = figure.axes[5].lines[0].get_ydata()
    assert np.isfinite(heights).tolist() == [True, False, True, True, True]
    assert np.isfinite(figure.axes[4].lines[0].get_ydata()).tolist() == [True, False, *[True] * 3]


def test_figure_3_draws_the_numbers_solid_with_the_penalty(data):
    figure = accuracy_over_shots(data)
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == [*(label for _, label, *_ in SETS), "mean of the 5 sets"]
    for panel in figure.axes:
        styles = {line.get_label(): line.get_linestyle() for line in panel.lines}
        assert styles == {
            **{"adapter": "--", "lora-r8": "--", "lora-r8+linear": "-", "lora-r8+control": ":"}
        }
        assert panel.lines[0].get_xdata().tolist() == list(SHOTS)
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx([22, 23, 25, 29, 37])
    assert figure.axes[5].lines[0].get_ydata().tolist() == pytest.approx([24, 25, 27, 31, 39])
    assert "NOT a reproduction" in figure.get_suptitle()


def test_gains_are_drawn_with_their_intervals(data):
    figure = gain_over_shots(data)
    lora, dtl = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["lora-r8+linear", "dtl-plus+linear"]
    over_control, over_base = (container.lines[0].get_ydata() for container in lora.containers)
    assert list(over_base) == pytest.approx([2, 2, 2, 2, 4.2])
    assert list(over_control) == pytest.approx([0.5, 0.5, 0.5, 0.5, 2.7])
    assert "no record" in [text.get_text() for text in dtl.texts]


def test_without_a_record_both_figures_say_so(tmp_path, laid_out):
    empty = laid_out(TABLE, grid_of(tmp_path)).parts[0]
    for figure in (accuracy_over_shots(empty), gain_over_shots(empty)):
        said = [text.get_text() for panel in figure.axes for text in panel.texts]
        assert set(said) == {"no record"}
        assert len(said) == len(figure.axes)


def test_the_claims_about_shots_are_judged(results):
    found = {claim.id: judged for claim, judged in claims.judge_all(read(results, "micro"))}
    assert found["few-shot-grows"].numbers == (
        "gain of lora-r8+linear at 16 shots − at 1 shot: +2.20 [+2.00, +2.40]",
    )
    assert found["low-data"].verdict is claims.Verdict.CONTRADICTED
    assert found["low-data"].missing["dtl-plus"] == (75, 75)


def test_what_the_paper_draws_is_declared():
    assert tuple(published.DATASETS) == tuple(NAMES)
    assert tuple(published.DATASETS.values()) == tuple(label for _, label, *_ in SETS)
    assert published.SHOTS == SHOTS
    assert set(published.METHODS) == {name for name in METHODS if not name.endswith("+control")}
    assert EMBEDDED_SETS.keys() == set(NAMES)


def test_the_readme_has_the_means_of_what_was_measured(results):
    text = readme.results(load_scale(results, "micro"))
    block = text[text.index("**Few-shot**") :]
    assert "| lora-r8+linear " in block
    assert "24.0 ± 1.0" in block
    assert "| dtl-plus " not in block
    assert "figure3.png" in block
