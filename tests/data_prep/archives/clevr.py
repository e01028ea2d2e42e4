"""CLEVR: pictures and scene descriptions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .pictures import png
from .store import Store, zipped

SPLITS = {"train": "train", "validation": "val", "test": "test"}
# Number of objects and distance of the nearest: first those on the edges of VTAB's bins and the
# smallest and largest scenes, then one inside each bin.
EDGES = ((3, 8.0), (10, 8.5), (3, 9.0), (10, 9.5), (4, 10.0))
INSIDE = ((5, 7.25), (6, 8.25), (7, 8.75), (8, 9.25), (9, 9.75), (3, 10.5))
COLORS = ("gray", "blue", "brown", "yellow", "red", "green", "purple", "cyan")
MATERIALS = ("rubber", "metal")
SHAPES = ("cube", "sphere", "cylinder")


def clevr(
    store: Store, ids: dict[str, list[int]], rng: np.random.Generator
) -> dict[str, dict[int, Any]]:
    """A zip of images/<split>/CLEVR_<split>_<number>.png, scenes/ and questions/ as JSON.

    As in the original, the test split has no scenes and questions without answers: its truth
    has no distances. All distances are multiples of 1/64, exact as 32-bit floats.
    """
    truth: dict[str, dict[int, Any]] = {}
    files = []
    for split, numbers in ids.items():
        name = SPLITS[split]
        truth[split] = {i: {"distances": []} for i in numbers}
        scenes, questions = [], []
        for k, i in enumerate(numbers):
            filename = f"CLEVR_{name}_{k:06d}.png"
            files.append((f"images/{name}/{filename}", png(i, 320, 480)))
            question = {"image_filename": filename, "question": "How many things are there?"}
            if split != "test":
                distances = _distances(k, rng)
                truth[split][i] = {"distances": distances}
                objects = [_object(z, rng) for z in distances]
                scenes.append({"image_index": k, "image_filename": filename, "objects": objects})
                question["answer"] = str(len(objects))
            questions.append(question)
        files.append((f"questions/CLEVR_{name}_questions.json", _json(questions=questions)))
        if split != "test":
            files.append((f"scenes/CLEVR_{name}_scenes.json", _json(scenes=scenes)))
    store.put("CLEVR_v1.0.zip", zipped((f"CLEVR_v1.0/{path}", data) for path, data in files))
    return truth


def _distances(place: int, rng: np.random.Generator) -> list[float]:
    """Distances of the objects of the scene at a place of a split, the nearest anywhere."""
    cases = (*EDGES, *INSIDE)
    random = int(rng.integers(3, 11)), float(rng.integers(7 * 64, 11 * 64) / 64)
    count, nearest = cases[place] if place < len(cases) else random
    farther = nearest + rng.integers(1, 3 * 64, size=count - 1) / 64
    return rng.permutation([nearest, *farther]).tolist()


def _object(z: float, rng: np.random.Generator) -> dict[str, Any]:
    """The description of an object at a distance."""
    x, y = (int(value) for value in rng.integers(40, 280, size=2))
    return {
        "color": str(rng.choice(COLORS)),
        "material": str(rng.choice(MATERIALS)),
        "shape": str(rng.choice(SHAPES)),
        "size": "small" if x % 2 else "large",
        "rotation": float(x),
        "3d_coords": [x / 100, y / 100, 0.35],
        "pixel_coords": [x, y, z],
    }


def _json(**content: Any) -> bytes:
    """A JSON file with the header that the original files have."""
    return json.dumps({"info": {"version": "1.0"}} | content).encode()
