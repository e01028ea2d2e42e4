"""Refuses a test the results, data and checkpoints that a person's own runs left in the checkout.

Python imports a module of this name at every start, where its folder is on PYTHONPATH: tests/conftest.py
puts it there, so that the commands a test starts are watched as well. A refusal is also written to a
file, since a command may swallow the error; a fixture then fails the test. Files that C++ or Rust opens
by itself are not seen, but this project's writers make a folder or rename a file first, and its readers
open a manifest.
"""

from __future__ import annotations

import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH120,PTH100 - runs at every start
LOG = "RESORA_TESTS_REFUSED"
"""Names the file of refusals in the environment."""

_HERE = os.path.dirname(os.path.dirname(FOLDER))  # noqa: PTH120
_ROOTS = {_HERE, os.path.realpath(_HERE)}
CLOSED = tuple(
    os.path.join(root, name)  # noqa: PTH118
    for root in _ROOTS
    for name in ("results/smoke", "work", "data", "reports/tables/smoke")
)
"""Neither read nor written."""
COMMITTED = tuple(os.path.join(root, name) for root in _ROOTS for name in ("results", "reports"))  # noqa: PTH118
"""Read, not written, but for bytecode."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events of calls that take paths, by how many paths; "open" is apart.
READS = {"os.listdir": 1, "os.scandir": 1, "os.chdir": 1}
WRITES = {
    **dict.fromkeys(("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"), 1),
    **dict.fromkeys(("os.rename", "os.link"), 2),
}


def watch() -> None:
    """Refuse from now on, in this process and those that it starts."""
    sys.addaudithook(_check)


def _check(event: str, arguments: tuple) -> None:
    if event == "open":
        path, mode, flags = arguments
        # shutil.rmtree opens names relative to a folder's descriptor, which the event leaves out.
        if mode is not None or (isinstance(path, str) and path.startswith("/")):
            _refuse_closed(event, path, bool(flags & WRITING))
    elif event in READS:
        _refuse_closed(event, arguments[0], False)
    elif event in WRITES:
        relative_to_descriptor = event in ("os.remove", "os.rmdir") and arguments[-1] != -1
        for path in () if relative_to_descriptor else arguments[: WRITES[event]]:
            _refuse_closed(event, path, True)
    elif event == "os.symlink":
        _refuse_closed(event, arguments[1], True)  # what it points to is not touched
    elif event == "subprocess.Popen" and arguments[3] is not None:
        # A test that gives a command its own environment need not know of this.
        environment = arguments[3]
        environment.setdefault(LOG, os.environ[LOG])
        if FOLDER not in environment.get("PYTHONPATH", "").split(os.pathsep):
            own = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
            environment["PYTHONPATH"] = os.pathsep.join([FOLDER, *own])


def _refuse_closed(event: str, path: object, writes: bool) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    try:
        where = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
    except OSError:  # the working directory is gone
        return
    is_closed = _is_in(where, CLOSED)
    if not is_closed and (not writes or "__pycache__" in where or not _is_in(where, COMMITTED)):
        return
    command = " ".join(getattr(sys, "argv", [])[:3])
    text = f"{event} {where} ({'writes' if writes else 'reads'}; {command})"
    with open(os.environ[LOG], "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text + "\n")
    raise PermissionError(f"tests do not touch this folder of the checkout: {text}")


def _is_in(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


if LOG in os.environ:
    watch()
