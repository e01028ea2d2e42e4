"""Fake original archives of the data sets of VTAB-1K, small, for TFDS' own builders to prepare.

Every picture carries a number, its identity, by which a test finds the example again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import (
    class_folders,
    clevr,
    diabetic,
    dmlab,
    draw,
    hdf5,
    kitti,
    matrices,
    split_lists,
    sun397,
)
from .pictures import identities, picture
from .store import Store

__all__ = ["BUILDERS", "identities", "make", "picture"]

_TWO = ("train", "test")
_THREE = ("train", "validation", "test")
# Of each builder: what writes its archives, and its splits.
_WRITERS = {
    "cifar100": (matrices.cifar100, _TWO),
    "caltech101": (class_folders.caltech101, _TWO),
    "dtd": (split_lists.dtd, _THREE),
    "oxford_flowers102": (split_lists.flowers, _THREE),
    "oxford_iiit_pet": (split_lists.pets, _TWO),
    "svhn_cropped": (matrices.svhn, (*_TWO, "extra")),
    "sun397/tfds": (sun397.sun397, _THREE),
    "patch_camelyon": (hdf5.patch_camelyon, _THREE),
    "eurosat/rgb": (class_folders.eurosat, ("train",)),
    "resisc45": (class_folders.resisc45, ("train",)),
    "diabetic_retinopathy_detection/btgraham-300": (diabetic.diabetic, ("sample", *_THREE)),
    "clevr": (clevr.clevr, _THREE),
    "dmlab": (dmlab.dmlab, _THREE),
    "kitti": (kitti.kitti, _THREE),
    "dsprites": (hdf5.dsprites, ("train",)),
    "smallnorb": (matrices.smallnorb, _TWO),
}
BUILDERS = tuple(_WRITERS)


def make(
    builder: str, root: Path, counts: dict[str, int], seed: int = 0
) -> dict[str, dict[int, Any]]:
    """Writes the original archives of a builder below root/downloads.

    Args:
      builder: one of BUILDERS.
      root: the folder that will be TFDS' data_dir; download_dir is root/downloads, and
        manual_dir is root/downloads/manual. Not one where TFDS has already unpacked archives of this
        builder: it would go on with those.
      counts: examples of each TFDS split. A split that is not named gets one, since TFDS
        refuses empty ones; caltech101 rounds its train split up to a multiple of 30.
      seed: of the identities, labels and annotations.

    Returns:
      Split (for caltech101 "all") -> identity -> annotation: the label in TFDS' numbering, or
      distances (clevr), objects (kitti), or two labels (dsprites, smallnorb).
    """
    write, splits = _WRITERS[builder]
    if unknown := set(counts) - set(splits) or [s for s, n in counts.items() if n < 1]:
        raise ValueError(f"{builder} has no split of this name or size: {sorted(unknown)}")
    counts = {split: counts.get(split, 1) for split in splits}
    if builder == "caltech101":
        counts = class_folders.caltech_counts(counts)
    rng = np.random.default_rng([seed, BUILDERS.index(builder)])
    return write(Store(builder, Path(root)), draw.identities_of(counts, rng), rng)
