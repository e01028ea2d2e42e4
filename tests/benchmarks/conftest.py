"""A small world for the harness: two packed tasks, and settings that train on them in a second."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.harness.execute import Settings

_spec = importlib.util.spec_from_file_location("packed", Path(__file__).with_name("packed.py"))
_packed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_packed)


@pytest.fixture(scope="session")
def packed_data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    _packed.pack_task(root, "eurosat", 10, n=40)
    _packed.pack_task(root, "dmlab", 6)
    _packed.pack_set(root, "cars", 24)
    _packed.pack_set(root, "pets", 16, doubled=True)
    _packed.pack_pairs(root)
    _packed.pack_clips(root)
    return root


@pytest.fixture(scope="session")
def blind_pairs(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("blind")
    _packed.pack_pairs(root, is_blind=True)
    return root


@pytest.fixture
def settings(tmp_path, packed_data) -> Settings:
    return Settings(
        scale="smoke",
        results=tmp_path / "results",
        work=tmp_path / "work",
        data=packed_data,
        device="cpu",
        overrides={"backbone.weights": "random"},
    )


@pytest.fixture
def paths(settings) -> list[str]:
    """The options that give a command the same folders."""
    return [
        f"--results={settings.results}",
        f"--work={settings.work}",
        f"--data={settings.data}",
        "--set=backbone.weights=random",
        "--device=cpu",
        "--jobs=1",
    ]
