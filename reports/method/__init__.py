"""The numbers and figures of ``resora/METHOD.md``: ``python -m reports method``.

The page quotes numbers by their name in ``method.json``, which is written beside the figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from reports.build import write


def build(out: Path) -> Iterator[Path]:
    """Measure everything; write the numbers and the figures into a folder."""
    # Torch and matplotlib take longer to import than the other commands to run.
    from reports.method import figures, measure

    measured = measure.measure()
    numbers = {name: float(f"{value:.6g}") for name, value in sorted(measured.numbers.items())}
    yield write(out / "method.json", (json.dumps(numbers, indent=1) + "\n").encode())
    for name, content in figures.draw(measured):
        yield write(out / f"{name}.png", content)
