"""The paper's two stages: the base method first, then the same model again with the penalty.

A cell without a suffix is stage 1; its trained parameters are kept, and every ``+`` cell of the same
base, task and seed starts from them. ``+control`` trains the second stage with the plain loss.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.harness.cell import Cell, parse_method
from benchmarks.harness.context import Context
from benchmarks.harness.memory import peak_of_this_process
from benchmarks.harness.record import Outcome
from benchmarks.harness.seeding import seed_for
from benchmarks.harness.spec import Config, config_hash
from benchmarks.training import checkpoint
from benchmarks.training.classification import ImageClassification
from benchmarks.training.finite import require_finite_values
from benchmarks.training.precision import Precision, hold_in_half
from benchmarks.training.search import search_subnet
from benchmarks.training.trainer import Cached, Plan, Problem, Progress, Stage
from benchmarks.weights import Weights
from resora import ReSoRA
from resora.discovery import NoLowRankLayer
from resora.petl import Method, make_method

DEFINITION = "mean cos^2 between subspace activations over pairs, uncentred, tokens as samples"

PROTOCOL = ("train", "val", "held_out", "test", "normalisation")
"""Settings of the data that a record's protocol repeats."""


class ModelSource(Protocol):
    """Where the model of a cell comes from."""

    head: str
    """Dotted name of the submodule that every method trains."""

    device: str

    def build(self) -> nn.Module:
        """Return the pre-trained backbone with a fresh head, on the device."""


class TwoStageProblem(Problem, ModelSource, Protocol):
    """What a benchmark gives to a run of two stages."""

    metric: str
    """The metric that chooses an epoch; higher is better."""

    metrics: tuple[str, ...]
    """All metrics, the one that chooses among them."""

    @property
    def weights(self) -> Weights:
        """Where the backbone's weights came from; known once a model is built."""

    @property
    def counted(self) -> Mapping[str, tuple[str, ...]]:
        """What is trained besides the method's own: name in a record's cost -> submodules."""

    def probe(self, model: nn.Module) -> None:
        """Run the model forward on the examples on which redundancy is measured; sets ``mask``."""

    def counts(self) -> dict[str, Any]:
        """Return how many examples are meant and how many are seen."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the data."""


class MissingStage1(Exception):
    """The run that a second stage starts from has left no checkpoint."""


def stage1_config(config: Config) -> Config:
    """Return the configuration of the base cell that a cell's second stage starts from."""
    base = parse_method(config["method"]["name"]).base
    rest = {key: value for key, value in config.items() if key != "stage2"}
    return rest | {"method": config["method"] | {"name": base}}


def is_stage1_kept(cell: Cell, config: Config, context: Context) -> bool:
    """Return whether the checkpoint that a ``+`` cell starts from exists."""
    return checkpoint.has_stage1(
        context.folder(cell.base),
        config_hash(stage1_config(config)),
        context.recorded_stage1(cell.base),
    )


@dataclass(kw_only=True)
class Run:
    """A cell on its way: what is trained, and what was found out before.

    Attributes:
        cell: The cell.
        config: Its configuration.
        context: Folders and device.
        problem: Data, loss and metrics.
        model: The adapted model, for a second stage with the parameters that the first one came to.
        method: The method that adapted it.
        stage: 1 or 2.
        stage1: What the second stage starts from, for the record.
        search: The search that the method's options come from, for the record.
        cached: The problem with features of what is frozen; None where none are kept.
        redundancy: Between subspaces before this stage; None without low-rank layers.
        seconds: What it has taken so far: of what it shared with other cells, its share.
    """

    cell: Cell
    config: Config
    context: Context
    problem: TwoStageProblem
    model: nn.Module
    method: Method
    stage: int
    stage1: dict[str, Any] | None
    search: dict[str, Any]
    cached: Cached | None
    redundancy: dict[str, Any] | None
    seconds: float


def run(cell: Cell, config: Config, context: Context, problem: TwoStageProblem) -> Outcome:
    """Train one cell, stage 1 or stage 2, and return its results."""
    if context.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    with Precision.of(config).session(context.device):
        prepared = prepare(cell, config, context, problem)
        started = perf_counter()
        with stage_of(prepared) as stage:
            progress = stage.run()
        prepared.seconds += perf_counter() - started
        return finish(prepared, progress)


