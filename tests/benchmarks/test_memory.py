"""The peak of a process's memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.harness.memory import STATUS, peak_of_this_process

MIB = 2**20
PRINT = "from benchmarks.harness.memory import peak_of_this_process as peak; print(peak())"


def test_it_grows_by_what_is_written_to():
    before = peak_of_this_process()
    ballast = b"x" * (256 * MIB + before)
    assert peak_of_this_process() >= before + 256 * MIB
    del ballast
    assert peak_of_this_process() >= before + 256 * MIB  # a peak stays


@pytest.mark.skipif(not STATUS.exists(), reason="ru_maxrss is all there is")
def test_that_of_a_child_is_its_own():
    ballast = b"x" * (256 * MIB)
    done = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, check=True)
    assert MIB < int(done.stdout) < 128 * MIB
    del ballast
