"""A table takes nothing that does not belong into it, and says what it left out and why."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from benchmarks.harness.record import Outcome, build_record
from benchmarks.harness.store import Store
from reports.comparable import caveat

DIRTY = {"commit": "0123456789abcdef", "dirty": True}


def images(variant="tfds", train="a"):
    return {"variant": variant, "manifest_sha256": train * 64, "splits": {"train": train * 64}}


def built(world, *, drafts=False):
    return world.report(drafts=drafts)


def notes(found):
    return [text for _, text in found.page.notes]


def test_a_full_world_has_no_refusal(full_world):
    found = built(full_world)
    assert found.holes == []
    assert notes(found) == []
    assert not any("refused" in line for line in found.page.legend)


def test_records_of_changed_code_are_in_drafts_alone(full_world):
    full_world.write("eurosat", "lora-r8", 1, 0.8, code=DIRTY)
    found = built(full_world)
    assert [str(hole.cell) for hole in found.holes] == ["vtab1k/vit_micro/eurosat/lora-r8/1"]
    assert notes(found) == [
        "not used, the code that ran had uncommitted changes; a draft takes it: "
        "vtab1k/vit_micro/eurosat/lora-r8/1"
    ]
    assert "Records refused: 1; the notes say which and why." in found.page.legend
    draft = built(full_world, drafts=True)
    assert draft.holes == []
    assert draft.page.warning.startswith("DRAFT: 1 records are not final; the notes say why. ")
    assert notes(draft) == [
        "DRAFT, the code that ran had uncommitted changes: vtab1k/vit_micro/eurosat/lora-r8/1"
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"code": {}}, "the code that ran is unknown"),
        ({"counts": {"n_test": 100, "n_evaluated": 60}}, "evaluated on 60 of 100 images"),
        ({"counts": {"n_test": 100, "n_evaluated": 100}}, None),
    ],
)
def test_what_makes_a_record_a_draft(world, fields, reason):
    world.write("eurosat", "lora-r8", 0, 0.8, **fields)
    record = json.loads(world.path("eurosat", "lora-r8", 0).read_text())
    assert caveat(record) == reason


def test_fewer_epochs_than_declared_are_a_draft():
    record = {"code": {"dirty": False}, "counts": {"epochs": 60}}
    record["config"] = {"stage1": {"epochs": 100}, "stage2": {"epochs": 100}}
    assert caveat(record) == "trained for 60 of 100 epochs"
    record["config"] = {"stage1": {"epochs": 60}}
    assert caveat(record) is None


def test_other_images_of_a_task_are_refused_where_they_are_fewer(full_world):
    for method in ("linear", "lora-r8", "lora-r8+linear", "lora-r8+control"):
        for seed in (0, 1):
            train = "b" if (method, seed) == ("lora-r8", 1) else "a"
            full_world.write("eurosat", method, seed, 0.8, data=images(train=train))
    # Another task may have whatever hash it has.
    full_world.write("cifar100", "linear", 0, 0.4, data=images(train="c"))
    found = built(full_world)
    assert [str(hole.cell) for hole in found.holes] == ["vtab1k/vit_micro/eurosat/lora-r8/1"]
    assert notes(found) == [
        "not used, other images (tfds, train bbbbbbbbbbbb) than most records (tfds, train aaaaaaaaaaaa): "
        "vtab1k/vit_micro/eurosat/lora-r8/1"
    ]


def test_generated_images_are_the_same_up_to_rounding(full_world):
    full_world.write("eurosat", "lora-r8", 0, 0.8, data=images("embedded", "a"))
    full_world.write("eurosat", "lora-r8", 1, 0.8, data=images("embedded", "b"))
    assert built(full_world).holes == []
    drawn_anew = images("embedded", "a") | {"generator_version": 2}
    full_world.write("eurosat", "lora-r8+linear", 1, 0.8, data=drawn_anew)
    assert len(built(full_world).holes) == 1


def test_other_weights_are_refused_on_all_tasks(full_world):
    for task, sha in (("cifar100", "a"), ("caltech101", "a"), ("eurosat", "b")):
        full_world.write(task, "lora-r8", 0, 0.5, weights={"id": "vit", "sha256": sha * 64})
    (hole,) = built(full_world).holes
    assert str(hole.cell) == "vtab1k/vit_micro/eurosat/lora-r8/0"
    assert hole.reason == "other weights (bbbbbbbbbbbb) than most records (aaaaaaaaaaaa)"


def test_a_record_of_another_scale_is_refused(full_world):
    path = full_world.path("eurosat", "lora-r8", 0)
    record = json.loads(path.read_text())
    record["cell"]["scale"] = "smoke"
    path.write_text(json.dumps(record))
    (hole,) = built(full_world).holes
    assert "record_sha256" in hole.reason  # edited by hand

    # Written so by the harness, and laid where it does not belong.
    cell = full_world.cell("eurosat", "lora-r8", 0)
    smoke = replace(full_world.benchmark.scales["micro"], name="smoke")
    record = build_record(
        full_world.benchmark,
        smoke,
        cell,
        full_world.benchmark.config(cell, smoke),
        status="ok",
        error=None,
        outcome=Outcome(metrics={"top1_accuracy": {"last_epoch": 0.8}}),
        sources={},
        where={"code": {"dirty": False}, "environment": {}, "hardware": {}},
        run={"attempt": 1},
    )
    path.unlink()
    store = Store(full_world.results, "smoke")
    store.write(cell, record)
    shutil.move(store.path(cell), path)
    (hole,) = built(full_world).holes
    assert "'smoke'" in hole.reason
    assert "'micro'" in hole.reason
