"""One bad file in the store is an invalid record like any other: named, replaced, and no reason to stop."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.harness import store as store_module
from benchmarks.harness.cell import Cell
from benchmarks.harness.cli import main
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import Attempt, Settings, pending
from benchmarks.harness.record import InvalidRecord, Outcome, build_record, seal
from benchmarks.harness.registry import declared, select
from benchmarks.harness.store import State, Store
from benchmarks.training.checkpoint import _atomically
from reports.cli import main as reports_main
from slurm.cli import main as slurm_main

ROOT = Path(__file__).resolve().parents[2]
CELL = Cell("vtab1k", "vit_micro", "cifar100", "lora-r8", 0)


def record_of(cell=CELL, scale_name="smoke", **fields):
    benchmark, scale = declared(cell, scale_name)
    measured = {
        "metrics": {"top1_accuracy": {"last_epoch": 0.5, "best_val": None, "max_test": 0.5}},
        "counts": {"n_test": 64, "limit_train": None},
        "cost": {"total_seconds": 1.0, "trainable_params": 10},
        "curves": {"stage1": {"train_loss": [2.0, 1.0], "test_top1_accuracy": [None, 0.5]}},
        "redundancy": {"start": {"mean": 0.5}, "end": {"mean": 0.1}},
    } | fields
    return build_record(
        benchmark,
        scale,
        cell,
        benchmark.config(cell, scale),
        status="ok",
        error=None,
        outcome=Outcome(**measured),
        sources={},
        where={"code": {}, "environment": {}, "hardware": {}},
        run={"attempt": 1},
    )


def put(store, text, cell=CELL):
    path = store.path(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def sealed(change):
    """A record that somebody changed, with its hash made anew."""
    record = json.loads(json.dumps(record_of()))
    change(record)
    record["record_sha256"] = seal(record)
    return json.dumps(record)


def at(*path, value):
    def change(record):
        for part in path[:-1]:
            record = record[part]
        record[path[-1]] = value

    return change


ACCURACY = ("metrics", "top1_accuracy", "last_epoch")
CHANGES = {
    **{
        f"accuracy {v}": at(*ACCURACY, value=v)
        for v in (17.0, -5.0, 1e300, 1.001, True, "1", [1.0])
    },
    "no accuracy": at(*ACCURACY, value=None),
    "another rule": at("metrics", "top1_accuracy", "max_test", value=1.5),
    "metric no table": at("metrics", "top1_accuracy", value=0.5),
    "metrics a list": at("metrics", value=[1]),
    "primary of no metric": at("primary", "metric", value="top5"),
    "primary empty": at("primary", value={}),
    "counts text": at("counts", "n_test", value="many"),
    "counts negative": at("counts", "n_test", value=-1),
    "counts true": at("counts", "n_test", value=True),
    "counts a list": at("counts", value=[3]),
    "cost text": at("cost", "total_seconds", value="long"),
    "cost negative": at("cost", "total_seconds", value=-1.0),
    "cost null": at("cost", value=None),
    "scale": at("cell", "scale", value="paper"),
    "scale a number": at("cell", "scale", value=3),
    "version text": at("cell", "benchmark_version", value="1"),
    "version true": at("cell", "benchmark_version", value=True),
    "seed true": at("cell", "seed", value=False),
    "attempt text": at("run", "attempt", value="first"),
    "run empty": at("run", value={}),
    "curve": at("curves", "stage1", "test_top1_accuracy", value=[None, 17.0]),
    "curve text": at("curves", "stage1", "test_top1_accuracy", value="0.5"),
    "curves a list": at("curves", "stage1", value=[1]),
    "redundancy": at("redundancy", "end", value={"mean": 40.0}),
    "redundancy without end": at("redundancy", value={"start": {"mean": 0.1}}),
    "trees text": at("code", "trees", value="x"),
    "gpu a number": at("hardware", "gpu", value=4),
}


@pytest.mark.parametrize("name", CHANGES)
def test_values_that_cannot_be_are_invalid_though_the_hash_is_right(tmp_path, name):
    store = Store(tmp_path, "smoke")
    put(store, sealed(CHANGES[name]))
    with pytest.raises(InvalidRecord, match=r"^[^\n]+$"):
        store.load(CELL)
    assert store.state(CELL, "any", 1) is State.INVALID
    assert store.write(CELL, record_of()), "what is invalid is replaced"
    assert store.load(CELL) == record_of()


def bad_files():
    whole = json.dumps(record_of())
    return {
        "nan": whole.replace("0.5", "NaN"),
        "infinity": whole.replace("0.5", "-Infinity"),
        "1e999": whole.replace("0.5", "1e999"),
        "long number": whole.replace("64", "9" * 5000),
        "quite long number": whole.replace("64", "9" * 400),
        "deep": whole.replace('"counts": {', '"counts": {"x": ' + "[" * 5000 + "]" * 5000 + ", "),
        "deeper": "[" * 200_000,
        "twice": whole.replace('"status": "ok"', '"status": "failed", "status": "ok"'),
        "twice within": whole.replace('"n_test": 64', '"n_test": 1, "n_test": 64'),
        "half a character": whole.replace('"error": null', '"error": "\\ud800"'),
        "bom": b"\xef\xbb\xbf" + whole.encode(),
        "latin-1": whole.encode().replace(b"lora", b"l\xf6ra"),
        "utf-16": whole.encode("utf-16"),
        "zeros": bytes(1000),
        "empty": "",
        "half": whole[: len(whole) // 2],
        "null": "null",
        "list": "[]",
        "text": '"a record"',
    }


@pytest.mark.parametrize("name", bad_files())
def test_what_is_no_record_is_an_invalid_one(tmp_path, name):
    store = Store(tmp_path, "smoke")
    put(store, bad_files()[name])
    with pytest.raises(InvalidRecord, match=r"^[^\n]+$"):
        store.load(CELL)
    assert store.write(CELL, record_of())


def _directory(path):
    path.mkdir(parents=True)
    (path / "kept").write_text("x")


IN_ITS_PLACE = {
    "a directory": _directory,
    "an empty directory": lambda path: path.mkdir(parents=True),
    "a pipe": os.mkfifo,
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_what_is_no_file_is_an_invalid_record_and_is_replaced(tmp_path, name):
    store = Store(tmp_path, "smoke")
    path = store.path(CELL)
    path.parent.mkdir(parents=True)
    IN_ITS_PLACE[name](path)
    assert store.state(CELL, "any", 1) is State.INVALID
    assert [cell for _, cell in store.files()] == [CELL]
    assert store.write(CELL, record_of())
    assert store.load(CELL) == record_of()
    if name == "a directory":
        assert (path.with_name("0.json.not-a-record-0") / "kept").read_text() == "x"


@pytest.fixture
def bad_world(tmp_path):
    """A bad file of every kind, each at a declared cell's place, and one good record."""
    store = Store(tmp_path, "smoke")
    files = {**bad_files(), **{name: sealed(change) for name, change in CHANGES.items()}}
    cells = [cell for cell in select(["vtab1k/vit_micro"], "smoke") if cell != CELL]
    for cell, text in zip(cells, files.values(), strict=False):
        put(store, text, cell)
    rest = cells[len(files) : len(files) + len(IN_ITS_PLACE)]
    for cell, make in zip(rest, IN_ITS_PLACE.values(), strict=True):
        store.path(cell).parent.mkdir(parents=True, exist_ok=True)
        make(store.path(cell))
    store.write(CELL, record_of())
    return tmp_path, cells[: len(files)] + rest


