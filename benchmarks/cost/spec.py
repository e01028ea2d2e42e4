"""The declaration of the cost benchmark (paper, section 5.3; Table 6). There is no second list.

    python -m benchmarks run 'cost/vit_micro/cpu-fp32/lora-r2/0' --scale micro

takes about 40 s on two cores of an AMD EPYC. A step with ``linear`` takes 101.8 % of one without. The paper
prints 134 % on ViT-B/16: ``'cost/*/cuda-*' --scale paper``.

A cell is one adapted backbone on one device at one precision. It measures all variants of the training
step, so that every ratio comes from steps that ran side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.harness.cell import Cell
from benchmarks.harness.spec import Benchmark, Choice, Metric, Scale, Table, Task

PAPER = "paper, section 4.2"
OURS = "our choice"
ISSUE = "our choice: what the cost of the penalties is judged at"

TASKS = tuple(
    Task(
        name=f"{device}-{short}",
        label=f"{device.upper()}, {precision}",
        group=device,
        num_classes=100,
        n_test=0,
        device=device,
    )
    for device, short, precision in [
        ("cpu", "fp32", "float32"),
        ("cuda", "fp32", "float32 without TF32"),
        ("cuda", "bf16", "bfloat16 autocast"),
    ]
)

METHODS = ("full", "lora-r2", "lora-r8", "dtl", "dtl-r2")

Form = Literal["none", "closed", "literal", "maps"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant of a cell's training step.

    Attributes:
        name: Its name in records.
        label: Its name in tables.
        form: ``none``: without a penalty. ``closed``: ``resora.ReSoRA``. ``literal``: the equation as
            printed, on features z_i b_i. ``maps``: the same, features made by r materialised d x d
            maps applied to the layer's input, which the FLOPs in the paper's Table 6 correspond to.
        penalty: Name of the penalty; empty without one.
        sample: What counts as a sample. With ``maps`` the maps are applied to all tokens in any case.
    """

    name: str
    label: str
    form: Form
    penalty: str = ""
    sample: Literal["token", "image"] = "token"


BASELINE, CONTROL = "baseline", "baseline-again"

SYMBOLS = {"euclidean": "R_e", "cosine": "R_c", "nonlinear": "R_n", "linear": "R_l"}
"""The penalties in the order of the paper's table."""

FORM_LABELS = {"closed": "closed", "literal": "printed", "maps": "maps"}


def _variant(form: Form, penalty: str, sample: Literal["token", "image"]) -> Variant:
    over_tokens = form == "closed" and penalty == "nonlinear" and sample == "token"
    name = f"{form}-{penalty}" + ("-token" if over_tokens else "")
    # Set-to-set terms after maps are taken on images, as the paper's FLOPs say.
    shown = {"image": "images", "token": "tokens"}[sample]
    label = f"{SYMBOLS[penalty]} {FORM_LABELS[form]}, {shown}"
    return Variant(name=name, label=label, form=form, penalty=penalty, sample=sample)


VARIANTS = (
    Variant(name=BASELINE, label="no penalty", form="none"),
    Variant(name=CONTROL, label="no penalty, again (A/A)", form="none"),
    _variant("closed", "euclidean", "token"),
    _variant("closed", "cosine", "token"),
    _variant("closed", "nonlinear", "image"),
    _variant("closed", "nonlinear", "token"),
    _variant("closed", "linear", "token"),
    _variant("literal", "euclidean", "token"),
    _variant("literal", "cosine", "token"),
    _variant("literal", "nonlinear", "image"),
    _variant("literal", "linear", "token"),
    _variant("maps", "euclidean", "token"),
    _variant("maps", "cosine", "token"),
    _variant("maps", "nonlinear", "image"),
    _variant("maps", "linear", "image"),
)
"""The training steps of a cell; all but the literal ones are in every round."""


def variants_of(method: str) -> tuple[Variant, ...]:
    """Return the training steps of a method's cell: with ``full``, there is nothing to penalise."""
    return tuple(one for one in VARIANTS if one.form == "none" or method != "full")


PAPER_METHOD = {"full": "full", "lora-r2": "lora-r2", "dtl": "dtl", "dtl-r2": "dtl"}
"""The row of Table 6 that a method stands beside. Its LoRA rows are r = 2: their accuracy and gains are
those of r = 2 in Table 5, and +0.27 T is 36 matrices x 2 maps of 768 x 768 on 32 x 197 tokens."""

