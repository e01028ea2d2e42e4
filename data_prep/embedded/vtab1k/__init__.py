"""The 19 tasks of VTAB-1K in miniature: same names, groups, kinds of label; 32 x 32, generated."""

from __future__ import annotations

from data_prep.embedded.vtab1k import (
    aerial,
    living,
    medical,
    objects,
    places,
    road,
    solids,
    sprites,
    table,
    textures,
)
from data_prep.embedded.vtab1k.task import GENERATOR_VERSION, SPLITS, Task, generate

__all__ = ["GENERATOR_VERSION", "SPLITS", "TASKS", "Task", "generate"]


def _steps(first: float, last: float, bins: int, unit: str) -> tuple[str, ...]:
    """Name equal bins by their centres."""
    width = (last - first) / bins
    return tuple(f"{first + (k + 0.5) * width:.4g} {unit}".strip() for k in range(bins))


_NEAR = tuple(f"{a:.2f} to {b:.2f}" for a, b in zip(table.EDGES[:-1], table.EDGES[1:], strict=True))

TASKS: tuple[Task, ...] = (
    Task("cifar100", "natural", "what the object is", objects.CIFAR_NAMES, objects.cifar100),
    Task("caltech101", "natural", "what the object is", objects.CALTECH_NAMES, objects.caltech101),
    Task("dtd", "natural", "the word for the texture", textures.DTD_NAMES, textures.dtd),
    Task("flowers102", "natural", "the flower's species", living.FLOWER_NAMES, living.flowers102),
    Task("pets", "natural", "the pet's breed", living.PET_NAMES, living.pets),
    Task("svhn", "natural", "the digit in the middle", tuple("0123456789"), objects.svhn),
    Task("sun397", "natural", "the kind of scene", places.SUN_NAMES, places.sun397),
    Task(
        "patch_camelyon",
        "specialized",
        "tumour cells in the central region or not",
        ("no tumour", "tumour"),
        medical.patch_camelyon,
    ),
    Task("eurosat", "specialized", "the land cover", aerial.EUROSAT_NAMES, aerial.eurosat),
    Task(
        "resisc45",
        "specialized",
        "the structure and its ground",
        aerial.RESISC_NAMES,
        aerial.resisc45,
    ),
    Task(
        "retinopathy",
        "specialized",
        "the grade of the disease",
        medical.GRADES,
        medical.retinopathy,
        medical.GRADE_WEIGHTS,
    ),
    Task(
        "clevr_count",
        "structured",
        "the number of objects",
        tuple(str(k) for k in range(table.FEWEST, table.MOST + 1)),
        table.clevr_count,
    ),
    Task("clevr_dist", "structured", "the nearest object's distance", _NEAR, table.clevr_dist),
    Task(
        "dmlab",
        "structured",
        "the object's distance, and whether it is a good or a bad one",
        tuple(
            f"{kind}, {where}" for where in ("near", "far", "very far") for kind in ("good", "bad")
        ),
        road.dmlab,
    ),
    Task(
        "kitti_dist",
        "structured",
        "the nearest vehicle's distance",
        ("under 8 m", "8 to 20 m", "over 20 m", "no vehicle"),
        road.kitti_dist,
    ),
    Task(
        "dsprites_loc",
        "structured",
        "the sprite's horizontal position",
        _steps(-sprites.REACH, sprites.REACH, sprites.BINS, ""),
        sprites.dsprites_loc,
    ),
    Task(
        "dsprites_ori",
        "structured",
        "the sprite's orientation, clockwise from upright",
        _steps(0, 360, sprites.BINS, "degrees"),
        sprites.dsprites_ori,
    ),
    Task(
        "smallnorb_azim",
        "structured",
        "the toy's azimuth",
        tuple(f"{20 * k} degrees" for k in range(solids.AZIMUTHS)),
        solids.smallnorb_azim,
    ),
    Task(
        "smallnorb_elev",
        "structured",
        "the camera's elevation",
        tuple(f"{30 + 5 * k} degrees" for k in range(solids.ELEVATIONS)),
        solids.smallnorb_elev,
    ),
)
