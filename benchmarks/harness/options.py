"""Options that several command lines share; those of ``Settings`` are declared there, as its fields."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from benchmarks.harness.errors import UsageError
from benchmarks.harness.kinds import read_value
from benchmarks.harness.settings import Settings, flag_of

FIELDS = {one.name: one for one in fields(Settings) if "help" in one.metadata}


def add(parser: argparse.ArgumentParser, *names: str, **defaults: Any) -> None:
    """Add options that are fields of ``Settings``, by the fields' names; ``defaults`` replaces values."""
    for name in names:
        more = dict(FIELDS[name].metadata)
        default = defaults.get(name, FIELDS[name].default)
        text, old = more.pop("help"), more.pop("old", None)
        more.pop("flag", None)
        if "action" not in more and default is not None:
            text += f" (default: {default})"
        flag = flag_of(FIELDS[name])
        parser.add_argument(flag, dest=name, default=default, help=text, **more)
        if old:
            parser.add_argument(
                old,
                dest=name,
                default=default,
                help=argparse.SUPPRESS,
                action=_Renamed,
                new=flag,
                **({"nargs": 0} if "action" in more else more),
            )


def add_scale(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the scale."""
    parser.add_argument(
        "--scale", default=default, help=f"smoke, micro or paper (default: {default})"
    )


def add_set(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--set``, with what it does here."""
    parser.add_argument("--set", type=assignment, action="append", metavar="NAME=VALUE", help=text)


def add_device_name(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--device-name``, with what it does here."""
    parser.add_argument("--device-name", metavar="NAME", help=text)
    parser.add_argument(
        "--on", dest="device_name", action=_Renamed, new="--device-name", help=argparse.SUPPRESS
    )


def settings_of(options: argparse.Namespace, **more: Any) -> Settings:
    """Return the settings that options say, of those that a command has, and that are given by name.

    Raises:
        UsageError: A value is of the wrong kind or out of its range.
    """
    names = [name for name in ("scale", *FIELDS) if hasattr(options, name)]
    overrides = dict(getattr(options, "set", None) or []) | more.pop("overrides", {})
    return Settings(**{name: getattr(options, name) for name in names} | more, overrides=overrides)


def assignment(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``, as ``--set`` takes it; the value is JSON, or else a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, read_value(name, value)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class _Renamed(argparse.Action):
    """An option under its earlier name: it works, and the new name is said."""

    def __init__(self, *, new: str, **more: Any) -> None:
        super().__init__(**more)
        self.new = new

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        sys.stderr.write(f"note: {option_string} is now {self.new}\n")
        setattr(namespace, self.dest, True if self.nargs == 0 else values)
