"""Figures draw the numbers of the records, say what they lack, and keep their labels apart."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from benchmarks.harness.registry import BENCHMARKS
from reports import figures
from reports.figures import curves, gains, labels, matrix, style, trade_off
from reports.rivals import control_of
from reports.scale import load_scale


def texts(figure):
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def boxes(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    return {
        text.get_text(): Text.get_window_extent(text, renderer)  # without the line to its point
        for panel in figure.axes
        for text in panel.texts
        if text.get_text()
    }


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The tables of an empty store, by name."""
    return load_scale(tmp_path_factory.mktemp("nothing"), "micro").parts


def test_every_figure_is_drawn_from_an_empty_store_and_says_so(empty):
    for declared in figures.FIGURES:
        figure = declared.draw(*(empty[name] for name in declared.tables))
        assert any("no record" in text for text in texts(figure)), declared.name


def test_a_picture_in_256_colours_looks_the_same():
    figure = Figure(figsize=(4, 3), layout="constrained")
    panel = figure.subplots()
    panel.plot(range(9), range(9), color="#0072B2")
    image = panel.imshow(np.arange(100).reshape(10, 10), cmap="cividis")
    figure.colorbar(image)
    plain = io.BytesIO()
    figure.savefig(plain, format="png", dpi=150)
    small = style.encode(figure, ("png",))["png"]
    assert len(small) < len(plain.getvalue()) / 1.5
    before, after = (
        np.asarray(Image.open(source).convert("RGB")).astype(int)
        for source in (plain, io.BytesIO(small))
    )
    assert np.abs(before - after).max() < 16


def test_a_legend_has_what_any_panel_draws_once():
    figure = Figure()
    one, other, empty = figure.subplots(1, 3)
    one.plot([1], label="a")
    other.plot([1], label="a")
    other.plot([2], label="b")
    style.legend_below(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert not empty.lines


def test_gains_are_the_paired_differences_of_each_task(full_world):
    found = gains._gains(
        full_world.table().grid, "lora-r8+linear", "lora-r8+control", ["cifar100", "eurosat"]
    )
    # cifar100: 51 - 50 and 53 - 53; eurosat: 83 - 81 twice.
    assert [spread.mean for spread in found] == pytest.approx([0.5, 2])
    assert [spread.std for spread in found] == pytest.approx([0.5**0.5, 0])
    figure = gains.gains_by_task(full_world.table())
    (panel,) = figure.axes
    heights = {bar.get_label(): bar.lines[0].get_ydata().tolist() for bar in panel.containers}
    assert heights["over stage 1"] == pytest.approx([1, 2, 3])
    assert heights["over stage 2 without penalty"] == pytest.approx([0.5, 1, 2])
    (papers,) = [c for c in panel.collections if "paper" in str(c.get_label())]
    # As printed in Table 2: 0.2 up, 0.2 down, 0.2 down, and 0.7 up as the mean of all sets.
    assert papers.get_offsets()[:, 1].tolist() == pytest.approx([0.2, -0.2, -0.2, 0.7])
    means = [c.get_segments()[0] for c in panel.collections if c.get_label().startswith("_child")]
    ours = sorted((ends[0][0], ends[0][1]) for ends in means if len(ends) == 2 and ends[0][0] > 2.5)
    # Side by side, the control first: (0.5 + 1 + 2) / 3 and (1 + 2 + 3) / 3.
    assert [height for _, height in ours] == pytest.approx([3.5 / 3, 2])


def test_gains_say_which_tasks_they_lack_and_keep_the_scale_of_the_papers(full_world):
    for seed in (0, 1):
        full_world.path("eurosat", "lora-r8+control", seed).unlink()
    (panel,) = gains.gains_by_task(full_world.table()).axes
    assert "over stage 2 without penalty: 2 of 3 tasks" in [text.get_text() for text in panel.texts]
    for path in full_world.results.rglob("*.json"):
        path.unlink()
    (panel,) = gains.gains_by_task(full_world.table()).axes
    assert any("over stage 1: no record" in text.get_text() for text in panel.texts)
    assert len(panel.get_yticks())  # the paper's gains are still drawn


PAIRS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]  # of four subspaces: (1,2) (1,3) (1,4) (2,3) (2,4) (3,4)


def record(pairs, task="svhn"):
    end = {"mean": 0.2} | ({"pairs_in_last_block": pairs} if pairs else {})
    return {"cell": {"task": task}, "redundancy": {"end": end}}


def test_the_matrix_is_that_of_the_query_and_the_mean_over_seeds():
    one = {"blocks.5.attn.qkv.k": [0.9] * 6, "blocks.5.attn.qkv.q": PAIRS}
    other = {"blocks.5.attn.qkv.q": [pair + 0.2 for pair in PAIRS]}
    records = [record(one), record(other), record(None), record(one, task="eurosat")]
    seeds = matrix._pairs(records)
    assert len(seeds) == 2
    pairs = matrix._mean(seeds)
    assert pairs == pytest.approx([pair + 0.1 for pair in PAIRS])
    square = matrix._square(PAIRS)
    assert square[0].tolist()[1:] == [0.1, 0.2, 0.3]
    assert square[1, 2] == square[2, 1] == 0.4
    assert square[3].tolist()[:3] == [0.3, 0.5, 0.6]
    assert np.isnan(np.diag(square)).all()
    assert matrix._pairs([record(None)]) == []
    assert matrix._mean([]) == []


def curve(seed, values):
    return {"stage2": {"epoch": [1, 2], "test_top1_accuracy": values}}


