"""Generated images are the same bytes whatever BLAS does with a product on this CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GENERATE = """
import hashlib
from data_prep.embedded.vtab1k import TASKS, generate
for task in TASKS:
    if task.name in ("svhn", "patch_camelyon"):
        print(task.name, hashlib.sha256(generate(task, "val200", n=60)[0].tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_the_kernels_of_blas_do_not_matter():
    def generated(**environment):
        command = [sys.executable, "-c", GENERATE]
        found = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return found.stdout

    usual = generated()
    for kernels in ("Prescott", "Haswell"):
        assert generated(OPENBLAS_CORETYPE=kernels) == usual, kernels
