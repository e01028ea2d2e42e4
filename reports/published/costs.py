"""What the paper printed of costs: a table whose columns are not tasks, every cell as it was typed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from reports.published import FOLDER


@dataclass(frozen=True, kw_only=True)
class PublishedCosts:
    """One printed table.

    Attributes:
        columns: Name of each column, with its printed heading.
        labels: Printed name of each method, in printed order.
        cells: Printed text by method and column.
    """

    columns: dict[str, str]
    labels: dict[str, str]
    cells: dict[str, dict[str, str]]


@cache
def load_costs(name: str) -> PublishedCosts:
    """Read ``published/<name>.toml``."""
    path = FOLDER / f"{name}.toml"
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    columns = raw["columns"]
    return PublishedCosts(
        columns=columns,
        labels={row["method"]: row["label"] for row in raw["rows"]},
        cells={row["method"]: dict(zip(columns, row["cells"], strict=True)) for row in raw["rows"]},
    )
