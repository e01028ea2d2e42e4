"""Every setting has one type and range: declared and committed values pass, senseless ones are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness import kinds
from benchmarks.harness.cli import main
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import Settings
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.harness.store import Store

ROOT = Path(__file__).resolve().parents[2]
CELL = "vtab1k/vit_micro/eurosat/lora-r8+linear/0"


def flat(config, prefix=""):
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and kinds.kind_of(name) is None:
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def assert_valid(settings, where):
    for name, value in settings:
        if name in kinds.FIXED:
            continue
        kind = kinds.kind_of(name)
        assert kind is not None, f"{where}: {name} has no declared kind"
        assert repr(kind.checked(name, value)) == repr(value), f"{where}: {name}"


def test_every_declared_value_is_of_its_kind():
    seen = set()
    for benchmark in BENCHMARKS.values():
        for scale in benchmark.scales.values():
            for cell in benchmark.cells(scale):
                if cell.seed == scale.seeds[0]:
                    choices = benchmark.configure(benchmark, cell, scale).items()
                    new = {(name, json.dumps(choice.value)) for name, choice in choices} - seen
                    assert_valid(((name, json.loads(value)) for name, value in new), cell)
                    seen |= new


@pytest.mark.parametrize("scale", ["micro", "paper"])
def test_every_committed_configuration_is_valid(scale):
    """All of them: read without the other checks of a record, and each value once."""
    store, seen = Store(ROOT / "results", scale), set()
    paths = [path for path, _ in store.files()]
    assert paths
    for path in paths:
        config = json.loads(path.read_bytes())["config"]
        new = {(name, json.dumps(value)) for name, value in flat(config)} - seen
        assert_valid(((name, json.loads(value)) for name, value in new), path)
        seen |= new


WRONG = [
    ("stage1.epochs=1.5", "the nearest is 2"),
    ("stage1.epochs=0", "the nearest is 1"),
    ("stage1.epochs=-3", "the nearest is 1"),
    ("stage1.epochs=2.0", "a whole number of epochs"),
    ("stage1.epochs=true", "a whole number of epochs"),
    ("stage1.epochs=two", "stage1.epochs is two"),
    ("stage1.epochs=null", "stage1.epochs is null"),
    ("stage1.epochs=1e999", "the nearest is 100000"),
    ("stage1.epochs=" + "9" * 400, "the nearest is 100000"),
    ("stage1.epochs=" + "9" * 5000, "cannot be read as a value"),
    ("stage1.epochs=" + "[" * 100_000, "cannot be read as a value"),
    ("stage1.learning_rate=NaN", "stage1.learning_rate is NaN"),
    ("stage1.learning_rate=Infinity", "the nearest is 3.4e+38"),
    ("stage1.learning_rate=true", "stage1.learning_rate is true"),
    ("stage1.learning_rate=-1", "the nearest is 0"),
    ('stage1.learning_rate="0.1"', "stage1.learning_rate is 0.1"),
    ("stage1.weight_decay=-1", "the nearest is 0"),
    ("stage1.warmup_epochs=-1", "the nearest is 0"),
    ("stage1.evaluate_every=-1", "the nearest is 1"),
    ("stage1.evaluate_every=0", "the nearest is 1"),
    ("stage1.batch_size=0", "the nearest is 1"),
    ("stage1.batch_size=[32]", "stage1.batch_size is [32]"),
    ("stage2.weight=NaN", "stage2.weight is NaN"),
    ("stage2.sample=tokens", "did you mean 'token'"),
    ("stage2.options=1", "stage2.options is 1"),
    ('stage2.options={"fraction":NaN}', "which is no number"),
    ("stage2.penalty=cosine", "says which cell it is"),
    ("method.name=full", "says which cell it is"),
    ("task.num_classes=3", "says which cell it is"),
    ("backbone.name=vit_b16", "says which cell it is"),
    ("backbone.drop_path=1", "the nearest is 0.99"),
    ("backbone.weights=", "backbone.weights is empty"),
    ("backbone.weights=3", "backbone.weights is 3"),
    ("data.limit_test=0", "the nearest is 1"),
    ("data.limit_train=-5", "the nearest is 1"),
    ("data.limit_train=0.5", "the nearest is 1"),
    ("training.precision=bf61", "did you mean 'bf16'"),
    ("training.epochs=1", "did you mean 'stage1.epochs'"),
    ("learning_rate=1", "did you mean 'stage1.learning_rate'"),
    ("x" * 5000 + "=1", "(5000 characters)"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: value[:40])
@pytest.mark.parametrize("command", ["run", "status"])
def test_a_senseless_setting_is_one_line_with_the_nearest_valid_value(
    capsys, tmp_path, given, message, command
):
    try:
        code = main([command, CELL, "--results", str(tmp_path), "--set", given])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err.splitlines()
    assert code == 2
    assert message in error[-1]
    assert len(error[-1]) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method.targets", []),
        ("method.targets", "q"),
        ("method.targets", [1]),
        ("method.rank", 0),
        ("method.dropout", 1.0),
        ("stage1.rate_factors", {"bert": -1.0}),
        ("stage1.clip_norm", 0),
        ("stage1.decays_vectors", 1),
        ("augment.crop_area", [0.5]),
        ("augment.flip", 2),
        ("search.mutation", 1.5),
        ("methods", []),
        ("step.batch_size", 0),
    ],
)
def test_senseless_settings_of_other_benchmarks(name, value):
    with pytest.raises(UsageError, match=r"^[^\n]+$"):
        Settings(scale="smoke", overrides={name: value})


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("stage1.learning_rate", 1, 1.0),
        ("stage1.warmup_epochs", 1.0, 1),
        ("stage1.warmup_epochs", 0.5, 0.5),
        ("data.limit_test", None, None),
        ("data.val", None, None),
    ],
)
def test_equal_values_are_written_alike(name, given, expected):
    found = Settings(scale="smoke", overrides={name: given}).overrides[name]
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--timeout-seconds=0"], "--timeout-seconds is 0.0"),
        (["--timeout-seconds=nan"], "--timeout-seconds is NaN"),
        (["--timeout-seconds=-1"], "the nearest is 0.001"),
        (["--timeout-seconds=inf"], "the nearest is 1e+09"),
        (["--threads=0"], "the nearest is 1"),
        (["--threads=99999"], "the nearest is 1024"),
        (["--jobs=-1"], "the nearest is 1"),
        (["--jobs=0"], "the nearest is 1"),
        (["--jobs=1000000"], "the nearest is 1024"),
        (["--device=gpu"], "cpu, cuda, cuda:N or auto"),
        (["--device=cuda:-1"], "cpu, cuda, cuda:N or auto"),
        (["--scale=" + "x" * 5000], "unknown scale"),
        (["--results=/" + "x" * 5000], "File name too long"),
        (["--results=/" + "x/" * 5000], "File name too long"),
        (["--data=/" + "x" * 5000], "File name too long"),
        (["--work=/" + "x" * 5000], "File name too long"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_senseless_option_is_one_line(capsys, paths, options, message):
    assert main(["run", CELL, *paths, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("device", ["cuda", "cuda:63"])
def test_a_device_that_is_not_there(capsys, paths, device):
    assert main(["run", CELL, *paths, "--device", device]) == 2
    assert f"error: --device {device}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "vtab1k/vit_micro/eurosat/linear/" + "9" * 5000,
        "vtab1k/vit_micro/eurosat/linear/-1",
        "vtab1k/vit_micro/eurosat/linear/007",
        "vtab1k/vit_micro/eurosat/linear/\u0663",
        "vtab1k//eurosat/linear/0",
        "vtab1k/vit_micro/" + "x" * 5000 + "/linear/0",
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_cell_is_one_line(capsys, text):
    assert main(["show", text]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error) < 500
