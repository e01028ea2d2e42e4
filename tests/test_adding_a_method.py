"""A method is one file: dropped into the library, it is listed, runs, and has its row."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.packed import pack_task

ROOT = Path(__file__).resolve().parent.parent

TOY = '''"""A toy method: a gain for each channel of each MLP's output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from resora.backbones import Backbone
from resora.petl.base import Method


class Gain(nn.Module):
    """A module with a gain for each channel of its output."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, d) to (B, T, d)."""
        return self.gain * self.inner(x)


@dataclass(frozen=True)
class Toy(Method):
    """Train the gains."""

    fits = ("vit",)

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Put a gain on each MLP."""
        for block in backbone.blocks:
            mlp = model.get_submodule(block.mlp)
            model.set_submodule(block.mlp, Gain(mlp, block.width))


METHOD = Toy
'''


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the file in it; all but the library are links."""
    shutil.copytree(
        ROOT / "resora", tmp_path / "resora", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "resora" / "petl" / "toy.py").write_text(TOY)
    for name in ("benchmarks", "reports", "data_prep"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def python(checkout, *arguments):
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_one_file_of_forty_lines_is_a_method(checkout):
    assert len(TOY.splitlines()) <= 40
    pack_task(checkout / "data", "eurosat", 10)
    listed = python(checkout, "benchmarks", "ls", "vtab1k")
    assert " toy" in listed.stdout
    ran = python(checkout, "benchmarks", "run", "vtab1k/vit_micro/eurosat/toy/0", "--jobs=1")
    assert ran.returncode == 0, ran.stderr
    table = python(checkout, "reports", "show", "table2").stdout
    # Parameters: 160 gains in each of 6 blocks. Other tasks are holes, so that there is no mean.
    row = next(line for line in table.splitlines() if line.startswith("toy "))
    assert row.split()[1] == "0.0010"
    assert python(
        checkout, "benchmarks", "run", "vtab1k/vit_micro/eurosat/toy/0"
    ).stdout.startswith("1 cells chosen at scale smoke, 1 done before")
