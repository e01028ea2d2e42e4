"""What holds for every test: one thread, a checkout left alone, `gpu` tests skipped where there is none."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.guard import sitecustomize as guard

# Before anything imports torch or numpy: on busy cores two threads are slower than one.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A worker of pytest-xdist is started by a process that did this before, and is watched already.
if guard.LOG not in os.environ:
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [guard.FOLDER, os.environ.get("PYTHONPATH")])
    )
    os.environ[guard.LOG] = ""
    guard.watch()
_refused = tempfile.TemporaryDirectory(prefix="resora-tests-")
os.environ[guard.LOG] = str(Path(_refused.name, "refused"))


@pytest.fixture(autouse=True)
def refused():
    """Fails a test that touched a person's results, data or checkpoints, by itself or by a command."""
    log = Path(os.environ[guard.LOG])
    yield log
    if log.exists():
        touched = log.read_text(encoding="utf-8")
        log.unlink()
        pytest.fail(f"this test, or a fixture that it uses, touched the checkout:\n{touched}")


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


LONGEST = (
    *("test_execute", "test_tfds", "test_local", "test_backbone", "test_compiling", "test_check"),
    *(
        "test_trainer_mixin",
        "test_audit",
        "test_peft_training",
        "test_kills",
        "test_method_figures",
    ),
)
"""Files of tests that take longest. They begin, so that no worker is left with one at the end."""


def pytest_collection_modifyitems(items):
    """Sorts the longest first; skips the tests marked `gpu` where torch sees no CUDA device."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
