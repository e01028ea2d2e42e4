"""Records and the store: whole or not at all, sealed, ``ok`` never replaced by not-ok."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import pytest

from benchmarks.harness.cell import Cell
from benchmarks.harness.record import InvalidRecord, Outcome, build_record, check, primary_value
from benchmarks.harness.registry import declared
from benchmarks.harness.spec import config_hash
from benchmarks.harness.store import State, Store

CELL = Cell("vtab1k", "vit_micro", "cifar100", "lora-r8", 0)


def record_of(cell=CELL, status="ok", accuracy=0.5):
    benchmark, scale = declared(cell, "smoke")
    values = {"last_epoch": accuracy, "best_val": None, "max_test": accuracy}
    outcome = Outcome(metrics={"top1_accuracy": values}) if status == "ok" else Outcome()
    return build_record(
        benchmark,
        scale,
        cell,
        benchmark.config(cell, scale),
        status=status,
        error=None if status == "ok" else "it broke",
        outcome=outcome,
        sources=benchmark.sources(cell, scale),
        where={"code": {}, "environment": {}, "hardware": {}},
        run={"attempt": 1},
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "smoke")


def expected_hash(cell=CELL):
    benchmark, scale = declared(cell, "smoke")
    return config_hash(benchmark.config(cell, scale))


def test_round_trip(store):
    assert store.load(CELL) is None
    assert store.write(CELL, record_of())
    assert store.load(CELL) == record_of()
    assert primary_value(store.load(CELL)) == 0.5
    assert store.state(CELL, expected_hash(), 1) is State.FRESH
    assert store.state(CELL, "other", 1) is State.STALE
    assert store.state(CELL, expected_hash(), 2) is State.STALE


@pytest.mark.parametrize("status", ["failed", "diverged", "oom", "timeout", "cancelled"])
def test_ok_is_never_replaced_by_not_ok(store, status):
    assert store.write(CELL, record_of(status=status))
    assert store.state(CELL, expected_hash(), 1) is State.NOT_OK
    assert store.write(CELL, record_of())
    assert not store.write(CELL, record_of(status=status))
    assert store.load(CELL)["status"] == "ok"


def test_every_edit_is_noticed(store):
    store.write(CELL, record_of())
    path = store.path(CELL)
    whole = path.read_text()
    path.write_text(whole.replace("0.5", "0.9"))
    with pytest.raises(InvalidRecord, match="edited"):
        store.load(CELL)
    assert store.state(CELL, expected_hash(), 1) is State.INVALID
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(InvalidRecord, match="truncated"):
        store.load(CELL)
    path.write_text("")
    assert store.state(CELL, expected_hash(), 1) is State.INVALID
    assert store.write(CELL, record_of(status="failed")), "an invalid record may be replaced"


def test_record_at_another_cells_path_is_refused(store):
    other = CELL.with_method("full")
    store.write(CELL, record_of())
    store.path(other).parent.mkdir(parents=True)
    store.path(CELL).rename(store.path(other))
    with pytest.raises(InvalidRecord, match="another cell"):
        store.load(other)


@pytest.mark.parametrize("field", ["config", "metrics", "code"])
def test_missing_field_is_refused(field):
    record = record_of()
    del record[field]
    with pytest.raises(InvalidRecord, match=field):
        check(record, CELL)


def test_ok_without_a_number_is_refused():
    with pytest.raises(InvalidRecord, match="not a number"):
        record_of(accuracy=None)
    with pytest.raises(InvalidRecord, match="JSON"):
        record_of(accuracy=float("nan"))


def _write_for_ever(root):
    store = Store(root, "smoke")
    record = record_of()
    while True:
        store.write(CELL, record)


def test_killed_writer_leaves_a_whole_record(tmp_path):
    store = Store(tmp_path, "smoke")
    for _ in range(3):
        writer = multiprocessing.get_context("fork").Process(
            target=_write_for_ever, args=(tmp_path,)
        )
        writer.start()
        while store.load(CELL) is None:
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert store.load(CELL) == record_of()
    store.remove_leftovers(older_than_seconds=3600)
    store.remove_leftovers(older_than_seconds=0)
    assert [path.name for path, _ in store.files()] == ["0.json"]
    assert not list(tmp_path.rglob(".tmp-*"))


def test_files_name_strangers(store):
    store.write(CELL, record_of())
    (store.root / "notes.json").write_text(json.dumps({}))
    assert [cell for _, cell in store.files()] == [None, CELL]
