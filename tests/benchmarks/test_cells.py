"""Cells, selectors, names of methods, seeds, and the declared grid."""

from __future__ import annotations

import re

import pytest

from benchmarks.harness.cell import Cell, Selector, parse_method
from benchmarks.harness.errors import UsageError
from benchmarks.harness.methods import petl_names
from benchmarks.harness.registry import BENCHMARKS, declared, select
from benchmarks.harness.seeding import seed_for
from benchmarks.harness.spec import config_hash
from resora.penalties import PENALTIES
from resora.petl import METHODS, make_method

CELL = Cell("vtab1k", "vit_micro", "cifar100", "lora-r8+linear", 0)


def test_cell_is_its_path():
    assert str(CELL) == "vtab1k/vit_micro/cifar100/lora-r8+linear/0"
    assert Cell.parse(str(CELL)) == CELL
    assert CELL.path.as_posix() == "vtab1k/vit_micro/cifar100/lora-r8+linear/0.json"
    assert CELL.base.method == "lora-r8"


@pytest.mark.parametrize("text", ["", "a/b/c/d", "a/b/c/d/e", "a/b/c/d/-1", "a/b/c/d/0/1"])
def test_not_a_cell(text):
    with pytest.raises(UsageError, match="is not a cell"):
        Cell.parse(text)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("full", ("full", None, "feature")),
        ("lora-r8+control", ("lora-r8", "control", "feature")),
        ("lora-r8+linear@weight", ("lora-r8", "linear", "weight")),
    ],
)
def test_method_names(name, parts):
    assert parse_method(name) == parts


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("vtab1k", True),
        ("*/*/cifar*", True),
        ("vtab1k/vit_micro/cifar100/lora-r8+linear/0", True),
        ("vtab1k/*/*/lora-r8", False),
        ("vtab1k/*/*/*/1", False),
    ],
)
def test_selectors(selector, chosen):
    assert Selector(selector).matches(CELL) is chosen
    assert (CELL in select([selector], "smoke" if chosen else "micro")) is chosen


@pytest.mark.parametrize(
    ("selector", "scale", "message"),
    [
        ("vtab2k", "smoke", "unknown benchmark 'vtab2k'; did you mean 'vtab1k'"),
        ("vtab1k", "smok", "unknown scale 'smok'; did you mean 'smoke'"),
        ("vtab1k/vit_mikro", "smoke", "unknown backbone 'vit_mikro'; did you mean 'vit_micro'"),
        ("vtab1k/*/cifar10", "smoke", "unknown task 'cifar10'; did you mean 'cifar100'"),
        ("vtab1k/*/*/lora-r8+liner", "smoke", "did you mean 'lora-r8+linear'"),
        ("vtab1k/*/*/*/9", "smoke", "unknown seed '9'"),
        ("a/b/c/d/e/f", "smoke", "more parts"),
    ],
)
def test_unknown_names_are_one_line_with_the_nearest_and_the_command(selector, scale, message):
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        select([selector], scale)
    assert "\n" not in str(error.value)
    if "unknown" in message:
        assert "python -m benchmarks ls" in str(error.value)


def test_selection_has_no_repeats_and_declared_order():
    cells = select(["vtab1k/*/cifar100", "vtab1k/*/c*"], "smoke")
    assert len(cells) == len(set(cells))
    assert cells[0] == Cell("vtab1k", "vit_micro", "cifar100", "full", 0)


def test_data_order_is_shared_by_methods_and_not_by_seeds():
    other = CELL.with_method("full")
    assert seed_for("data_order", CELL) == seed_for("data_order", other)
    assert seed_for("data_order", CELL) != seed_for("data_order", CELL, stage=2)
    assert seed_for("adapter", CELL) == seed_for("adapter", CELL.with_method("lora-r8+control"))
    assert seed_for("adapter", CELL) != seed_for("adapter", other)
    next_seed = Cell(*CELL.parts[:-1], 1)
    assert all(seed_for(p, CELL) != seed_for(p, next_seed) for p in ("data_order", "head"))


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_declaration_is_complete(benchmark):
    for scale in benchmark.scales.values():
        cells = list(benchmark.cells(scale))
        assert len(cells) == len(set(cells))
        hashes = {}
        for method in benchmark.methods:
            cell = Cell(benchmark.name, scale.backbones[0], benchmark.tasks[0].name, method, 0)
            sources = benchmark.sources(cell, scale)
            assert all(sources.values())
            assert hashes.setdefault(config_hash(benchmark.config(cell, scale)), method) == method
            suffix = parse_method(method).suffix
            assert suffix in {None, "control", *PENALTIES}
    for table in benchmark.tables:
        # A cell that measures all methods stands for every row.
        assert benchmark.methods == ("all",) or set(table.rows) & set(benchmark.methods)


@pytest.mark.parametrize("method", BENCHMARKS["vtab1k"].methods)
def test_methods_can_be_made(method):
    make_method(parse_method(method).base)


def test_override_reaches_the_config_and_its_source():
    benchmark, scale = declared(CELL, "smoke")
    overrides = {"stage1.learning_rate": 7.0, "no.such": 1}
    config = benchmark.config(CELL, scale, overrides)
    assert config["stage1"]["learning_rate"] == 7.0
    assert "no" not in config
    assert benchmark.sources(CELL, scale, overrides)["stage1.learning_rate"] == "command line"
    assert config_hash(config) != config_hash(benchmark.config(CELL, scale))


def test_the_names_that_are_listed_without_torch_are_those_of_the_library():
    assert petl_names() == tuple(METHODS)


def test_a_penalty_on_weights_differs_from_the_one_on_features_in_its_space_alone():
    scale = BENCHMARKS["vtab1k"].scales["smoke"]
    on = {
        name: BENCHMARKS["vtab1k"].config(
            Cell("vtab1k", "vit_micro", "dtd", f"lora-r8+{name}", 0), scale
        )
        for name in ("linear", "linear@weight")
    }
    weight, feature = on["linear@weight"], on["linear"]
    assert weight["stage2"] == feature["stage2"] | {"options": {"space": "weight"}}
    assert feature["stage2"]["options"] == {}
    assert weight["stage1"] == feature["stage1"]
