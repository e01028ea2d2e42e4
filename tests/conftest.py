"""Settings that hold for every test: one thread, and `gpu` tests skipped where there is no GPU."""

from __future__ import annotations

import os
import sys

import pytest

# Before anything imports torch or numpy: on busy cores two threads are slower than one.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def _one_thread():
    """One torch thread, also after a test that set another number; torch is not imported for it."""
    _limit_torch()
    yield
    _limit_torch()


def _limit_torch():
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Skips the tests marked `gpu` where torch sees no CUDA device."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
