"""No test reaches what a person's own runs left in the checkout: each way of trying is refused and told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CLOSED = ("results/smoke", "work", "data", "reports/tables/smoke")


def told(refused: Path) -> list[str]:
    """What was refused until now; the fixture then finds nothing."""
    lines = refused.read_text().splitlines() if refused.exists() else []
    refused.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("folder", CLOSED)
def test_reading_and_writing_are_refused(refused, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    inside = Path(folder, "nothing.json")
    for attempt in (
        inside.read_text,
        lambda: inside.write_text(""),
        lambda: inside.mkdir(parents=True),
        lambda: list(inside.parent.iterdir()),
        lambda: (ROOT / inside).unlink(),
        lambda: (tmp_path / "new").rename(inside),
        lambda: shutil.rmtree(inside.parent),
    ):
        with pytest.raises(PermissionError, match="tests do not touch this folder"):
            attempt()
        (line,) = told(refused)
        assert str(ROOT / folder) in line


def test_committed_records_are_read_and_not_written(refused):
    assert list((ROOT / "results" / "micro").iterdir())
    assert (ROOT / "reports" / "cli.py").read_text()
    assert not told(refused)
    for path in (ROOT / "results" / "micro" / "new.json", ROOT / "reports" / "new.md"):
        with pytest.raises(PermissionError, match="writes"):
            path.write_text("")
    assert len(told(refused)) == 2


@pytest.mark.parametrize("environment", [None, {}, {"PYTHONPATH": str(ROOT)}])
def test_commands_are_refused_too(refused, environment):
    """Also when they swallow the error, and when a test gives them an environment of their own."""
    program = "try: open('results/smoke/nothing.json')\nexcept OSError: pass"
    again = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])"
    own = environment if environment is None else environment | {"PATH": os.environ["PATH"]}
    for source in (program, again):
        subprocess.run([sys.executable, "-c", source], cwd=ROOT, env=own, check=True)
        (line,) = told(refused)
        assert line.startswith(f"open {ROOT}/results/smoke/nothing.json (reads")


def test_folders_of_these_names_elsewhere_are_free(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for folder in CLOSED:
        (tmp_path / folder / "data").mkdir(parents=True)
        (tmp_path / folder / "data" / "file").write_text("")
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert not told(refused)


def test_a_test_that_swallows_the_error_fails(tmp_path):
    """The fixture, on a test of its own."""
    planted = tmp_path / "test_planted.py"
    planted.write_text(
        "def test_a(): pass\n"
        "def test_b():\n"
        f"    try: open({str(ROOT / 'work' / 'nothing')!r}, 'w')\n"
        "    except OSError: pass\n"
    )
    options = ["-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "tests.conftest", str(planted)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "2 passed, 1 error" in done.stdout
    # Where CI is set, pytest's summary shows the whole message below this line.
    assert [
        line for line in done.stdout.splitlines() if line.startswith("ERROR") and "::test_b" in line
    ]
    assert f"open {ROOT / 'work' / 'nothing'} (writes" in done.stdout
