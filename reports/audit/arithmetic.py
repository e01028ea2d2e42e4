"""Arithmetic as people write it, evaluated exactly: ``12 x 3 x 2 x 768 x 8`` is 442,368.

Numbers may have thousands separators; ``x`` multiplies, ``^`` is a power. Values are fractions, so that a
mean over datasets is exact.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

LARGEST_POWER = 8
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
TIMES = re.compile(r"(?<=[\d)])\s*x\s*(?=[\d(])")

OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(formula: str) -> Fraction:
    """Return the value of an expression of whole numbers, ``+ - x / ^`` and brackets.

    Raises:
        ValueError: It is something else.
    """
    plain = TIMES.sub(" * ", THOUSANDS.sub("", formula)).replace("^", "**")
    try:
        tree = ast.parse(plain, mode="eval")
        return _value(tree.body)
    except (SyntaxError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"cannot evaluate {formula!r}: {error}") from error


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            if right.denominator != 1 or not 0 <= right <= LARGEST_POWER:
                raise ValueError(
                    f"the power {right} is not a whole number from 0 to {LARGEST_POWER}"
                )
            return Fraction(left ** int(right))
        if type(node.op) in OPERATIONS:
            return OPERATIONS[type(node.op)](left, right)
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic")
