"""What jobs ask of a cluster: flags that Slurm users know, over a profile in a TOML file."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.harness.errors import UsageError, unknown
from slurm.planning import Job

PROFILES = Path(__file__).parent / "profiles.toml"
SLACK = 1.5
"""A job's time limit is so many times what its cells are expected to take."""
LEAST_MINUTES = 10


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every job asks for.

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
        extra: Other options of sbatch, by name.
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

    def parameters(
        self, jobs: tuple[Job, ...], name: str, after: tuple[str, ...]
    ) -> dict[str, Any]:
        """Return what submitit is given for an array of jobs that start after others have ended."""
        chosen = {
            "timeout_min": self.time or _minutes(jobs),
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
            "slurm_additional_parameters": dict(self.extra) or None,
            "slurm_dependency": f"afterany:{':'.join(after)}" if after else None,
        }
        return {key: value for key, value in chosen.items() if value is not None}


def _minutes(jobs: tuple[Job, ...]) -> int:
    seconds = [job.seconds for job in jobs]
    if any(value is None for value in seconds):
        raise UsageError(
            "no record says how long these cells take: --seconds S says it, or --time MINUTES sets the limit"
        )
    longest = max((value for value in seconds if value is not None), default=0.0)
    return max(LEAST_MINUTES, round(SLACK * longest / 60))


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a command."""
    add = parser.add_argument
    add("--profile", metavar="NAME", help=f"of {PROFILES.name}, or FILE:NAME")
    for name in ("partition", "qos", "account", "constraint", "exclude"):
        add(f"--{name}")
    add("--time", type=int, metavar="MINUTES", help="time limit (default: by the plan)")
    add("--mem-gb", type=float)
    add("--cpus-per-task", type=int)
    add("--gpus-per-node", type=int)
    add("--array-parallelism", type=int, metavar="N", help="jobs of an array side by side")
    add("--setup", action="append", metavar="LINE", help="shell line before Python starts")
    add("--slurm-extra", action="append", metavar="KEY=VALUE", help="another option of sbatch")
    add("--signal-delay-s", type=int)
    add("--max-requeue", type=int)


def read(given: argparse.Namespace) -> Options:
    """Return the profile that was named, with the flags in its place."""
    chosen = profile(given.profile) if given.profile else Options()
    names = {one.name for one in fields(Options)} - {"setup", "extra"}
    flags: dict[str, Any] = {
        name: value for name in names if (value := getattr(given, name)) is not None
    }
    if given.setup:
        flags["setup"] = tuple(given.setup)
    if given.slurm_extra:
        flags["extra"] = {**chosen.extra, **dict(map(_pair, given.slurm_extra))}
    return replace(chosen, **flags)


def profile(text: str) -> Options:
    """Read a profile: a name in the committed file, or ``FILE:NAME``.

    Raises:
        UsageError: There is no such file or profile, or it has an unknown key.
    """
    file, _, name = text.rpartition(":")
    path = Path(file) if file else PROFILES
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"profile {text!r}: cannot read {path}: {error}") from error
    if name not in found:
        raise unknown("profile", name, found, str(path))
    known = {one.name for one in fields(Options)}
    for key in found[name]:
        if key not in known:
            raise unknown(f"key of profile {name!r}", key, known, f"{path}")
    values = dict(found[name])
    if "setup" in values:
        values["setup"] = tuple(values["setup"])
    return Options(**values)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--slurm-extra {text!r} is not KEY=VALUE")
    return key.lstrip("-"), value
