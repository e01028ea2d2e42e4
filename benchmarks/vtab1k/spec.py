"""The declaration of VTAB-1K (paper, section 4.2; Tables 2 and 5). There is no second list.

    python -m benchmarks run 'vtab1k/vit_micro/svhn/lora-r8+linear/0' --scale micro

takes about 17 s on one core of an AMD EPYC after its stage 1, and gives 57.1 % top-1 accuracy. The paper
prints 77.2 % as the average of ``lora-r8+linear`` over the 19 real tasks: ``'vtab1k/vit_b16/*' --scale
paper``.
"""

from __future__ import annotations

from benchmarks.harness.cell import Cell
from benchmarks.harness.spec import Benchmark, Choice, Metric, Scale, Table, Task
from benchmarks.training.configuration import OURS, PAPER, SWEPT, resolve
from benchmarks.vtab1k import methods
from benchmarks.vtab1k.hyperparameters import FOLDER

NOAH = "ZhangYuanhan-AI/NOAH experiments"
DTL = "heekhero/DTL train_scripts/vit/vtab"
RESIZED = "heekhero/DTL, Lucenova/KARST data/vtab.py"

GROUPS = {"natural": "Natural", "specialized": "Specialized", "structured": "Structured"}

# name, label in the paper's tables, group, classes, test images
TASKS = tuple(
    Task(name=name, label=label, group=group, num_classes=classes, n_test=n_test)
    for name, label, group, classes, n_test in [
        ("cifar100", "Cifar100", "natural", 100, 10_000),
        ("caltech101", "Caltech101", "natural", 102, 6_084),
        ("dtd", "DTD", "natural", 47, 1_880),
        ("flowers102", "Flower102", "natural", 102, 6_149),
        ("pets", "Pets", "natural", 37, 3_669),
        ("svhn", "SVHN", "natural", 10, 26_032),
        ("sun397", "Sun397", "natural", 397, 21_750),
        ("patch_camelyon", "Camelyon", "specialized", 2, 32_768),
        ("eurosat", "EuroSAT", "specialized", 10, 5_400),
        ("resisc45", "Resisc45", "specialized", 45, 6_300),
        ("retinopathy", "Retinopathy", "specialized", 5, 42_670),
        ("clevr_count", "Clevr-Count", "structured", 8, 15_000),
        ("clevr_dist", "Clevr-Dist", "structured", 6, 15_000),
        ("dmlab", "DMLab", "structured", 6, 22_735),
        ("kitti_dist", "KITTI-Dist", "structured", 4, 711),
        ("dsprites_loc", "dSpr-Loc", "structured", 16, 73_728),
        ("dsprites_ori", "dSpr-Ori", "structured", 16, 73_728),
        ("smallnorb_azim", "sNORB-Azim", "structured", 18, 12_150),
        ("smallnorb_elev", "sNORB-Ele", "structured", 9, 12_150),
    ]
)

ACCURACY = Metric(
    name="top1_accuracy", label="Top-1", unit="%", factor=100.0, digits=1, higher_is_better=True
)

TABLES = (
    Table(name="table2", title="VTAB-1K on ViT-B/16", rows=methods.TABLE2_ALL),
    Table(
        name="table3",
        title="VTAB-1K on Swin and ConvNeXt",
        rows=methods.TABLE3_SWIN,
        layout="groups",
        backbone=1,
    ),
    Table(
        name="table3",
        title="VTAB-1K on Swin and ConvNeXt",
        rows=methods.TABLE3_CONVNEXT,
        layout="groups",
        backbone=2,
    ),
    Table(
        name="table4",
        title="VTAB-1K on ViT-B/16: the penalty on features and on weights",
        rows=methods.TABLE4,
        layout="groups",
    ),
    Table(
        name="table5",
        title="VTAB-1K on ViT-B/16 with LoRA under different subspace penalties",
        rows=methods.LORA,
    ),
)

