"""Progress: lines in a log, no more than one every so many seconds; a live bar in a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, time
from data_prep.progress import Bar
count = int(sys.argv[1])
with Bar(total=count, unit="cell", desc="work") as bar:
    for number in range(count):
        bar.set_postfix_str(f"cell {number}")
        bar.set_description("work")
        bar.update()
        if number == 5:
            Bar.write("a note")
        time.sleep(0.004)
for _ in Bar(range(3), leave=False):
    pass
"""


def run(seconds: str | None, count: int = 300, **streams) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("PROGRESS_SECONDS", None)
    if seconds:
        environment["PROGRESS_SECONDS"] = seconds
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(count)],
        env=environment,
        text=True,
        timeout=60,
        **streams,
    )


@pytest.mark.parametrize(("seconds", "least"), [(None, 0), ("0.3", 2), ("0", 300)])
def test_a_log_has_a_line_every_so_often(seconds, least):
    start = time.monotonic()
    done = run(seconds, capture_output=True)
    most = (time.monotonic() - start) / float(seconds or 10) if seconds != "0" else 2000
    assert done.returncode == 0
    assert done.stdout == "a note\n"
    assert "\r" not in done.stderr
    lines = done.stderr.splitlines()
    assert least <= len(lines) <= most
    assert all("/300 [" in line or "/3 [" in line for line in lines)


def test_a_terminal_has_a_bar():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = run(None, 9, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    seen = os.read(ours, 1 << 20).decode()
    assert done.returncode == 0
    assert seen.count("\rwork:") > 9


def test_a_senseless_pace_is_an_error():
    done = run("soon", capture_output=True)
    assert done.returncode == 1
    assert done.stderr == "error: PROGRESS_SECONDS='soon' is not a number of seconds\n"
