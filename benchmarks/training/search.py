"""NOAH's first two phases: train the supernet, then search it for the subnet that stage 1 trains.

The supernet learns from one split and subnets are compared on another one, which it has not seen; the test
split is not even loaded. Stage 1 then trains the subnet from fresh values, on whatever the protocol says.
Everything is kept below the cell's work folder, so that a killed run loses an epoch or a generation.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.seeding import seed_for
from benchmarks.harness.spec import Config, config_hash
from benchmarks.training import checkpoint
from benchmarks.training.classification import ImageClassification
from benchmarks.training.precision import Precision
from benchmarks.training.trainer import Plan, Stage
from resora.petl import make_method
from resora.petl.noah import NOAH, Evolution, Subnet

SUBNET = "subnet.json"
"""File with the result of the search; it is stored next to the checkpoint of stage 1."""

SUPERNET = "supernet"
"""Folder of the supernet and of the scores so far; gone when the search is done."""

SCORES = "scores.json"

STAGE = 0
"""The stage that the seeds of both phases are derived from."""


class Chosen(NamedTuple):
    """The subnet of a cell.

    Attributes:
        options: The options with which ``make_method("noah", **options)`` builds it, of JSON's types.
        record: What the search was and what it cost: the sizes by kind of module, parameters, budget,
            subnets evaluated, accuracies on the search's validation split, seconds.
    """

    options: dict[str, Any]
    record: dict[str, Any]


def search_subnet(
    cell: Cell, config: Config, context: Context, problem: ImageClassification
) -> Chosen:
    """Return the subnet of a NOAH cell: the one that is kept, or else the one that is searched for now.

    Args:
        cell: The cell; a ``+`` cell has the subnet of its base.
        config: Its configuration, with the sections ``method`` (options of NOAH but ``subnet``) and
            ``search``: ``train`` and ``val`` (splits), ``supernet_epochs``, ``learning_rate``,
            ``warmup_epochs``, ``budget``, ``generations``, ``population``, ``parents``, ``mutation``.
            Batch size and weight decay are those of ``stage1``.
        context: Folders and device.
        problem: The cell's problem; one of the same class is made for the search's splits.

    Raises:
        Diverged: The supernet's training does not come to a usable model.
        ValueError: No subnet keeps to the budget, or the splits of the search are not apart.
    """
    base = cell.base
    folder = context.folder(base)
    identity = _identity(base, config)
    if (kept := _read(folder / SUBNET, identity)) is not None:
        return Chosen(kept["options"], kept["record"])
    options = {name: v for name, v in config["method"].items() if name not in ("name", "subnet")}
    method = cast(NOAH, make_method("noah", **options))
    problem = type(problem)(base, _split_config(config), context)
    model, state = _supernet(base, config, context, problem, method, identity)
    chosen = _search(base, config, context, problem, method, model, state)
    _write(folder / SUBNET, {"identity": identity, **chosen._asdict()})
    shutil.rmtree(folder / SUPERNET)
    return chosen


def _identity(cell: Cell, config: Config) -> str:
    """Name all that decides the subnet; how long it is trained afterwards does not."""
    method = {key: v for key, v in config["method"].items() if key not in ("name", "subnet")}
    sections = ("task", "backbone", "data", "search", "training")
    parts = {key: config[key] for key in sections if key in config}
    shared = {key: config["stage1"][key] for key in ("batch_size", "weight_decay")}
    return config_hash({"cell": str(cell), "method": method, "stage1": shared, **parts})


def _split_config(config: Config) -> Config:
    """Replace the protocol's splits with those of the search, which tests on validation data."""
    search = config["search"]
    if set(search["train"].split("+")) & set(search["val"].split("+")):
        raise ValueError(
            f"the supernet is trained on {search['train']} and searched on {search['val']}: these have "
            "to be apart"
        )
    splits = {"train": search["train"], "val": None, "test": search["val"]}
    return config | {"data": config["data"] | splits}


def _supernet(
    cell: Cell,
    config: Config,
    context: Context,
    problem: ImageClassification,
    method: NOAH,
    identity: str,
) -> tuple[nn.Module, dict[str, Any]]:
    """Train the supernet, or load it; return it with the state of the search."""
    folder = context.folder(cell) / SUPERNET
    torch.manual_seed(seed_for("head", cell))
    model = problem.build()
    torch.manual_seed(seed_for("adapter", cell, stage=STAGE))
    method.adapt(model, problem.head)
    model.to(problem.device)
    state = _read(folder / SCORES, identity)
    if state is not None and checkpoint.has_stage1(folder, identity):
        checkpoint.load_stage1(folder, model)
        return model, state
    section = config["search"]
    epochs = section["supernet_epochs"]
    numbers = {key: section[key] for key in ("learning_rate", "warmup_epochs")}
    training = Stage(
        model,
        problem,
        Plan.of(config["stage1"] | numbers | {"epochs": epochs, "evaluate_every": epochs}),
        order_seed=seed_for("data_order", cell, stage=STAGE),
        noise_seed=seed_for("noise", cell, stage=STAGE),
        folder=folder,
        identity=identity,
        method=method,
        precision=Precision.of(config),
        on_epoch=lambda epoch, epochs: context.on_epoch(cell, epoch, epochs),
    )
    progress = training.run()
    checkpoint.save_stage1(folder, model, identity)
    state = {
        "identity": identity,
        "supernet_seconds": progress.train_seconds,
        "supernet_accuracy": progress.curves[f"test_{problem.metric}"][-1],
        "search_seconds": 0.0,
        "scores": [],
    }
    _write(folder / SCORES, state)
    checkpoint.drop_epoch(folder)
    return model, state


def _search(
    cell: Cell,
    config: Config,
    context: Context,
    problem: ImageClassification,
    method: NOAH,
    model: nn.Module,
    state: dict[str, Any],
) -> Chosen:
    """Search the supernet; after each generation ``state``, with all scores, is written."""
    section = config["search"]
    evolution = Evolution(
        **{key: section[key] for key in ("generations", "population", "parents", "mutation")}
    )
    known = {Subnet(*map(tuple, sizes)): score for sizes, score in state["scores"]}
    before, started = state["search_seconds"], perf_counter()

    def evaluate() -> float:
        model.eval()
        with torch.inference_mode(), Precision.of(config).forward(problem.device):
            return cast(float, problem.evaluate(model)[f"test_{problem.metric}"])

    def keep(generation: int) -> None:
        state["scores"] = list(known.items())
        state["search_seconds"] = before + perf_counter() - started
        _write(context.folder(cell) / SUPERNET / SCORES, state)
        context.on_epoch(cell, generation, evolution.generations)

    found = method.search(
        model,
        evaluate,
        budget=section["budget"],
        evolution=evolution,
        generator=torch.Generator().manual_seed(seed_for("noise", cell, stage=STAGE)),
        known=known,
        on_generation=keep,
    )
    measured = asdict(found)
    measured["subnet"] = found.subnet._asdict()
    measured["val_accuracy"] = measured.pop("score")
    measured["val_accuracy_by_generation"] = measured.pop("best")
    seconds = {key: v for key, v in state.items() if key not in ("identity", "scores")}
    splits = {key: section[key] for key in ("train", "val")}
    options = {key: v for key, v in config["method"].items() if key != "name"}
    chosen = Chosen(options | {"subnet": found.subnet}, measured | seconds | splits)
    # As it will be read: lists for tuples.
    return Chosen(*json.loads(json.dumps(chosen)))


def _read(path: Path, identity: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["identity"] == identity else None


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(path)
