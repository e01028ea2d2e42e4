"""The declaration of the benchmark of speed. There is no second list.

    python -m benchmarks run 'speed/vit_micro/cpu/all/0' --scale micro

takes about 70 s on two cores of an AMD EPYC. The trainer in float32 reaches 582 images a second there. The
paper has no such numbers.

One cell measures all ways of training on one device, so that their ratios come from one process.
"""

from __future__ import annotations

from benchmarks.harness.cell import Cell
from benchmarks.harness.spec import Benchmark, Choice, Metric, Scale, Table, Task
from benchmarks.speed.ways import PLAIN, PROCESSES, WAYS

PAPER = "paper, section 4.2"
OURS = "our choice"

ALL = "all"
"""The method that a cell of this benchmark carries: it measures every way."""

DEVICES = {"cpu": "CPU", "cuda": "GPU"}

TASKS = tuple(
    Task(name=device, label=label, group=device, num_classes=100, n_test=0, device=device)
    for device, label in DEVICES.items()
)

LABELS = {
    PLAIN: "plain loop: workers decode JPEGs, fp32",
    **{way.name: way.label for way in WAYS},
    PROCESSES: f"bf16, one process a cell, {PROCESSES.rpartition('-')[2]} at once",
}
"""The training configurations, in the order of the table."""

METRICS = tuple(
    Metric(
        name=f"images_per_second/{name}",
        label=f"Images a second: {LABELS[name]}",
        unit="images/s",
        factor=1.0,
        digits=1,
        higher_is_better=True,
        highest=1e7,
    )
    for name in sorted(LABELS, key=lambda name: name != "fp32")
)

COMMON = {
    "backbone.weights": Choice("random", "our choice: time does not depend on them"),
    "backbone.drop_path": Choice(0.0, OURS),
    "measure.method": Choice("lora-r8", OURS),
    "measure.workers": Choice(4, "our choice: what public repositories' loaders have"),
    "measure.rounds": Choice(3, OURS),
}

MEASURED = ("step.batch_size", "measure.images", "measure.steps", "measure.rounds")

SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            description="a small backbone, two rounds of two steps: shows that everything works",
            backbones=("vit_micro",),
            seeds=(0,),
            is_embedded=True,
            choices={
                **COMMON,
                "measure.workers": Choice(1, OURS),
                "measure.rounds": Choice(2, OURS),
                "step.batch_size": Choice(4, OURS),
                "measure.images": Choice(16, OURS),
                "measure.steps": Choice(2, OURS),
            },
        ),
        Scale(
            name="micro",
            description="the small backbone of the embedded world, batches of 32",
            backbones=("vit_micro",),
            seeds=(0,),
            is_embedded=True,
            choices={
                **COMMON,
                "step.batch_size": Choice(32, PAPER),
                "measure.images": Choice(800, OURS),
                "measure.steps.cpu": Choice(8, OURS),
                "measure.steps.cuda": Choice(25, "our choice: an epoch"),
            },
        ),
        Scale(
            name="paper",
            description="ViT-B/16 with random weights, random images",
            backbones=("vit_b16",),
            seeds=(0,),
            is_embedded=False,
            choices={
                **COMMON,
                "step.batch_size.cpu": Choice(4, "our choice: a step of 32 takes a core a minute"),
                "step.batch_size.cuda": Choice(32, PAPER),
                "measure.images.cpu": Choice(16, OURS),
                "measure.images.cuda": Choice(1000, PAPER),
                "measure.steps.cpu": Choice(1, OURS),
                "measure.steps.cuda": Choice(31, "our choice: an epoch"),
            },
        ),
    )
}


def configure(benchmark: Benchmark, cell: Cell, scale: Scale) -> dict[str, Choice]:
    """Resolve a cell: every value that decides its numbers, with its source, by dotted name."""
    task = benchmark.task(cell.task)
    resolved = {
        "task.name": Choice(cell.task, OURS),
        "task.num_classes": Choice(task.num_classes, OURS),
        "backbone.name": Choice(cell.backbone, OURS if scale.is_embedded else PAPER),
        "method.name": Choice(cell.method, OURS),
    }
    resolved |= {key: scale.choices[key] for key in COMMON}
    for key in MEASURED:
        name = key if key in scale.choices else f"{key}.{task.device}"
        resolved[key] = scale.choices[name]
    return resolved


SPEED = Benchmark(
    name="speed",
    version=1,
    title="How fast LoRA cells train, by way of training: images a second, cells an hour",
    groups=DEVICES,
    tasks=TASKS,
    methods=(ALL,),
    metrics=METRICS,
    selections=("median", "lower_quartile", "upper_quartile"),
    scales=SCALES,
    tables=(
        Table(
            name="speed",
            title="images a second and cells an hour by way of training",
            rows=tuple(LABELS),
            layout="speed",
        ),
    ),
    runner="benchmarks.speed.runner",
    configure=configure,
    is_timed=True,
)