def prepare(cell: Cell, config: Config, context: Context, problem: TwoStageProblem) -> Run:
    """Build and adapt the model of a cell, and load the checkpoint that it starts from."""
    started = perf_counter()
    stage = 2 if "stage2" in config else 1
    options, search = _options(cell, config, context, problem)
    model, method = adapt(cell, options, problem)
    precision = Precision.of(config)
    if precision.is_half and not context.plain:
        hold_in_half(model, method)
    stage1 = _load_stage1(cell, config, context, model) if stage == 2 else None
    cached = problem.keep_features(model, method, precision) if context.caching else None
    redundancy = _redundancy(model, problem, precision, "start")
    return Run(
        cell=cell,
        config=config,
        context=context,
        problem=problem,
        model=model,
        method=method,
        stage=stage,
        stage1=stage1,
        search=search,
        cached=cached,
        redundancy=redundancy,
        seconds=perf_counter() - started,
    )


def finish(run: Run, progress: Progress, cost: dict[str, Any] | None = None) -> Outcome:
    """Store the checkpoint of stage 1, and return the results.

    Args:
        run: The cell, trained.
        progress: What its training came to.
        cost: What else there is to say of what it cost.
    """
    started = perf_counter()
    cell, config, context, problem = run.cell, run.config, run.context, run.problem
    after = _redundancy(run.model, problem, Precision.of(config), "end")
    if run.stage == 1:
        written = checkpoint.save_stage1(context.folder(cell), run.model, config_hash(config))
        run.stage1 = _stage1(cell, config, written)
    checkpoint.drop_epoch(context.folder(cell))
    seconds = run.seconds + perf_counter() - started
    measured = _cost(run.model, problem, progress, seconds, context.device)
    return Outcome(
        metrics={
            metric: _selected(progress.curves, metric, by=problem.metric)
            for metric in problem.metrics
        },
        curves={f"stage{run.stage}": progress.curves},
        redundancy=None
        if run.redundancy is None
        else {"definition": DEFINITION, "start": run.redundancy, "end": after},
        counts=problem.counts() | {"epochs": progress.epoch},
        cost=measured | {"cached_features": _cached(run.cached)} | (cost or {}),
        protocol={key: config["data"][key] for key in PROTOCOL if key in config["data"]}
        | run.search,
        data=problem.fingerprint(),
        weights=vars(problem.weights),
        stage1=run.stage1,
    )


