"""The resources that jobs request: Slurm's flags, which override a profile in a TOML file."""

from __future__ import annotations

import argparse
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.errors import UsageError, unknown
from slurm.planning import TIMED, Job

PROFILES = Path(__file__).parent / "profiles.toml"
SLACK = 1.5
"""Factor between the expected time of a job's cells and its time limit."""
LEAST_MINUTES = 10
LEAST = {
    "time": 1,
    "mem_gb": 0.001,
    "cpus_per_task": 1,
    "gpus_per_node": 0,
    "array_parallelism": 1,
    "signal_delay_s": 1,
    "max_requeue": 0,
}
"""The smallest valid value of a number."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The resources that each job requests.

    Attributes:
        partition: Partition; None: the cluster's default. Likewise the next three.
        qos: Quality of service.
        account: Account.
        constraint: Features of nodes.
        exclude: Nodes to stay away from.
        time: Time limit in minutes; None: by the plan's lengths.
        mem_gb: Memory in GB; None: the cluster's default.
        cpus_per_task: Cores, and threads of torch.
        gpus_per_node: GPUs of a job whose cells run on one.
        array_parallelism: Jobs of an array side by side.
        setup: Shell lines before Python starts, such as ``module load cuda``.
        extra: Other options of sbatch, by name; one without a value is a flag.
        signal_delay_s: Seconds before the time limit at which a job saves and is requeued.
        max_requeue: How often a job that runs into its time limit starts again.
    """

    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    time: int | None = None
    mem_gb: float | None = None
    cpus_per_task: int = 4
    gpus_per_node: int = 1
    array_parallelism: int = 64
    setup: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    signal_delay_s: int = 120
    max_requeue: int = 20

    @property
    def names(self) -> dict[str, str | None]:
        """The requested values that are names of the site."""
        keys = ("partition", "qos", "account", "constraint", "exclude")
        return {key: getattr(self, key) for key in keys}

    def parameters(
        self, jobs: tuple[Job, ...], name: str, after: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return what submitit is given for an array of jobs that start after others have ended.

        Raises:
            UsageError: The time limit is not known, or leaves no time before its signal.
        """
        minutes = self.time or _minutes(jobs)
        if 60 * minutes <= self.signal_delay_s:
            raise UsageError(
                f"a time limit of {minutes} min is too short for a signal {self.signal_delay_s} s "
                "before it: use a larger --time or a smaller --signal-delay-s"
            )
        extra = {key: value or True for key, value in self.extra.items()}
        chosen = {
            "timeout_min": minutes,
            "cpus_per_task": self.cpus_per_task,
            "mem_gb": self.mem_gb,
            "gpus_per_node": self.gpus_per_node if jobs and jobs[0].device == "cuda" else None,
            "name": name,
            "stderr_to_stdout": True,
            "slurm_partition": self.partition,
            "slurm_qos": self.qos,
            "slurm_account": self.account,
            "slurm_constraint": self.constraint,
            "slurm_exclude": self.exclude,
            "slurm_array_parallelism": self.array_parallelism,
            "slurm_setup": list(self.setup) or None,
            "slurm_signal_delay_s": self.signal_delay_s,
            # Since Slurm 22.05 srun does not take it from sbatch.
            "slurm_srun_args": [f"--cpus-per-task={self.cpus_per_task}"],
            # What measures time has a node to itself.
            "slurm_exclusive": True if jobs and jobs[0].array == TIMED else None,
            # Some sites requeue only what asks for it.
            "slurm_additional_parameters": {"requeue": True, **extra},
            "slurm_dependency": f"afterany:{':'.join(after)}" if after else None,
        }
        return {key: value for key, value in chosen.items() if value is not None}


def _minutes(jobs: tuple[Job, ...]) -> int:
    seconds = [job.seconds for job in jobs]
    if any(value is None for value in seconds):
        raise UsageError(
            "no record has the time of these cells: give --seconds S, or set the limit with --time MINUTES"
        )
    longest = max((value for value in seconds if value is not None), default=0.0)
    return max(LEAST_MINUTES, round(SLACK * longest / 60))


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a command."""
    add = parser.add_argument
    add("--profile", metavar="NAME", help=f"profile in {PROFILES.name}, or FILE:NAME")
    for name in ("partition", "qos", "account", "constraint", "exclude"):
        add(f"--{name}")
    add("--time", metavar="TIME",
        help="time limit in minutes, or as in Slurm: HH:MM:SS, D-HH (default: from the plan)")  # fmt: skip
    add("--mem-gb", type=float)
    add("--cpus-per-task", type=int)
    add("--gpus-per-node", type=int)
    add(
        "--array-parallelism",
        type=int,
        metavar="N",
        help="jobs of an array that run at the same time",
    )
    add("--setup", action="append", metavar="LINE", help="shell line before Python starts")
    add("--slurm-extra", action="append", metavar="KEY=VALUE",
        help="another option of sbatch; KEY= if it has no value")  # fmt: skip
    add("--signal-delay-s", type=int, metavar="S",
        help="seconds before the time limit at which a job saves and is requeued (default: 120)")  # fmt: skip
    add("--max-requeue", type=int, metavar="N",
        help="how often a job at its time limit is requeued (default: 20)")  # fmt: skip


def read(given: argparse.Namespace) -> Options:
    """Return the named profile, with the flags that override it.

    Raises:
        UsageError: The profile, or a value, is not one.
    """
    chosen = profile(given.profile) if given.profile else Options()
    names = {one.name for one in fields(Options)} - {"setup", "extra"}
    flags: dict[str, Any] = {
        name: value for name in names if (value := getattr(given, name)) is not None
    }
    if given.setup:
        flags["setup"] = tuple(given.setup)
    if given.slurm_extra:
        flags["extra"] = {**chosen.extra, **dict(map(_pair, given.slurm_extra))}
    for name, value in flags.items():
        flags[name] = _checked(name, value, f"--{name.replace('_', '-')}")
    return replace(chosen, **flags)


def profile(text: str) -> Options:
    """Read a profile: a name in the committed file, or ``FILE:NAME``.

    Raises:
        UsageError: There is no such file or profile, or it has an unknown key or a value of another kind.
    """
    file, _, name = text.rpartition(":")
    path = Path(file) if file else PROFILES
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"profile {text!r}: cannot read {path}: {error}") from error
    profiles = {key: value for key, value in found.items() if isinstance(value, dict)}
    if name not in profiles:
        raise unknown("profile", name, profiles, str(path))
    known = {one.name for one in fields(Options)}
    for key in profiles[name]:
        if key not in known:
            raise unknown(f"key of profile {name!r}", key, known, f"{path}")
    where = f"{path}: profile {name!r}: "
    values = {k: _checked(k, value, where + k) for k, value in profiles[name].items()}
    return Options(**values)


