"""What a setting may be: type, range and unit, declared once for whoever gives one.

The values that benchmarks declare pass, and a test sees to it. What a command line, a sweep or a program
gives in their place is checked when ``Settings`` is made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.harness.errors import UsageError, shortened, unknown

FLOAT32 = 3.4e38
MOST = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The values that a setting may have.

    Attributes:
        type: ``int``, ``float`` (which a whole number is, too), ``bool``, ``str``, ``list`` or ``dict``.
        unit: Of a number, for people.
        lowest: The least number.
        highest: The largest number.
        may_be_null: Whether ``null`` is a value: none, or no limit.
        choices: The texts that there are; empty: any but an empty one.
        of: The kind of what is in a list or dictionary.
        length: How many are in a list; None: one or more.
        keeps_whole: Whether a whole number stays one where fractions are allowed.
    """

    type: Any
    unit: str = ""
    lowest: float = -math.inf
    highest: float = math.inf
    may_be_null: bool = False
    choices: tuple[str, ...] = ()
    of: Kind | None = None
    length: int | None = None
    keeps_whole: bool = False

    def __str__(self) -> str:
        if self.type in (int, float):
            what = "a whole number" if self.type is int else "a number"
            text = f"{what}{f' of {self.unit}' if self.unit else ''} from {self.lowest:g} to {self.highest:g}"
        elif self.type is str:
            text = " or ".join(self.choices) or "a text"
        elif self.type is bool:
            text = "true or false"
        else:
            count = "one or more" if self.length is None else str(self.length)
            text = (
                f"a list of {count}: {self.of}"
                if self.type is list
                else f"names, each with {self.of}"
            )
        return f"{text}, or null" if self.may_be_null else text

    def checked(self, name: str, value: Any) -> Any:
        """Return a value as its kind is written, so that equal ones are the same.

        Raises:
            UsageError: It is not of this kind; the message has the nearest value that is.
        """
        if value is None and self.may_be_null:
            return None
        if self.type in (int, float):
            return self._number(name, value)
        if type(value) is not self.type:
            raise UsageError(f"{name} is {_text(value)}; it has to be {self}")
        if self.type is str:
            if self.choices and value not in self.choices:
                raise unknown("value", value, self.choices, f"{name} is {self}: show CELL")
            if not value:
                raise UsageError(f"{name} is empty; it has to be {self}")
        if self.of is not None and self.type is list:
            if not value or (self.length is not None and len(value) != self.length):
                raise UsageError(f"{name} is {_text(value)}; it has to be {self}")
            return [self.of.checked(f"{name}[{i}]", one) for i, one in enumerate(value)]
        if self.of is not None:
            return {key: self.of.checked(f"{name}.{key}", one) for key, one in value.items()}
        return value

    def _number(self, name: str, value: Any) -> int | float:
        if type(value) not in (int, float) or value != value:  # NaN
            raise UsageError(f"{name} is {_text(value)}; it has to be {self}")
        near = min(max(value, self.lowest), self.highest)
        if self.type is int:
            near = math.floor(near + 0.5)
        if near != value or (self.type is int and type(value) is float):
            raise UsageError(
                f"{name} is {_text(value)}; it has to be {self}: the nearest is {near:g}"
            )
        if self.keeps_whole:
            return int(value) if value == int(value) else float(value)
        return self.type(value)  # type: ignore[no-any-return]


def _whole(unit: str = "", lowest: int = 1, highest: int = MOST, **more: Any) -> Kind:
    return Kind(type=int, unit=unit, lowest=lowest, highest=highest, **more)


def _number(unit: str = "", lowest: float = 0.0, highest: float = FLOAT32, **more: Any) -> Kind:
    return Kind(type=float, unit=unit, lowest=lowest, highest=highest, **more)


def _one_of(*choices: str, **more: Any) -> Kind:
    return Kind(type=str, choices=choices, **more)


SHARE = _number("1", 0.0, 1.0)
DROPPED = _number("1", 0.0, 0.99)
TEXT, FLAG = Kind(type=str), Kind(type=bool)
SPLIT = Kind(type=str, may_be_null=True)
PAIR = Kind(type=list, of=_number("1", 0.01, 100.0), length=2)
EPOCHS = _number("epochs", 0.0, 1e5, keeps_whole=True)
RESIZING = _one_of("nearest", "bilinear", "bicubic", may_be_null=True)

FIXED = (
    "task.name", "task.num_classes", "backbone.name", "method.name", "data.shots", "stage2.penalty",
)  # fmt: skip
"""Settings that say which cell it is: a selector chooses it."""