def test_stage_2_starts_where_stage_1_ended_and_draws_what_was_evaluated(full_world):
    for seed in (0, 1):
        for method, values in (
            ("lora-r8+linear", [None, 0.53 + seed / 50]),
            ("lora-r8+control", [0.49, 0.50]),
        ):
            full_world.write("cifar100", method, seed, values[-1], curves=curve(seed, values))
    figure = curves.stage2(full_world.table())
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    # Stage 1 ended at 50 and 52; with the penalty 53 and 55 at epoch 2, epoch 1 was not evaluated.
    assert lines["with $R_l$ (ReSoRA)"].get_xdata().tolist() == [0, 2]
    assert lines["with $R_l$ (ReSoRA)"].get_ydata().tolist() == pytest.approx([51, 54])
    assert lines["without penalty"].get_ydata().tolist() == pytest.approx([51, 49, 50])
    assert set(lines["end of stage 1"].get_ydata()) == {51}
    assert texts(figure).count("no record") == 2  # the other tasks have no curves
    assert "a task lacks records" in texts(figure)  # so there is no mean
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == set(lines)


def test_points_are_the_means_of_all_tasks(full_world):
    figure = trade_off.cost_accuracy(full_world.table())
    (panel,) = figure.axes
    points = [bar.lines[0].get_xydata()[0].tolist() for bar in panel.containers]
    # linear: 40, without parameters; lora-r8: 193 / 3 with 46.08 thousand.
    assert points[0] == pytest.approx([0.3 * 46.08, 40])
    assert points[1] == pytest.approx([46.08, 193 / 3])
    # No size is written where the axis has no sizes, left of all that have parameters.
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0", "50"]
    assert panel.get_xticks().tolist() == pytest.approx([0.3 * 46.08, 50])
    redundancy = trade_off.redundancy_accuracy(full_world.table())
    at = [bar.lines[0].get_xdata()[0] for bar in redundancy.axes[0].containers]
    assert at == pytest.approx([0.2, 0.2, 0.2])  # linear has no subspaces


def test_a_method_with_a_hole_is_no_point(full_world):
    for seed in (0, 1):
        full_world.path("eurosat", "lora-r8+control", seed).unlink()
    for draw in (trade_off.redundancy_accuracy, trade_off.cost_accuracy):
        found = boxes(draw(full_world.table()))
        assert {"lora-r8", "lora-r8+linear"} <= set(found)
        assert "lora-r8+control" not in found
        assert "not drawn, since a task has no record: lora-r8+control" in found


def test_step_times_have_a_panel_if_they_are_given(full_world):
    times = [("lora-r8", 1.0), ("lora-r8+linear", 1.05), ("noah", 1.4)]
    _, panel = trade_off.cost_accuracy(full_world.table(), times).axes
    points = [bar.lines[0].get_xydata()[0].tolist() for bar in panel.containers]
    # noah has no accuracy here.
    assert np.array(points) == pytest.approx(np.array([[1, 193 / 3], [1.05, 199 / 3]]))
    assert {text.get_text() for text in panel.texts} == {"lora-r8", "lora-r8+linear"}


def test_arrows_lead_from_the_control_to_what_the_penalty_made(full_world):
    (panel,) = trade_off.redundancy_accuracy(full_world.table()).axes
    to_penalty, to_control = sorted(
        (text for text in panel.texts if not text.get_text()), key=lambda text: -text.xy[1]
    )
    control = (0.2, 196 / 3)
    assert to_control.xyann == pytest.approx((0.2, 193 / 3))  # dotted, from stage 1
    assert to_control.xy == to_penalty.xyann == pytest.approx(control, abs=1)
    assert to_penalty.xy == pytest.approx((0.2, 199 / 3))


def test_wherever_a_penalty_is_drawn_its_control_is_too(empty):
    """No figure tells less than its table: each method with a penalty has a control beside it."""
    for declared in figures.FIGURES:
        for name in declared.tables:
            rows = set(empty[name].rows) | {m for m, _ in empty[name].grid.cells}
            penalised = [row for row in rows if control_of(row)]
            assert penalised
            assert {control_of(row) for row in penalised} <= rows, (declared.name, name)


def test_labels_lie_neither_on_each_other_nor_on_points():
    figure = Figure(figsize=(7, 5), layout="constrained")
    panel = figure.subplots()
    points = [(x / 10, (x % 3) / 10) for x in range(12)] + [(0.5, 0.105), (0.5, 0.11)]
    panel.plot(*zip(*points, strict=True), "o", ms=5)
    panel.margins(0.15)
    names = [f"method-r{index}+linear" for index in range(len(points))]
    labels.place(panel, points, names)
    found = boxes(figure)
    assert set(found) == set(names)
    for one, other in itertools.combinations(found.values(), 2):
        assert not one.overlaps(other)
    for x, y in panel.transData.transform(points):
        assert not any(box.contains(x, y) for box in found.values())


def test_a_label_lies_beside_a_line():
    figure = Figure(figsize=(4, 3), layout="constrained")
    panel = figure.subplots()
    points, line = [(0.2, 0.5), (0.8, 0.5)], ((0.2, 0.5), (0.8, 0.5))
    panel.plot(*zip(*points, strict=True), "o", ms=5)
    panel.set(xlim=(0, 1), ylim=(0, 1))
    labels.place(panel, points, ["the first", "the second"], [line])
    (left, y), (right, _) = panel.transData.transform(points)
    found = boxes(figure)
    assert len(found) == 2
    for box in found.values():
        assert box.y1 < y or box.y0 > y or box.x1 < left or box.x0 > right


def test_figures_are_declared_over_tables_that_there_are():
    names = {table.name for benchmark in BENCHMARKS.values() for table in benchmark.tables}
    names |= {f"table1_{name}" for name in BENCHMARKS}
    assert {name for one in figures.FIGURES for name in one.tables} <= names