def minutes(text: str) -> int:
    """Read a time limit in minutes, or in one of Slurm's forms: ``M:S  H:M:S  D-H  D-H:M  D-H:M:S``.

    Raises:
        ValueError: It is none of them.
    """
    if not re.fullmatch(r"\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2}", text):
        raise ValueError(f"{text!r} is not minutes, HH:MM:SS or D-HH")
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes_, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes_, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    return math.ceil((((int(days or 0) * 24 + hours) * 60 + minutes_) * 60 + seconds) / 60)


def _checked(name: str, value: Any, where: str) -> Any:
    """Return a value with the type of its field; another type is an error."""
    if name == "time" and isinstance(value, str):
        try:
            value = minutes(value)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
    if name in LEAST:
        kinds = (int, float) if name == "mem_gb" else (int,)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UsageError(f"{where}: {value!r} is not a number")
        if value < LEAST[name]:
            raise UsageError(f"{where}: {value} is less than {LEAST[name]}")
        return value
    if name == "setup":
        lines = (value,) if isinstance(value, str) else tuple(value)
        return tuple(str(line) for line in lines)
    if name == "extra":
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: {value!r} is not a table of sbatch's options")
        return {key: "" if each is True else str(each) for key, each in value.items()}
    if not isinstance(value, str):
        raise UsageError(f"{where}: {value!r} is not text")
    return value


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip("-"):
        raise UsageError(f"--slurm-extra {text!r} is not KEY=VALUE")
    return key.lstrip("-"), value
