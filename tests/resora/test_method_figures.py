"""The numbers and figures of `resora/METHOD.md`: made anew by the command, and quoted as measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import resora

LIBRARY = Path(resora.__file__).parent
FIGURES = LIBRARY / "figures"
PAGE = (LIBRARY / "METHOD.md").read_text(encoding="utf-8")
QUOTED = re.compile(r"(-?[\d.]+)<!-- ([\w.]+) -->")
DRAWN = ("cosine", "euclidean", "floors", "gauge", "moves")
LARGEST_BYTES = 150_000


@pytest.fixture(scope="module")
def committed() -> dict[str, float]:
    return json.loads((FIGURES / "method.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("method")
    command = [sys.executable, "-m", "resora.figures", "--out", str(out)]
    subprocess.run(command, cwd=LIBRARY.parent, check=True)
    return out


@pytest.mark.slow
def test_the_command_gives_the_committed_numbers(made, committed):
    anew = json.loads((made / "method.json").read_text(encoding="utf-8"))
    assert anew.keys() == committed.keys()
    # Another processor rounds otherwise, and hundreds of steps of training carry it along.
    assert anew == pytest.approx(committed, rel=0.02, abs=1e-4)


@pytest.mark.slow
def test_the_command_draws_every_figure(made):
    assert {path.stem for path in made.glob("*.png")} == set(DRAWN)
    for name in DRAWN:
        assert (made / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_committed_figures_are_small_and_shown():
    assert {path.stem for path in FIGURES.glob("*.png")} == set(DRAWN)
    for name in DRAWN:
        assert (FIGURES / f"{name}.png").stat().st_size < LARGEST_BYTES
        assert f"](figures/{name}.png)" in PAGE


def test_the_page_quotes_every_number_as_measured(committed):
    quoted = [(text, name) for text, name in QUOTED.findall(PAGE)]
    tabled = {name for name in committed if name.startswith("floor.")}
    assert {name for _, name in quoted} == committed.keys() - tabled
    for text, name in quoted:
        digits = len(text.partition(".")[2])
        assert text == f"{committed[name]:.{digits}f}", name


def test_the_page_has_the_table_of_floors_as_measured(committed):
    from resora.figures.measure import table

    assert table(committed) in PAGE


def test_floors_in_the_table_are_met_by_independent_subspaces(committed):
    import torch

    from resora.penalties import linear, nonlinear

    z = torch.randn(60, 32, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    b = torch.ones(60, 4, 1, dtype=torch.float64)
    assert float(linear(z, b).mean()) / 6 == pytest.approx(committed["floor.linear.32"], rel=0.1)
    for fraction in ("0.2", "0.5", "1"):
        value = float(nonlinear(z, b, fraction=float(fraction)).mean()) / 6
        assert value == pytest.approx(committed[f"floor.nonlinear.32.{fraction}"], rel=0.1)


def test_holding_sigma_constant_changed_no_value():
    from resora.figures.measure import Measured, held_width

    found = Measured()
    held_width(found)
    for name in ("few", "many"):
        values = found.curves[f"held {name}"]
        assert max(values) - min(values) < 1e-10 * values[0]
        assert abs(found.numbers[f"held.{name}"] - 1) > 0.5