# What holds at every scale, unless the scale says otherwise.
COMMON = {
    "data.val": Choice("val200", PAPER),
    "data.test": Choice("test", PAPER),
    "data.normalisation": Choice("half", DTL),
    "data.limit_train": Choice(None, PAPER),
    "data.limit_test": Choice(None, PAPER),
    "training.precision": Choice("fp32", OURS),
    "training.batch_size": Choice(32, PAPER),
    "training.weight_decay": Choice(0.05, PAPER),
    "training.warmup_epochs": Choice(0, OURS),
    "training.evaluate_every": Choice(1, OURS),
    "lora.scale": Choice(1.0, OURS),
    "moslora.scale": Choice(1.0, OURS),
    "srlora.scale": Choice(1.0, OURS),
    "adalora.scale": Choice(1.0, OURS),
    "adaptformer.dim": Choice(8, "paper, Table 2, by its 0.16 M"),
    "adaptformer.scale": Choice(0.1, "ShoufaChen/AdaptFormer main_image.py"),
    "adapter.dim": Choice(8, "ZhangYuanhan-AI/NOAH"),
    "fact-tk.scale": Choice(1.0, OURS),
    "fact-tt.scale": Choice(1.0, OURS),
    "fact-tt.rank": Choice(16, "JieShibo/PETL-ViT FacT/configs/tt, the largest"),
    "dtl.rank": Choice(2, "heekhero/DTL"),
    "dtl-plus.rank": Choice(2, "heekhero/DTL"),
    "dtl-plus.kernel": Choice(3, "heekhero/DTL train_scripts/vit/vtab, the most frequent"),
    "lst.reduction": Choice(8, "paper, Table 2, by its 2.38 M"),
    "prefix.length": Choice(10, OURS),
    "search.train": Choice("train800", NOAH),
    "search.val": Choice("val200", NOAH),
    "search.mutation": Choice(0.2, NOAH),
    # The paper gives no weight.
    "weight.linear": Choice(0.1, SWEPT),
    "weight.nonlinear": Choice(0.1, OURS),
    "weight.euclidean": Choice(0.1, OURS),
    "weight.cosine": Choice(0.1, OURS),
}

EMBEDDED = {
    **{f"weights.{name}": Choice(name, OURS) for name in methods.KINDS if "micro" in name},
    "backbone.drop_path": Choice(0.0, OURS),
    "data.variant": Choice("embedded", OURS),
    # The validation images stay out of training, so that all selection rules mean something.
    "data.train": Choice("train800", OURS),
    "learning_rate.full": Choice(5e-4, OURS),
    "learning_rate.linear": Choice(3e-2, SWEPT),
    "learning_rate.lora": Choice(5e-3, SWEPT),
    "learning_rate.any": Choice(5e-3, "our choice: that of LoRA (benchmarks/vtab1k/README.md)"),
    "learning_rate.dtl": Choice(1e-2, SWEPT),
    "learning_rate.dtl-plus": Choice(1e-2, SWEPT),
    # There are 17 tokens an image.
    "vpt-deep.tokens": Choice(10, OURS),
    "vpt-shallow.tokens": Choice(10, OURS),
    "fact-tk.rank": Choice(16, "JieShibo/PETL-ViT FacT/configs/tk, the smaller"),
}


RELEASED = "our choice: the largest of NOAH's released subnets, 0.43 M as the paper prints"
LIKE_LORA = "our choice: what lora-r8 has"


