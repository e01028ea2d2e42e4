"""Slurm's commands: states of jobs from squeue and, if the site has it, sacct. Each call has a deadline."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness.errors import UsageError

DEADLINE_SECONDS = 60
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED")
ACTIVE = (
    *RUNNING,
    *(
        "PENDING",
        "CONFIGURING",
        "RESIZING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "SPECIAL_EXIT",
    ),
)
DEFAULT_ARRAY = 1001
ERROR = re.compile("error|fail|unrecognized|invalid", re.IGNORECASE)
OF_THE_SITE = {
    f"SLURM_{name}"
    for name in (
        "CONF CLUSTERS JWT UMASK TIME_FORMAT EXIT_ERROR EXIT_IMMEDIATE DEBUG_FLAGS BITSTR_LEN"
    ).split()
}
"""Variables that are not of a job: a person or a site sets them."""
AT_ONCE = 500
"""Jobs that one command names."""


LISTS = {
    "account": (("account",), ("sacctmgr", "-nP", "show", "account", "format=account")),
    "partition": (("partition",), ("sinfo", "--noheader", "--format=%R")),
    "constraint": (("feature", "constraint"), ("sinfo", "--noheader", "--format=%f")),
    "exclude": (("node name",), ("sinfo", "--noheader", "--Node", "--format=%N")),
    "qos": (("qos", "quality of service"), ("sacctmgr", "-nP", "show", "qos", "format=name")),
}
"""Flag -> words for it in Slurm's errors, and the command that lists its valid values."""


class SlurmError(UsageError):
    """Slurm does not answer, or refuses."""


class NoSlurm(SlurmError):
    """There is no Slurm here."""


@dataclass(frozen=True)
class JobState:
    """Slurm's state of a job, and the reason."""

    state: str
    reason: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it runs or waits."""
        return self.state in ACTIVE

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.state in RUNNING


@contextmanager
def outside_of_a_job() -> Iterator[None]:
    """Hide, in the block, what Slurm says of the job that we are in ourselves.

    ``sbatch`` passes its environment on: within a job of an array, what is submitted would take itself for
    a task of that array.
    """
    of_job = {name: value for name, value in os.environ.items() if name.startswith("SLURM_")}
    for name in of_job.keys() - OF_THE_SITE:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(of_job)


def states(ids: Iterable[str]) -> dict[str, JobState]:
    """Return what Slurm knows of jobs; of those that it has forgotten nothing.

    Raises:
        SlurmError: The controller does not answer.
    """
    wanted = dict.fromkeys(ids)
    if not wanted:
        return {}
    # squeue knows present jobs and those that ended a few minutes ago; sacct knows all, but with a delay.
    known = _accounted(wanted)
    command = ["squeue", "--noheader", "--array", "--states=all", "--me", "--format=%i|%T|%r"]
    for line in call(command).splitlines():
        name, state, reason = line.split("|", 2)
        if name in wanted:
            known[name] = JobState(state, "" if reason == "None" else reason)
    return known


def _accounted(ids: Mapping[str, object]) -> dict[str, JobState]:
    """What the accounting says; nothing on a site without."""
    if shutil.which("sacct") is None:
        return {}
    bases = ",".join(dict.fromkeys(one.partition("_")[0] for one in ids))
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "-j", bases]
    command += ["--format=JobID,State"]
    try:
        text = call(command)
    except SlurmError:
        return {}
    found = {}
    for line in text.splitlines():
        name, _, state = line.partition("|")
        if name in ids and state:
            found[name] = JobState(state.split()[0].rstrip("+"))
    return found


def cancel(ids: Iterable[str], *, whole: bool) -> None:
    """Cancel jobs.

    Args:
        ids: The jobs.
        whole: Cancel all of their arrays, by their number.
    """
    names = list(dict.fromkeys(one.partition("_")[0] if whole else one for one in ids))
    for start in range(0, len(names), AT_ONCE):
        call(["scancel", *names[start : start + AT_ONCE]])


def largest_array() -> int:
    """How many jobs one array may have on this site."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", call(["scontrol", "show", "config"]))
    return int(found.group(1)) if found else DEFAULT_ARRAY


def time_limits() -> dict[str, str]:
    """Return the longest time of each partition as Slurm writes it; the default's also by ``""``."""
    found = {}
    for line in call(["sinfo", "--noheader", "--format=%P|%l"]).splitlines():
        name, _, limit = line.partition("|")
        found[name.rstrip("*")] = limit
        if name.endswith("*"):
            found[""] = limit
    return found


def test_only(script: str) -> str:
    """Have Slurm check a batch script without submitting it; return what it says.

    Raises:
        SlurmError: It refuses the script.
    """
    return call(["sbatch", "--test-only"], text=script, both=True).strip()


def call(command: Sequence[str], *, text: str | None = None, both: bool = False) -> str:
    """Run a command of Slurm and return what it prints.

    Raises:
        SlurmError: It is not there, fails, or does not end in time.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise NoSlurm(
            f"{command[0]} was not found: is this a login node of a Slurm cluster?"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} did not answer within {DEADLINE_SECONDS} s") from error
    if done.returncode:
        raise SlurmError(f"{command[0]} failed and says: {reason(done.stderr)}")
    return done.stdout + (done.stderr if both else "")


def reason(said: str) -> str:
    """Return the line of a Slurm command's output that has the error."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith('Try "')] or lines
    wrong = [line for line in lines if ERROR.search(line)]
    return (wrong or lines or ["nothing"])[-1]


def explained(error: SlurmError, asked: Mapping[str, str | None]) -> SlurmError:
    """Add to a refusal what was asked for, the nearest name that there is, and what lists them all.

    Args:
        error: The refusal.
        asked: Flag -> value.
    """
    said = str(error).lower()
    for flag, (words, command) in LISTS.items():
        value = asked.get(flag)
        if value is None or not any(word in said for word in words):
            continue
        try:
            known = re.split(r"[\s,]+", call(command))
        except SlurmError:
            known = []
        near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return SlurmError(f"{error}: --{flag} {value}{hint} ({' '.join(command)} lists them)")
    return error
