"""How VTAB-1K derives labels from what a data set annotates.

Rules: google-research/task_adaptation, `task_adaptation/data/`. An example is what TFDS' data source
gives: a dictionary of numbers and arrays, and for a sequence of things a dictionary of lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Example = Mapping[str, Any]

FEWEST_OBJECTS = 3
CLEVR_DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
KITTI_DISTANCES = (-100.0, 8.0, 20.0, 999.0)
KITTI_VEHICLES = 3  # TFDS numbers Car, Van and Truck 0, 1 and 2
NO_VEHICLE = 1000.0
POSITIONS, ORIENTATIONS, BINS = 32, 40, 16


def last_threshold_below(value: float, thresholds: Sequence[float]) -> int:
    """Return the largest k with ``thresholds[k] < value``: a value on an edge is in the lower class."""
    below = [k for k, threshold in enumerate(thresholds) if threshold < value]
    if not below:
        raise ValueError(f"the distance {value:g} is not above {thresholds[0]:g}")
    return below[-1]


def given(example: Example) -> int:
    """Return the label that the data set gives."""
    return int(example["label"])


def clevr_count(example: Example) -> int:
    """Return the number of objects, 3 to 10, less three."""
    return len(_depths(example["objects"], "pixel_coords")) - FEWEST_OBJECTS


def clevr_dist(example: Example) -> int:
    """Return the class of the nearest object's distance."""
    return last_threshold_below(
        min(_depths(example["objects"], "pixel_coords")), CLEVR_DISTANCES[:-1]
    )


def kitti_dist(example: Example) -> int:
    """Return the class of the nearest car's, van's or truck's distance; 3 where there is none."""
    objects = example["objects"]
    depths = zip(objects["type"], _depths(objects, "location"), strict=True)
    vehicles = [depth for kind, depth in depths if int(kind) < KITTI_VEHICLES]
    return last_threshold_below(min([*vehicles, NO_VEHICLE]), KITTI_DISTANCES)


def dsprites_loc(example: Example) -> int:
    """Return the horizontal position, 32 values in 16 classes of two."""
    return int(example["label_x_position"]) * BINS // POSITIONS


def dsprites_ori(example: Example) -> int:
    """Return the orientation, 40 values in 16 classes of three and of two by turns."""
    return int(example["label_orientation"]) * BINS // ORIENTATIONS


def smallnorb_azim(example: Example) -> int:
    """Return the azimuth, 18 steps of 20 degrees."""
    return int(example["label_azimuth"])


def smallnorb_elev(example: Example) -> int:
    """Return the elevation, 9 steps of 5 degrees."""
    return int(example["label_elevation"])


def _depths(objects: Any, key: str) -> list[float]:
    """Return the third coordinate of each object."""
    return [float(np.asarray(place)[2]) for place in objects[key]]
