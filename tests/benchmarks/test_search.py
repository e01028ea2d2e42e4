"""NOAH's supernet and search in the suite: what they read, what they leave, how they go on after a kill."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.training import classification, search
from benchmarks.training.classification import ImageClassification
from resora.petl import make_method

CELL = Cell("vtab1k", "vit_micro", "dmlab", "noah", 0)


def configuration(**changes):
    return {
        "task": {"name": "dmlab", "num_classes": 6},
        "backbone": {"name": "vit_micro", "weights": "random", "drop_path": 0.0},
        "method": {"name": "noah", "choices": [1, 2], "dropout": 0.0},
        "data": {
            "variant": "embedded",
            "train": "train800+val200",
            "val": "val200",
            "test": "test",
            "normalisation": "half",
            "limit_train": 32,
            "limit_test": 32,
        },
        "stage1": {
            "epochs": 1,
            "batch_size": 16,
            "weight_decay": 0.05,
            "warmup_epochs": 0,
            "evaluate_every": 1,
            "learning_rate": 1e-3,
        },
        "search": {
            "train": "train800",
            "val": "val200",
            "supernet_epochs": 2,
            "learning_rate": 5e-4,
            "warmup_epochs": 0,
            "budget": 12_000,
            "generations": 2,
            "population": 3,
            "parents": 2,
            "mutation": 0.2,
        }
        | changes,
    }


@pytest.fixture
def context(tmp_path, packed_data):
    return Context(
        data=packed_data, work=tmp_path, device="cpu", on_epoch=lambda cell, epoch, epochs: None
    )


def problem(config, context):
    return ImageClassification(CELL, config, context)


def chosen(config, context, cell=CELL):
    return search.search_subnet(cell, config, context, problem(config, context))


def steps(record):
    """The record without what a clock decides."""
    return {key: value for key, value in record.items() if not key.endswith("_seconds")}


def test_the_subnet_is_searched_once_and_can_be_rebuilt(context, monkeypatch):
    config = configuration()
    found = chosen(config, context)
    assert found.record["parameters"] <= config["search"]["budget"]
    assert found.record["evaluated"] == 6
    assert found.record["train"] == "train800"
    assert found.record["val"] == "val200"
    assert json.loads(json.dumps(found)) == [found.options, found.record]
    model = problem(config, context).build()
    method = make_method("noah", **found.options)
    method.adapt(model, "head")
    assert method.subnet._asdict() == {k: tuple(v) for k, v in found.record["subnet"].items()}
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained - sum(p.numel() for p in model.head.parameters()) == found.record["parameters"]
    assert [path.name for path in context.folder(CELL).iterdir()] == [search.SUBNET]

    monkeypatch.setattr(search, "_supernet", None)
    longer = config | {"stage1": config["stage1"] | {"epochs": 100}}
    assert chosen(longer, context) == found
    assert chosen(config, context, CELL.with_method("noah+linear")) == found
    # Another configuration does not take it over.
    with pytest.raises(TypeError):
        chosen(configuration(budget=11_000), context)


def test_the_test_split_is_not_loaded(context, monkeypatch):
    config = configuration()
    whole, loaded = problem(config, context), []
    for name in ("load_images", "open_stream"):
        plain = getattr(classification, name)
        monkeypatch.setattr(
            classification,
            name,
            lambda folder, split, plain=plain, **rest: (
                loaded.append(split) or plain(folder, split, **rest)
            ),
        )
    search.search_subnet(CELL, config, context, whole)
    assert sorted(loaded) == ["train800", "val200"]


def test_splits_have_to_be_apart(context):
    with pytest.raises(ValueError, match="have to be apart"):
        chosen(configuration(train="train800+val200"), context)


class Killed(Exception):
    pass


@pytest.mark.parametrize("calls", [1, 3])
def test_a_killed_run_goes_on(context, tmp_path, monkeypatch, calls):
    expected = chosen(configuration(), context)
    reached, evaluated = [], []
    evaluate = ImageClassification.evaluate
    monkeypatch.setattr(
        ImageClassification,
        "evaluate",
        lambda self, model: evaluated.append(model) or evaluate(self, model),
    )

    def kill(cell, epoch, epochs):
        reached.append(epoch)
        if len(reached) == calls:
            raise Killed

    again = Context(data=context.data, work=tmp_path / "again", device="cpu", on_epoch=kill)
    with pytest.raises(Killed):
        chosen(configuration(), again)
    torch.manual_seed(99)
    resumed = chosen(configuration(), again)
    assert resumed.options == expected.options
    assert steps(resumed.record) == steps(expected.record)
    # The supernet and six subnets: nothing is evaluated twice.
    assert len(evaluated) == 7
