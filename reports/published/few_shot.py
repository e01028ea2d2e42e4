"""What the paper says of its few-shot experiments, as data: data sets, methods, shots, the gain it states."""

from __future__ import annotations

import tomllib
from decimal import Decimal

from reports.published import FOLDER

_RAW = tomllib.loads((FOLDER / "few_shot.toml").read_text(encoding="utf-8"), parse_float=Decimal)

PLACE: str = _RAW["place"]
DATASETS: dict[str, str] = _RAW["datasets"]
"""Name and printed label of the five sets, in the order of the figure's caption."""
METHODS: tuple[str, ...] = tuple(_RAW["methods"])
SHOTS: tuple[int, ...] = tuple(_RAW["shots"])
GAIN: tuple[Decimal, ...] = tuple(_RAW["gain_points"])
"""Lower and upper end of the average gain, in points."""
