"""Submits a plan through submitit: an array of jobs for each of its arrays, each after the one before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings
from benchmarks.harness.store import State
from slurm import scheduler, submission
from slurm.node import BuildTables, RunCells
from slurm.options import Options, minutes
from slurm.planning import ORDER, TABLES, Job, Plan
from slurm.scheduler import SlurmError
from slurm.submission import Submission, Submitted

NAME = "resora"
TABLES_MINUTES = 30


def submit(
    found: Plan, settings: Settings, options: Options, tables: Path, after: tuple[str, ...] = ()
) -> Submission:
    """Submit all jobs of a plan, and one that builds the tables after them.

    What has been submitted when an array is refused stays in the queue and is written down.

    Args:
        found: The plan.
        settings: How its cells run.
        options: What its jobs ask for.
        tables: Where the last job writes tables.
        after: Numbers of jobs that the first ones wait for.

    Raises:
        SlurmError: Slurm refuses.
    """
    import submitit

    folder = submission.new_folder(submission.root(settings.work, settings.scale))
    jobs: list[Submitted] = []
    try:
        for array, group in _arrays(found):
            ids: list[str] = []
            for part in _parts(group, scheduler.largest_array()):
                executor = _executor(folder, options, part, f"{NAME} {array}", after)
                with executor.batch():
                    made = [executor.submit(task_of(job, settings, options)) for job in part]
                ids += [one.job_id for one in made]
                jobs += [
                    Submitted(id=one.job_id, array=array, cells=job.cells)
                    for one, job in zip(made, part, strict=True)
                ]
                submission.save(folder, jobs)
            after = tuple(dict.fromkeys(one.partition("_")[0] for one in ids)) or after
        last = _executor(folder, _of_tables(options), (), f"{NAME} {TABLES}", after)
        task = BuildTables(settings.scale, settings.results.absolute(), tables.absolute())
        jobs.append(Submitted(id=last.submit(task).job_id, array=TABLES, cells=()))
    except submitit.core.utils.FailedJobError as error:
        submission.drop_if_empty(folder)
        refused = SlurmError(f"sbatch refused: {scheduler.reason(str(error))}")
        before = ", ".join(dict.fromkeys(job.id.partition("_")[0] for job in jobs))
        if before:
            refused = SlurmError(
                f"{refused}; already submitted: jobs {before} "
                f"(python -m slurm cancel --scale {settings.scale} cancels them)"
            )
        raise scheduler.explained(refused, options.names) from error
    except BaseException:
        submission.drop_if_empty(folder)
        raise
    return submission.save(folder, jobs)


def scripts(found: Plan, settings: Settings, options: Options) -> Iterator[tuple[str, str, str]]:
    """Yield, for each array, its name, the batch script, and what Slurm says of it; nothing is submitted.

    A submission alone does not tell: many sites queue what no node can run, and it waits for ever.

    Raises:
        SlurmError: Slurm refuses a script.
    """
    folder = settings.work / "dry-run"
    largest = scheduler.largest_array()
    parts = [
        (f"{array}: {len(part)} jobs", f"{NAME} {array}", part, options)
        for array, group in _arrays(found)
        for part in _parts(group, largest)
    ]
    for title, name, part, asked in [*parts, (TABLES, f"{NAME} {TABLES}", (), _of_tables(options))]:
        executor = _executor(folder, asked, part, name, ())._executor
        if len(part) > 1:
            executor.parameters["map_count"] = len(part)  # as submitit does for an array
        text: str = executor._make_submission_file_text(
            "python -m submitit.core._submit FOLDER", "0"
        )
        try:
            yield title, text, scheduler.test_only(text)
        except SlurmError as error:
            raise scheduler.explained(error, options.names) from error
        _check_time(asked, executor.parameters["time"])


def _check_time(options: Options, asked: int) -> None:
    """Refuse a time limit above the partition's: on many sites such a job waits forever."""
    limits = scheduler.time_limits()
    names = (options.partition or "").split(",")
    known = [limits[name] for name in names if name in limits]
    if not known or not all(re.fullmatch(r"[\d:-]+", limit) for limit in known):
        return
    longest = max(map(minutes, known))
    if asked > longest:
        raise SlurmError(
            f"the time limit of {asked} min is above that of the partition"
            f"{' ' + options.partition if options.partition else ''}, {longest} min: use a smaller --time, "
            "or --hours for shorter jobs"
        )


def _of_tables(options: Options) -> Options:
    return replace(options, time=options.time or TABLES_MINUTES)


def _arrays(found: Plan) -> Iterator[tuple[str, tuple[Job, ...]]]:
    """Return the jobs of each array and device, in order: all of an array request the same."""
    for array in ORDER:
        for device in dict.fromkeys(job.device for job in found.jobs):
            if jobs := found.of(array, device):
                yield array, jobs


def _parts(jobs: Sequence[Job], largest: int) -> Iterator[tuple[Job, ...]]:
    for start in range(0, len(jobs), largest):
        yield tuple(jobs[start : start + largest])


def _executor(
    folder: Path, options: Options, jobs: tuple[Job, ...], name: str, after: tuple[str, ...]
) -> Any:
    import submitit

    executor = submitit.AutoExecutor(
        folder=folder / "logs" / "%j", cluster="slurm", slurm_max_num_timeout=options.max_requeue
    )
    try:
        executor.update_parameters(**options.parameters(jobs, name, after))
    except NameError as error:
        raise SlurmError(str(error)) from error
    return executor


def task_of(job: Job, settings: Settings, options: Options) -> RunCells:
    """What a job runs; its paths are absolute."""
    paths = {name: getattr(settings, name).absolute() for name in ("results", "data", "work")}
    there = replace(settings, device=job.device, threads=options.cpus_per_task, **paths)
    return RunCells(job.cells, there)


def active_cells(submissions: Iterable[Submission], settings: Settings) -> dict[Cell, str]:
    """Return the cells of all jobs that run or are going to -> the job.

    With them a stage 1 that has no record: the job of what starts from it trains it, where it is missing.
    """
    jobs = [job for one in submissions for job in one.jobs]
    states = scheduler.states(job.id for job in jobs)
    active = [job for job in jobs if job.id in states and states[job.id].is_active]
    found = {cell: job.id for job in active for cell in job.cells}
    for job in active:
        for cell in job.cells:
            if cell.base not in found and settings.state(cell.base) is not State.FRESH:
                found[cell.base] = job.id
    return found