KINDS: dict[str, Kind] = {
    "stage[12].epochs": _whole("epochs", 1, 100_000),
    "stage[12].batch_size": _whole("examples"),
    "stage[12].evaluate_every": _whole("epochs", 1, 100_000),
    "stage[12].learning_rate": _number("1 a step"),
    "stage[12].weight_decay": _number("1", 0.0, 1e6),
    "stage[12].warmup_epochs": EPOCHS,
    "stage[12].warm_epochs": _whole("epochs", 0, 100_000),
    "stage[12].decay_epoch": _whole("epochs", 0, 100_000, may_be_null=True),
    "stage[12].decays_vectors": FLAG,
    "stage[12].clip_norm": _number("1", 1e-12, may_be_null=True),
    "stage[12].rate_factors": Kind(type=dict, of=_number("1", 0.0, 1e6)),
    "stage2.weight": _number("1"),
    "stage2.sample": _one_of("token", "image"),
    "stage2.options": Kind(type=dict),
    "training.precision": _one_of("fp32", "tf32", "bf16"),
    "training.chunk": _whole("pairs", may_be_null=True),
    "training.processes": _whole("processes", 1, 1024),
    "data.limit_train": _whole("examples", may_be_null=True),
    "data.limit_test": _whole("examples", may_be_null=True),
    "data.held_out": _whole("clips", 0),
    "data.image_size": _whole("pixels", 8, 4096),
    "data.train_size": _whole("pixels", 8, 4096),
    "data.interpolation": RESIZING,
    "data.normalisation": TEXT,
    "data.variant": TEXT,
    "data.train": TEXT,
    "data.val": SPLIT,
    "data.test": TEXT,
    "augment.crop_area": Kind(type=list, of=_number("1", 0.001, 1.0), length=2),
    "augment.crop_ratio": PAIR,
    "augment.interpolation": RESIZING,
    "augment.policy": Kind(type=str, may_be_null=True),
    "augment.cutmix": _number("1", 0.0, 1000.0),
    "augment.mixup": _number("1", 0.0, 1000.0),
    "augment.smoothing": DROPPED,
    "augment.*": SHARE,
    "backbone.weights": TEXT,
    "backbone.*": DROPPED,
    "method.scale": _number("1", -FLOAT32),
    "method.dropout": DROPPED,
    "method.targets": Kind(type=list, of=TEXT),
    "method.pool": TEXT,
    "method.norms": FLAG,
    "method.blocks": _whole("blocks", 0, 10_000),
    "method.*": _whole("1", 1, 100_000),
    "search.train": TEXT,
    "search.val": TEXT,
    "search.learning_rate": _number("1 a step"),
    "search.mutation": SHARE,
    "search.warmup_epochs": EPOCHS,
    "search.supernet_epochs": _whole("epochs", 1, 100_000),
    "search.parents": _whole("subnets"),
    "search.population": _whole("subnets"),
    "search.generations": _whole("generations"),
    "search.budget": _whole("parameters", 1, 10**12),
    "loss.margin": _number("1", 0.0, 1e6),
    "evaluation.ties": TEXT,
    "model.head": TEXT,
    "model.*": _whole("features", 1, 100_000),
    "optimizer.name": _one_of("adamw"),
    "optimizer.learning_rate": _number("1 a step"),
    "penalty.*": _number("1"),
    "measure.method": TEXT,
    "measure.*": _whole("1", 0),
    "step.batch_size": _whole("examples"),
    "step.precision": _one_of("fp32", "tf32", "bf16"),
    "methods": Kind(type=list, of=TEXT),
}
"""Settings by dotted name, with globs; the first that fits counts."""

OPTIONS = {
    "--threads": _whole("threads", 1, 1024),
    "--jobs": _whole("processes", 1, 1024),
    "--timeout-seconds": _number("seconds", 0.001, 1e9, may_be_null=True),
    "--batch-cells": _whole("cells", 0, 100_000),
}
"""Options of the command line that are numbers."""


def kind_of(name: str) -> Kind | None:
    """Return the kind of a setting; None if no benchmark has one of this name."""
    return next((kind for glob, kind in KINDS.items() if fnmatchcase(name, glob)), None)


def checked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that replace declared ones, each as its kind is written.

    Names that no benchmark has are left as they are: which ones there are depends on the cell.

    Raises:
        UsageError: A value is not of its setting's kind, or says which cell it is.
    """
    found = {}
    for name, value in overrides.items():
        if name in FIXED:
            raise UsageError(
                f"{name} says which cell it is, and is not for --set: a selector chooses the cell "
                "(python -m benchmarks ls)"
            )
        kind = kind_of(name)
        found[name] = value if kind is None else kind.checked(name, value)
        try:
            json.dumps(found[name], allow_nan=False)
        except ValueError as error:
            raise UsageError(f"{name} is {_text(value)}, which is no number") from error
    return found


def nearest(name: str, known: Mapping[str, Any] | set[str]) -> UsageError:
    """Return the error for a setting that there is not, with the nearest name that there is."""
    command = "python -m benchmarks show CELL"
    last = name.rpartition(".")[2]
    same = sorted(one for one in known if one.rpartition(".")[2] == last)
    if same:
        return UsageError(
            f"unknown setting {shortened(name)!r}; did you mean {same[0]!r}? ({command} lists them)"
        )
    return unknown("setting", name, known, command)


def read_value(name: str, text: str) -> Any:
    """Read what stands after ``NAME=``: JSON, or else a text.

    Raises:
        UsageError: It is a number without end, or nested without end.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is {shortened(text)}, which cannot be read as a value") from error


def _text(value: Any) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value, default=str))
