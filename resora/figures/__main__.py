"""``python -m resora.figures [--out DIR]``: measure and draw what METHOD.md shows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from resora.figures import draw, measure


def main() -> None:
    """Measure everything; write the numbers and the figures into a folder."""
    parser = argparse.ArgumentParser(prog="python -m resora.figures", description=main.__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write into"
    )
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    measured = measure.measure()
    numbers = {name: float(f"{value:.6g}") for name, value in sorted(measured.numbers.items())}
    contents = {"method.json": (json.dumps(numbers, indent=1) + "\n").encode()}
    contents |= {f"{name}.png": content for name, content in draw.draw(measured)}
    for name, content in contents.items():
        (out / name).write_bytes(content)
        print(out / name)


if __name__ == "__main__":
    main()
