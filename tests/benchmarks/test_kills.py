"""A few kills, and a few runs at once; ``kills.py --kills 50 --runs 8`` does it at length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kills.py")


@pytest.mark.slow
def test_killed_runs_lose_nothing_and_runs_at_once_train_each_cell_once():
    command = [sys.executable, str(PROGRAM), "--kills=3", "--runs=3", "--epochs=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("'wrong': []") == 2