def test_every_command_gets_past_all_of_them(bad_world, capsys):
    results, bad = bad_world
    where = ["--scale", "smoke", "--results", str(results)]
    assert main(["verify", *where]) == 1
    assert f"{len(bad) + 1} records at scale smoke, {len(bad)} invalid" in capsys.readouterr().out
    assert main(["status", "vtab1k/vit_micro", *where]) == 3
    settings = Settings(scale="smoke", results=results)
    assert set(bad) <= set(pending(bad, settings))
    work = ["--work", str(results / "work"), "--seconds", "1"]
    assert slurm_main(["plan", "vtab1k/vit_micro/*/lora-r8*", *where, *work]) == 0
    assert reports_main(["show", "table5", *where]) in (0, 3)  # `build` reads records the same way
    assert "Traceback" not in capsys.readouterr().err


def test_the_committed_records_are_valid():
    for scale in ("micro", "paper"):
        store = Store(ROOT / "results", scale)
        found = list(store.files())
        assert found
        for path, cell in found[::20]:
            assert cell is not None, path
            store.load(cell)


@pytest.mark.parametrize("scale", ["/", ".", "..", "", "a/b", "../micro", "/tmp"])
@pytest.mark.parametrize("command", ["status", "verify", "run"])
def test_a_scale_is_a_name_and_nothing_outside_the_store_is_deleted(
    tmp_path, capsys, scale, command
):
    old = tmp_path / ".tmp-0.json-1"
    old.write_text("somebody's")
    os.utime(old, (0, 0))
    more = [str(CELL)] if command == "run" else []
    assert main([command, *more, "--scale", scale, "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert old.exists()


def test_leftovers_are_those_of_a_record_writer_alone(tmp_path):
    store = Store(tmp_path / "results", "smoke")
    store.write(CELL, record_of())
    folder = store.path(CELL).parent
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    left = folder / ".tmp-0.json-77"
    strangers = [
        folder / ".tmp-notes",
        folder / ".tmp-0.json-mine",
        store.root / ".tmp-0.json-1",
        elsewhere / ".tmp-0.json-1",
    ]
    for path in (left, *strangers):
        path.write_text("x")
        os.utime(path, (0, 0))
    store.remove_leftovers()
    assert not left.exists()
    assert all(path.exists() for path in strangers)


def _a_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def _a_loop(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)


def _in_proc(path):
    """A file system on which nobody can make a file."""
    there = path.parent if path.name == "smoke" else path
    there.symlink_to("/proc/1")


FOLDERS = {
    "a file": _a_file,
    "a loop": _a_loop,
    "a file within": lambda path: _a_file(path / "vtab1k" / "vit_micro"),
    "nothing can be made": _in_proc,
}


@pytest.mark.parametrize("option", ["results", "work"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_results_folder_that_cannot_be_written_is_found_before_training(
    tmp_path, capsys, monkeypatch, paths, name, option
):
    monkeypatch.setattr("benchmarks.harness.cli.run_many", lambda *_, **__: pytest.fail("trained"))
    if option == "work" and name == "a file within":
        pytest.skip("where a checkpoint goes is a cell's own affair")
    given = tmp_path / "there"
    FOLDERS[name](given / "smoke" if option == "results" else given)
    cell = "vtab1k/vit_micro/eurosat/linear/0"
    where = given if option == "results" or name != "nothing can be made" else given / "work"
    assert main(["run", cell, *paths, f"--{option}={where}"]) == 2
    error = capsys.readouterr().err
    assert f"(--{option} DIR takes another folder)" in error
    assert "cannot be written" in error
    assert error.count("\n") == 1


def test_a_full_disk_is_found_before_training_and_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    """A file that really fails when it is written: the process may not make a larger one."""
    import resource
    import signal

    store = Store(tmp_path, "smoke")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UsageError, match="File too large"):
            store.require_room([CELL])
        with pytest.raises(OSError, match="File too large"):
            _atomically(tmp_path / "work" / "x.pt", lambda path: path.write_bytes(bytes(5000)))
        with pytest.raises(OSError, match="File too large") as failed:
            store.write(CELL, record_of())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert failed.value.filename == str(store.path(CELL))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_read_is_an_error_and_not_an_empty_store(
    tmp_path, capsys, monkeypatch
):
    where = ["--results", str(tmp_path)]
    assert main(["verify", *where]) == 2
    assert "there is no folder of records" in capsys.readouterr().err
    Store(tmp_path, "smoke").write(CELL, record_of())
    plain = os.scandir
    monkeypatch.setattr(
        store_module.os,
        "scandir",
        lambda path: _refuse(path) if "cifar" in str(path) else plain(path),
    )
    assert main(["verify", *where]) == 2
    error = capsys.readouterr().err
    assert "cifar100: Permission denied" in error
    assert error.count("\n") == 1


def _refuse(path):
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("mean", "accuracy", "status"),
    [(float("nan"), 0.5, "diverged"), (0.5, float("inf"), "diverged"), (0.5, 17.0, "failed")],
)
def test_an_outcome_that_is_no_number_is_a_record_that_says_so(tmp_path, mean, accuracy, status):
    settings = Settings(scale="smoke", results=tmp_path, device="cpu")
    outcome = Outcome(
        metrics={"top1_accuracy": {"last_epoch": accuracy, "best_val": None, "max_test": 0.5}},
        redundancy={"start": {"mean": mean}, "end": {"mean": 0.5}},
    )
    assert Attempt(CELL, settings, lambda event: None).end(outcome) == status
    assert settings.store.load(CELL)["status"] == status