TABLES = (
    Table(
        name="table6",
        title="memory, FLOPs and time of a training step on ViT-B/16",
        rows=(
            "full",
            *(
                method + suffix
                for method in ("lora-r2", "dtl")
                for suffix in ("", *(f"+{penalty}" for penalty in SYMBOLS))
            ),
        ),
        layout="cost",
    ),
)

METRICS = tuple(
    Metric(
        name=f"{quantity}/{variant.name}",
        label=label,
        unit="%",
        factor=100.0,
        digits=1,
        higher_is_better=False,
        highest=1e4,
    )
    for quantity, label, forms in [
        ("step_ratio", "Time of a step over the baseline's", ("closed", "none", "literal", "maps")),
        ("own_share", "The penalty's own time over the baseline's step", ("closed",)),
    ]
    for variant in sorted(VARIANTS, key=lambda variant: variant.name != "closed-linear")
    if variant.form in forms and variant.name != BASELINE
)

COMMON = {
    "backbone.weights": Choice("random", "our choice: cost does not depend on them"),
    "backbone.drop_path": Choice(0.0, OURS),
    "method.scale": Choice(1.0, OURS),
    "penalty.weight": Choice(0.1, OURS),
    "penalty.fraction": Choice(0.5, OURS),
    # The literal R_e needs one; its value costs nothing.
    "penalty.literal_beta": Choice(1.0, OURS),
    "optimizer.name": Choice("adamw", PAPER),
    "optimizer.learning_rate": Choice(1e-5, "our choice: small, so that nothing diverges"),
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
                "rounds": Choice(2, OURS),
                "literal_rounds": Choice(1, OURS),
                "steps_per_round": Choice(1, OURS),
                "own_repetitions": Choice(2, OURS),
            },
        ),
        Scale(
            name="micro",
            description="vit_micro with random weights, a synthetic batch: the costs of that network",
            backbones=("vit_micro",),
            seeds=(0,),
            is_embedded=True,
            choices={
                **COMMON,
                "step.batch_size": Choice(32, "our choice: that of the cells of VTAB-1K"),
                "rounds": Choice(15, OURS),
                "literal_rounds": Choice(3, OURS),
                "steps_per_round": Choice(3, OURS),
                "own_repetitions": Choice(10, OURS),
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
                "step.batch_size.cpu": Choice(8, ISSUE),
                "step.batch_size.cuda": Choice(32, PAPER),
                "rounds.cpu": Choice(7, OURS),
                "rounds.cuda": Choice(10, OURS),
                "literal_rounds": Choice(2, OURS),
                "steps_per_round.cpu": Choice(1, OURS),
                # A GPU works behind the program: several steps in a row are timed as one.
                "steps_per_round.cuda": Choice(3, OURS),
                "own_repetitions.cpu": Choice(10, OURS),
                "own_repetitions.cuda": Choice(3, OURS),
            },
        ),
    )
}

UNSCALED = dict.fromkeys(("full", "dtl"), ("method.scale",))
"""Settings that a method does not have."""

BY_DEVICE = ("step.batch_size", "rounds", "literal_rounds", "steps_per_round", "own_repetitions")


def configure(benchmark: Benchmark, cell: Cell, scale: Scale) -> dict[str, Choice]:
    """Resolve a cell: every value that decides its numbers, with its source, by dotted name."""
    task = benchmark.task(cell.task)
    resolved = {
        "task.name": Choice(cell.task, OURS),
        "task.num_classes": Choice(task.num_classes, OURS),
        "backbone.name": Choice(cell.backbone, OURS if scale.is_embedded else PAPER),
        "method.name": Choice(cell.method, OURS),
        "step.precision": Choice(cell.task.rpartition("-")[2], ISSUE),
    }
    resolved |= {
        key: scale.choices[key] for key in COMMON if key not in UNSCALED.get(cell.method, ())
    }
    for key in BY_DEVICE:
        name = key if key in scale.choices else f"{key}.{task.device}"
        resolved[key if "." in key else f"measure.{key}"] = scale.choices[name]
    return resolved


COST = Benchmark(
    name="cost",
    version=1,
    title="What a penalty costs in a training step: time, memory, FLOPs",
    groups={"cpu": "CPU", "cuda": "GPU"},
    tasks=TASKS,
    methods=METHODS,
    metrics=METRICS,
    selections=("median", "lower_quartile", "upper_quartile"),
    scales=SCALES,
    tables=TABLES,
    runner="benchmarks.cost.runner",
    configure=configure,
    is_timed=True,
)
