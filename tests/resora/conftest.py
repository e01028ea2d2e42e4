"""Fixtures of the library's tests."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters


@pytest.fixture
def fresh_compiler():
    """Nothing compiled before, and nothing left over after."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
