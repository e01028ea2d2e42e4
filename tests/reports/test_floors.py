"""Floors of modules that stand on each other in reports/: the longest chain of imports within the package.

What counts is an import at the level of a module. One in a function, which only what calls it waits for, and
one for type checkers are no floor.
"""

from __future__ import annotations

import ast
from functools import cache

from tests.test_house import ROOT, python_files

PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in python_files("reports")
}


@cache
def chain(module: str) -> tuple[str, ...]:
    named = [
        (node.module, name.name)
        for node in ast.parse(PATHS[module].read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    ]
    inner = [f"{of}.{name}" if f"{of}.{name}" in PATHS else of for of, name in named]
    below = [chain(name) for name in inner if name in PATHS and name != module]
    return (module, *max(below, key=len, default=()))


def test_no_more_than_seven_floors():
    longest = max(map(chain, PATHS), key=len)
    assert len(longest) <= 7, " -> ".join(longest)
    assert len(longest) > 3  # it sees the imports
