"""The peak of a process's memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.harness.memory import STATUS

MIB = 2**20
PRINT = "from benchmarks.harness.memory import peak_of_this_process as peak; print(peak())"


def test_it_grows_by_what_is_written_to():
    grow = f"before = peak(); ballast = b'x' * ({256 * MIB} + before); print(peak() - before)"
    # In a process of its own: this one's peak may be gigabytes, and the ballast is larger than the peak.
    program = f"{PRINT}; {grow}; del ballast; print(peak() - before)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    _, grown, kept = map(int, done.stdout.split())
    assert grown >= 256 * MIB
    assert kept >= 256 * MIB  # a peak stays


@pytest.mark.skipif(not STATUS.exists(), reason="ru_maxrss is all there is")
def test_that_of_a_child_is_its_own():
    ballast = b"x" * (256 * MIB)
    done = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, check=True)
    assert MIB < int(done.stdout) < 128 * MIB
    del ballast
