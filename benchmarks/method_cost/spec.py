"""The declaration of the benchmark of methods' costs. There is no second list.

    python -m benchmarks run 'method_cost/vit_b16/cpu-fp32/all/0' --scale paper

takes about 600 s on two cores of an AMD EPYC. A step of ``lora-r8`` measured again takes 104.0 % of the
first: what is within a few per cent is noise. The paper has no such numbers.

One cell measures all methods on one device at one precision: ratios come from steps that ran side by side,
in one process, on the same batch.
"""

from __future__ import annotations

from benchmarks.cost.spec import TASKS
from benchmarks.harness.cell import Cell
from benchmarks.harness.spec import Benchmark, Choice, Metric, Scale, Table
from benchmarks.vtab1k import methods

PAPER = "paper, section 4.2"
OURS = "our choice"

ALL = "all"
"""The method that a cell of this benchmark carries: it measures every one."""

BASELINE = "lora-r8"
CONTROL = "lora-r8 again (A/A)"


def measured() -> tuple[str, ...]:
    """The methods that are measured: all that train on a vision transformer, without second stages."""
    names = [name for name in methods.METHODS[methods.VIT] if "+" not in name]
    return tuple(dict.fromkeys((BASELINE, *names)))


METRICS = tuple(
    Metric(
        name=f"step_ratio/{name}",
        label=f"Time of a step with {name} over {BASELINE}",
        unit="%",
        factor=100.0,
        digits=0,
        higher_is_better=False,
        highest=1e4,
    )
    for name in (CONTROL, *measured()[1:])
)

COMMON = {
    "backbone.weights": Choice("random", "our choice: cost does not depend on them"),
    "backbone.drop_path": Choice(0.0, OURS),
    "optimizer.name": Choice("adamw", PAPER),
    "optimizer.learning_rate": Choice(1e-6, "our choice: small, so that nothing diverges"),
}

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            description="a small backbone and two rounds: shows that everything works",
            backbones=("vit_micro",),
            seeds=(0,),
            is_embedded=True,
            choices={
                **COMMON,
                "step.batch_size": Choice(4, OURS),
                "measure.rounds": Choice(2, OURS),
                "measure.steps_per_round": Choice(1, OURS),
            },
        ),
        Scale(
            name="paper",
            description="ViT-B/16 with random weights, a synthetic batch",
            backbones=("vit_b16",),
            seeds=(0,),
            is_embedded=False,
            choices={
                **COMMON,
                "step.batch_size.cpu": Choice(4, OURS),
                "step.batch_size.cuda": Choice(32, PAPER),
                "measure.rounds.cpu": Choice(5, OURS),
                "measure.rounds.cuda": Choice(10, OURS),
                "measure.steps_per_round.cpu": Choice(1, OURS),
                # A GPU works behind the program: several steps in a row are timed as one.
                "measure.steps_per_round.cuda": Choice(3, OURS),
            },
        ),
    )
}

BY_DEVICE = ("step.batch_size", "measure.rounds", "measure.steps_per_round")


def configure(benchmark: Benchmark, cell: Cell, scale: Scale) -> dict[str, Choice]:
    """Resolve a cell: every value that decides its numbers, with its source, by dotted name."""
    task = benchmark.task(cell.task)
    resolved = {
        "task.name": Choice(cell.task, OURS),
        "task.num_classes": Choice(task.num_classes, OURS),
        "backbone.name": Choice(cell.backbone, OURS if scale.is_embedded else PAPER),
        "method.name": Choice(cell.method, OURS),
        "methods": Choice(list(measured()), OURS),
        "step.precision": Choice(cell.task.rpartition("-")[2], OURS),
    }
    resolved |= {key: scale.choices[key] for key in COMMON}
    for key in BY_DEVICE:
        name = key if key in scale.choices else f"{key}.{task.device}"
        resolved[key] = scale.choices[name]
    return resolved


METHOD_COST = Benchmark(
    name="method_cost",
    version=1,
    title="What a training step costs with each method: time, memory, FLOPs",
    groups={"cpu": "CPU", "cuda": "GPU"},
    tasks=TASKS,
    methods=(ALL,),
    metrics=METRICS,
    selections=("median", "lower_quartile", "upper_quartile"),
    scales=SCALES,
    tables=(
        Table(
            name="methods",
            title="time, memory and FLOPs of a training step by method",
            rows=measured(),
            layout="method_cost",
        ),
    ),
    runner="benchmarks.method_cost.runner",
    configure=configure,
    is_timed=True,
)
