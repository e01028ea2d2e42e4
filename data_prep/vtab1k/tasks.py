"""The 19 tasks of VTAB-1K on their real data: where they come from, which slices, which labels.

Builders, slices and label rules: google-research/task_adaptation (commit d7630d3). The numbers of
examples are those on which its slices were defined; a source with others is not the published data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_prep.vtab1k import labels

SPLITS = ("train800", "val200", "test")

ORIGINAL = "the data set's own image files, unchanged"
LOSSLESS = "arrays without loss, as PNG"
AGAIN = "JPEG files, encoded again with loss by TFDS"
STORED_AS = {LOSSLESS: "PNG", AGAIN: "JPEG"}
"""The format of the files where that is so."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: Registry name.
        group: ``natural``, ``specialized`` or ``structured``.
        label: What the label says.
        num_classes: Number of classes.
        builder: Name of the TFDS builder, with its configuration.
        version: The builder's version that is asked for.
        classic: The version that VTAB-1K was published with, where it is another one.
        drift: What is known of the difference.
        slices: Split -> slice of the builder's splits, in TFDS' notation.
        sizes: Split of the builder -> examples on which the slices were defined.
        counts: Split -> examples.
        rule: Takes an example of TFDS to its label.
        jpeg: What TFDS does to the images as it stores them, and whether JPEG's loss is in it.
        channels: 1 where the data set is grey; VTAB-1K repeats the channel three times.
        brightest: The largest value of a pixel as it is stored.
        folders: Names that the folder of exported files has in public repositories.
        by_hand: What TFDS cannot download, and where it has to be put below the manual folder.
        class_names: Names of the classes that the builder does not name.
    """

    name: str
    group: str
    label: str
    num_classes: int
    builder: str
    version: str
    classic: str | None = None
    drift: str | None = None
    slices: dict[str, str]
    sizes: dict[str, int]
    counts: dict[str, int]
    rule: Callable[[labels.Example], int] = labels.given
    jpeg: str = ORIGINAL
    channels: int = 3
    brightest: int = 255
    folders: tuple[str, ...] = ()
    by_hand: str | None = None
    class_names: tuple[str, ...] | None = None


def _slices(val: str, test: str = "test") -> dict[str, str]:
    return {"train800": "train[:800]", "val200": val, "test": test}


def _counts(test: int) -> dict[str, int]:
    return {"train800": 800, "val200": 200, "test": test}


VALIDATION = "validation[:200]"

_NATURAL = (
    Task(
        name="cifar100",
        group="natural",
        label="what the object is",
        num_classes=100,
        builder="cifar100",
        jpeg=LOSSLESS,
        version="3.0.2",
        slices=_slices("train[45000:45200]"),
        sizes={"train": 50_000, "test": 10_000},
        counts=_counts(10_000),
        folders=("cifar", "cifar100", "cifar_100", "cifar-100"),
    ),
    Task(
        name="caltech101",
        group="natural",
        label="what the object is",
        num_classes=102,
        builder="caltech101",
        version="3.0.2",
        classic="3.0.1",
        drift="the builder draws training images from an unsorted listing of files: which images are "
        "training images depends on the machine. Only exported files (--source folder) fix them",
        slices=_slices("train[2754:2954]"),
        sizes={"train": 3_060, "test": 6_084},
        counts=_counts(6_084),
        folders=("caltech101", "caltech_101", "caltech-101"),
    ),
    Task(
        name="dtd",
        group="natural",
        label="the word for the texture",
        num_classes=47,
        builder="dtd",
        version="3.0.1",
        slices=_slices(VALIDATION),
        sizes={"train": 1_880, "validation": 1_880, "test": 1_880},
        counts=_counts(1_880),
        folders=("dtd",),
    ),
    Task(
        name="flowers102",
        group="natural",
        label="the flower's species",
        num_classes=102,
        builder="oxford_flowers102",
        version="2.1.1",
        slices=_slices(VALIDATION),
        sizes={"train": 1_020, "validation": 1_020, "test": 6_149},
        counts=_counts(6_149),
        folders=("oxford_flowers102", "flowers102", "oxford_flowers", "flowers"),
    ),
    Task(
        name="pets",
        group="natural",
        label="the pet's breed",
        num_classes=37,
        builder="oxford_iiit_pet",
        version="4.0.0",
        classic="3.2.0",
        drift="3.x is gone; 4.0.0 has the same keys, hence the same slices, and re-encodes 12 damaged "
        "JPEG files",
        slices=_slices("train[2944:3144]"),
        sizes={"train": 3_680, "test": 3_669},
        counts=_counts(3_669),
        folders=("oxford_iiit_pet", "oxford_pet", "oxford_pets", "pets", "pet"),
    ),
    Task(
        name="svhn",
        group="natural",
        label="the digit in the middle",
        num_classes=10,
        builder="svhn_cropped",
        jpeg=LOSSLESS,
        version="3.1.0",
        classic="3.0.0",
        drift="3.0.0 is gone; 3.1.0 adds an id to each example",
        slices=_slices("train[65931:66131]"),
        sizes={"train": 73_257, "test": 26_032},
        counts=_counts(26_032),
        folders=("svhn", "svhn_cropped"),
    ),
    Task(
        name="sun397",
        group="natural",
        label="the kind of scene",
        num_classes=397,
        builder="sun397/tfds",
        jpeg=AGAIN,
        version="4.0.0",
        drift="the registered address of the archive is dead since 2026; put the archive, under its "
        "registered name, into the manual folder",
        slices=_slices(VALIDATION),
        sizes={"train": 76_128, "validation": 10_875, "test": 21_750},
        counts=_counts(21_750),
        folders=("sun397", "sun_397", "sun"),
    ),
)

_SPECIALIZED = (
    Task(
        name="patch_camelyon",
        group="specialized",
        label="tumour cells in the central region or not",
        num_classes=2,
        builder="patch_camelyon",
        jpeg=LOSSLESS,
        version="2.0.0",
        slices=_slices(VALIDATION),
        sizes={"train": 262_144, "validation": 32_768, "test": 32_768},
        counts=_counts(32_768),
        folders=("patch_camelyon", "camelyon", "pcam"),
    ),
    Task(
        name="eurosat",
        group="specialized",
        label="the land cover",
        num_classes=10,
        builder="eurosat/rgb",
        version="2.0.0",
        slices=_slices("train[16200:16400]", "train[21600:]"),
        sizes={"train": 27_000},
        counts=_counts(5_400),
        folders=("eurosat",),
    ),
    Task(
        name="resisc45",
        group="specialized",
        label="the kind of scene, from above",
        num_classes=45,
        builder="resisc45",
        version="3.0.0",
        slices=_slices("train[18900:19100]", "train[25200:]"),
        sizes={"train": 31_500},
        counts=_counts(6_300),
        folders=("resisc45",),
        by_hand="NWPU-RESISC45.rar of the data set's authors, unpacked to NWPU-RESISC45/<class>/*.jpg",
    ),
    Task(
        name="retinopathy",
        group="specialized",
        label="the grade of the disease",
        num_classes=5,
        builder="diabetic_retinopathy_detection/btgraham-300",
        jpeg=AGAIN,
        version="3.0.0",
        slices=_slices(VALIDATION),
        sizes={"train": 35_126, "validation": 10_906, "test": 42_670},
        counts=_counts(42_670),
        folders=("diabetic_retinopathy", "retinopathy", "diabetic_retinopathy_detection"),
        by_hand="the files of Kaggle's competition diabetic-retinopathy-detection, unpacked to "
        "sample/*.jpeg, train/*.jpeg, test/*.jpeg and trainLabels.csv",
    ),
)


def _clevr(
    name: str,
    label: str,
    rule: Callable[[Any], int],
    names: tuple[str, ...],
    aliases: tuple[str, ...],
) -> Task:
    return Task(
        name=name,
        group="structured",
        label=label,
        num_classes=len(names),
        builder="clevr",
        version="3.1.0",
        slices=_slices("train[63000:63200]", "validation"),
        sizes={"train": 70_000, "validation": 15_000},
        counts=_counts(15_000),
        rule=rule,
        folders=(name, *aliases),
        class_names=names,
    )


def _dsprites(name: str, label: str, rule: Callable[[Any], int], alias: str) -> Task:
    return Task(
        name=name,
        group="structured",
        label=label,
        num_classes=labels.BINS,
        builder="dsprites",
        jpeg=LOSSLESS,
        version="2.0.0",
        slices=_slices("train[589824:590024]", "train[663552:]"),
        sizes={"train": 737_280},
        counts=_counts(73_728),
        rule=rule,
        channels=1,
        brightest=1,
        folders=(name, alias),
    )


def _smallnorb(
    name: str, label: str, rule: Callable[[Any], int], classes: int, aliases: tuple[str, ...]
) -> Task:
    return Task(
        name=name,
        group="structured",
        label=label,
        num_classes=classes,
        builder="smallnorb",
        jpeg=LOSSLESS,
        version="2.0.0",
        slices=_slices("test[:200]", "test[50%:]"),
        sizes={"train": 24_300, "test": 24_300},
        counts=_counts(12_150),
        rule=rule,
        channels=1,
        folders=(name, *aliases),
    )


_STRUCTURED = (
    _clevr(
        "clevr_count",
        "the number of objects",
        labels.clevr_count,
        tuple(str(k) for k in range(labels.FEWEST_OBJECTS, 11)),
        ("clevr-count",),
    ),
    _clevr(
        "clevr_dist",
        "the nearest object's distance",
        labels.clevr_dist,
        tuple(
            f"{low:g} to {high:g}"
            for low, high in zip(labels.CLEVR_DISTANCES, labels.CLEVR_DISTANCES[1:], strict=False)
        ),
        ("clevr-dist", "clevr_distance"),
    ),
    Task(
        name="dmlab",
        group="structured",
        label="the object's distance, and whether it is a good or a bad one",
        num_classes=6,
        builder="dmlab",
        version="2.0.1",
        slices=_slices(VALIDATION),
        sizes={"train": 65_550, "validation": 22_628, "test": 22_735},
        counts=_counts(22_735),
        folders=("dmlab",),
    ),
    Task(
        name="kitti_dist",
        group="structured",
        label="the nearest vehicle's distance",
        num_classes=4,
        builder="kitti",
        jpeg=LOSSLESS,
        version="3.3.0",
        classic="3.1.0",
        drift="3.1.0 and 3.2.0 (that of NOAH and VPT) cannot be generated any more; 3.3.0 has the same "
        "images, keys and splits as 3.2.0, only the annotation of occlusion, not used here, is another",
        slices=_slices(VALIDATION),
        sizes={"train": 6_347, "validation": 423, "test": 711},
        counts=_counts(711),
        rule=labels.kitti_dist,
        folders=("kitti", "kitti_dist", "kitti_distance"),
        class_names=("under 8 m", "8 to 20 m", "over 20 m", "no vehicle"),
    ),
    _dsprites(
        "dsprites_loc",
        "the sprite's horizontal position",
        labels.dsprites_loc,
        "dsprites_location",
    ),
    _dsprites(
        "dsprites_ori",
        "the sprite's orientation",
        labels.dsprites_ori,
        "dsprites_orientation",
    ),
    _smallnorb(
        "smallnorb_azim",
        "the toy's azimuth",
        labels.smallnorb_azim,
        18,
        ("smallnorb_azi", "smallnorb_azimuth"),
    ),
    _smallnorb(
        "smallnorb_elev",
        "the camera's elevation",
        labels.smallnorb_elev,
        9,
        ("smallnorb_ele", "smallnorb_elevation"),
    ),
)

TASKS: tuple[Task, ...] = (*_NATURAL, *_SPECIALIZED, *_STRUCTURED)