def _options(
    cell: Cell, config: Config, context: Context, problem: TwoStageProblem
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the method's options, and for the record the search that some of them come from."""
    if "search" in config:
        if not isinstance(problem, ImageClassification):
            raise NotImplementedError(
                f"{cell}: a subnet is searched for in image classification alone"
            )
        chosen = search_subnet(cell, config, context, problem)
        return chosen.options, {"search": chosen.record}
    return {key: value for key, value in config["method"].items() if key != "name"}, {}


def adapt(cell: Cell, options: dict[str, Any], problem: ModelSource) -> tuple[nn.Module, Method]:
    """Build the model of a cell and adapt it by its base method, with these options."""
    torch.manual_seed(seed_for("head", cell))
    model = problem.build()
    torch.manual_seed(seed_for("adapter", cell))
    method = make_method(parse_method(cell.method).base, **options)
    method.adapt(model, problem.head)
    return model.to(problem.device), method


def _load_stage1(cell: Cell, config: Config, context: Context, model: nn.Module) -> dict[str, Any]:
    folder = context.folder(cell.base)
    if not is_stage1_kept(cell, config, context):
        raise MissingStage1(f"stage 1, {cell.base}, was not finished: see its record")
    return _stage1(cell, config, checkpoint.load_stage1(folder, model))


def _stage1(cell: Cell, config: Config, sha256: str) -> dict[str, Any]:
    return {
        "cell": str(cell.base),
        "config_hash": config_hash(stage1_config(config)),
        "checkpoint_sha256": sha256,
    }


@contextmanager
def stage_of(run: Run) -> Iterator[Stage]:
    """Prepare the training of a cell's stage; its penalty listens while inside the block."""
    cell, config, context, problem = run.cell, run.config, run.context, run.problem
    section = config[f"stage{run.stage}"]
    regularizer = regularizer_of(run.model, section) if section.get("penalty") else None
    try:
        yield Stage(
            run.model,
            run.cached or run.problem,
            Plan.of(section),
            order_seed=seed_for("data_order", cell, stage=run.stage),
            noise_seed=seed_for("noise", cell, stage=run.stage),
            folder=context.folder(cell),
            identity=config_hash(config),
            method=run.method,
            is_first=run.stage == 1,
            penalty=None if regularizer is None else lambda: regularizer(mask=problem.mask),
            precision=Precision.of(config),
            waits=context.waits,
            fuses=not context.plain,
            on_epoch=lambda epoch, epochs: context.on_epoch(cell, epoch, epochs),
        )
    finally:
        if regularizer is not None:
            regularizer.close()


def regularizer_of(model: nn.Module, section: dict[str, Any]) -> ReSoRA:
    """Return the penalty that the section of a second stage asks for."""
    return ReSoRA(
        model,
        penalty=section["penalty"],
        weight=section["weight"],
        sample=section["sample"],
        **section["options"],
    )


def _redundancy(
    model: nn.Module, problem: TwoStageProblem, precision: Precision, when: str
) -> dict[str, Any] | None:
    try:
        regularizer = ReSoRA(model, weight=0.0)
    except NoLowRankLayer:
        return None
    with regularizer.recording(), precision.forward(problem.device):
        problem.probe(model)
        matrices = regularizer.redundancy(mask=problem.mask)
    regularizer.close()
    by_matrix = {name: _mean_over_pairs(values) for name, values in matrices.items()}
    require_finite_values({f"redundancy.{when}.{name}": one for name, one in by_matrix.items()})
    return {
        "mean": sum(by_matrix.values()) / len(by_matrix),
        "by_matrix": by_matrix,
        "pairs_in_last_block": _pairs_in_last_block(matrices),
    }


def _pairs_in_last_block(matrices: dict[str, Tensor]) -> dict[str, list[float]]:
    """Return cos^2 of each pair of subspaces, (1, 2), (1, 3), ..., of the block that is adapted last.

    The paper's Figure 1 (a) shows the query matrix of the last block; a record has room for no more.
    """
    last = _block_of(list(matrices)[-1])
    return {
        name: [float(f"{value:.4g}") for value in matrix[_pairs(matrix)].tolist()]
        for name, matrix in matrices.items()
        if _block_of(name) == last
    }


def _block_of(name: str) -> str:
    """Return the name of the block of a matrix: ``blocks.5`` of ``blocks.5.attn.qkv.q``."""
    found = re.match(r".*\.\d+(?=\.)", name)
    return found.group() if found else name


def _pairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(len(matrix), len(matrix), offset=1)
    return rows, columns


def _mean_over_pairs(matrix: Tensor) -> float:
    rank = len(matrix)
    pairs = rank * (rank - 1) / 2
    return torch.triu(matrix, diagonal=1).sum().item() / pairs if pairs else 0.0


def _selected(
    curves: dict[str, list[float | None]], metric: str, *, by: str | None = None
) -> dict[str, float | None]:
    """Apply every selection rule to a metric: ``by`` (None: itself; higher is better) chooses the epoch."""
    by = by or metric
    test = curves[f"test_{metric}"]
    evaluated = [epoch for epoch, value in enumerate(test) if value is not None]

    def best_by(series: list[float | None]) -> int | None:
        had = [epoch for epoch in evaluated if _is_number(series[epoch])]
        return max(had, key=lambda epoch: series[epoch] or 0.0) if had else None

    best_val = best_by(curves[f"val_{by}"])
    return {
        "last_epoch": test[-1],
        "best_val": None if best_val is None else test[best_val],
        "max_test": test[best_by(curves[f"test_{by}"]) or 0],
    }


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _cached(problem: Cached | None) -> dict[str, Any] | None:
    """Say which splits are features, and what computing them took; training seconds are without it."""
    if problem is None:
        return None
    return {"splits": list(problem.features), "seconds": problem.seconds}


def _cost(
    model: nn.Module, problem: TwoStageProblem, progress: Progress, seconds: float, device: str
) -> dict[str, Any]:
    parts = {
        name: {id(p) for path in paths for p in model.get_submodule(path).parameters()}
        for name, paths in problem.counted.items()
    }
    apart = set().union(*parts.values())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    peak = torch.cuda.max_memory_allocated() if device.startswith("cuda") else None
    return {
        "total_seconds": seconds,
        "train_seconds": progress.train_seconds,
        "evaluate_seconds": progress.evaluate_seconds,
        "peak_gpu_memory_bytes": peak,
        "peak_process_memory_bytes": peak_of_this_process(),
        "trainable_params": sum(p.numel() for p in trained if id(p) not in apart),
        **{name: sum(p.numel() for p in trained if id(p) in of) for name, of in parts.items()},
        "total_params": sum(p.numel() for p in model.parameters()),
    }
