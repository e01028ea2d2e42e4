"""The draws of k images a class that are made here, from a seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_prep.fewshot.sets import DRAW_SEEDS, SHOTS
from data_prep.streams import Labels, stream


def draws(labels: Labels, key: tuple[object, ...]) -> dict[str, Labels]:
    """Draw k images a class for every number of shots and every seed, each draw for itself.

    Args:
        labels: Labels of the training images.
        key: What the draw depends on besides shots and seed.

    Returns:
        ``{k}shot_seed{s}`` -> indices into the training images, class by class.

    Raises:
        ValueError: A class has fewer images than the most shots.
    """
    members = [np.flatnonzero(labels == k) for k in range(int(labels.max()) + 1)]
    if min(map(len, members)) < SHOTS[-1]:
        short = min(range(len(members)), key=lambda k: len(members[k]))
        raise ValueError(f"class {short} has {len(members[short])} images, {SHOTS[-1]} are drawn")
    found = {}
    for shots in SHOTS:
        for seed in DRAW_SEEDS:
            rng = stream("fewshot", "draw", *key, shots, seed)
            chosen = [np.sort(rng.choice(of, shots, replace=False)) for of in members]
            found[f"{shots}shot_seed{seed}"] = np.concatenate(chosen).astype(np.int64)
    return found


def split_anew(
    labels: Labels, key: tuple[object, ...], shares: tuple[float, float]
) -> dict[str, Labels]:
    """Split all images of a data set, class by class.

    Args:
        labels: Labels of all images.
        key: What the split depends on.
        shares: Of each class's images, those for ``train`` and ``val``; ``test`` gets the rest.

    Returns:
        Split -> indices, ascending.
    """
    found: dict[str, list[Labels]] = {"train": [], "val": [], "test": []}
    for label in range(int(labels.max()) + 1):
        of = stream("fewshot", "split", *key, label).permutation(np.flatnonzero(labels == label))
        train, val = (round(share * len(of)) for share in shares)
        for name, part in zip(found, np.split(of, (train, train + val)), strict=True):
            found[name].append(part)
    return {name: np.sort(np.concatenate(parts)) for name, parts in found.items()}


def held_out(labels: Labels, key: tuple[object, ...], share: float) -> npt.NDArray[np.bool_]:
    """Choose a share of each class's training images, at least one, to choose an epoch on; (n,)."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(int(labels.max()) + 1):
        of = np.flatnonzero(labels == label)
        rng = stream("fewshot", "held out", *key, label)
        chosen[rng.choice(of, max(1, round(share * len(of))), replace=False)] = True
    return chosen