def search(
    *,
    epochs: int,
    warmup: int,
    learning_rate: float,
    generations: int,
    population: int,
    budget: int = 46_080,
    source: str = OURS,
) -> dict[str, Choice]:
    """NOAH's search: how the supernet is trained, and how many subnets of which size are looked at."""
    return {
        "search.supernet_epochs": Choice(epochs, source),
        "search.learning_rate": Choice(learning_rate, source),
        "search.warmup_epochs": Choice(warmup, source),
        "search.generations": Choice(generations, source),
        "search.population": Choice(population, source),
        "search.parents": Choice(max(2, population // 5), source),
        "search.budget": Choice(budget, RELEASED if source == NOAH else LIKE_LORA),
    }


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            description="embedded world, 64 training images, 2 + 2 epochs: shows that everything works",
            backbones=("vit_micro", "swin_micro", "convnext_micro"),
            seeds=(0,),
            is_embedded=True,
            choices={
                **EMBEDDED,
                "data.limit_train": Choice(64, OURS),
                "data.limit_test": Choice(64, OURS),
                "training.epochs": Choice(2, OURS),
                "training.evaluate_every": Choice(2, OURS),
                **search(epochs=1, warmup=0, learning_rate=2.5e-3, generations=2, population=4),
            },
        ),
        Scale(
            name="micro",
            description="embedded world, 800 training images, 10 + 10 epochs: methods can be told apart",
            backbones=("vit_micro", "swin_micro", "convnext_micro"),
            seeds=(0, 1, 2),
            is_embedded=True,
            choices={
                **EMBEDDED,
                "training.epochs": Choice(10, OURS),
                **search(epochs=5, warmup=1, learning_rate=2.5e-3, generations=4, population=8),
                # A probe is cheap: it is given as long as both stages together.
                "epochs.linear": Choice(20, OURS),
                "training.warmup_epochs": Choice(1, OURS),
                "training.evaluate_every": Choice(5, OURS),
            },
        ),
        Scale(
            name="paper",
            description="published protocol, real data, 100 + 100 epochs",
            backbones=("vit_b16", "swin_b", "convnext_b"),
            seeds=(0, 1, 2),
            is_embedded=False,
            choices={
                "weights.vit_b16": Choice(
                    "vit_base_patch16_224.orig_in21k", "heekhero/DTL, Lucenova/KARST READMEs"
                ),
                "weights.swin_b": Choice(
                    "swin_base_patch4_window7_224.ms_in22k", "heekhero/DTL, dongzelian/SSF"
                ),
                "weights.convnext_b": Choice("convnext_base.fb_in22k", "dongzelian/SSF"),
                "backbone.drop_path": Choice(0.1, "Lucenova/KARST train_vit_vtab.py"),
                "data.variant": Choice("tfds", OURS),
                "data.image_size": Choice(224, RESIZED),
                "data.interpolation": Choice("bicubic", RESIZED),
                "normalisation.vit_b16": Choice("half", "heekhero/DTL, Lucenova/KARST"),
                "normalisation.swin_b": Choice("half", "heekhero/DTL"),
                "normalisation.convnext_b": Choice(
                    "imagenet", "dongzelian/SSF: timm's configuration of it"
                ),
                "data.train": Choice("train800+val200", PAPER),
                "training.epochs": Choice(100, PAPER),
                **search(
                    epochs=500,
                    warmup=10,
                    learning_rate=5e-4,
                    generations=15,
                    population=50,
                    budget=432_000,
                    source=NOAH,
                ),
                "training.warmup_epochs": Choice(10, DTL),
                "training.evaluate_every": Choice(10, "Lucenova/KARST train_vit_vtab.py"),
                "learning_rate.full": Choice(1e-4, "visinf/adapter_plus conf"),
                "learning_rate.linear": Choice(1e-3, OURS),
                "vpt-deep.tokens": Choice(50, OURS),
                "vpt-shallow.tokens": Choice(50, OURS),
                "fact-tk.rank": Choice(32, "JieShibo/PETL-ViT FacT/configs/tk, the most frequent"),
                "learning_rate.any": Choice(1e-3, "Lucenova/KARST train_vit_vtab.py"),
            },
        ),
    )
}


def configure(benchmark: Benchmark, cell: Cell, scale: Scale) -> dict[str, Choice]:
    """Resolve a cell: every value that decides its numbers, with its source, by dotted name."""
    return resolve(
        benchmark,
        cell,
        scale,
        COMMON | dict(scale.choices),
        kind=methods.KINDS[cell.backbone],
        folder=FOLDER,
    )


VTAB1K = Benchmark(
    name="vtab1k",
    version=1,
    title="VTAB-1K: 19 image classification tasks, 1,000 training images each",
    groups=GROUPS,
    tasks=TASKS,
    methods=tuple(dict.fromkeys(name for kind in methods.METHODS.values() for name in kind)),
    methods_on={backbone: methods.METHODS[kind] for backbone, kind in methods.KINDS.items()},
    metrics=(ACCURACY,),
    selections=("last_epoch", "best_val", "max_test"),
    scales=SCALES,
    tables=TABLES,
    why_not=methods.why_not,
    runner="benchmarks.vtab1k.runner",
    cover_task="svhn",
    configure=configure,
)
