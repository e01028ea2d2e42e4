"""What jobs ask for, and a plan on this machine: no Slurm is needed."""

from __future__ import annotations

import argparse
import os

import pytest

from benchmarks.harness.errors import UsageError
from slurm import options, scheduler, submitting
from slurm.options import Options
from slurm.planning import Job

JOBS = tuple(Job(array="stage 1", device="cuda", cells=(), seconds=s) for s in (600.0, 3600.0))


def read(*arguments):
    parser = argparse.ArgumentParser()
    options.add_to(parser)
    return options.read(parser.parse_args(arguments))


def test_the_example_is_a_profile_and_flags_replace_it(tmp_path):
    found = read("--profile", "example", "--mem-gb", "64", "--slurm-extra", "reservation=night")
    assert (found.partition, found.mem_gb, found.cpus_per_task) == ("gpu", 64, 8)
    assert found.setup == ("module load cuda/12.4",)
    assert found.extra == {"comment": "resora", "reservation": "night"}
    own = tmp_path / "mine.toml"
    own.write_text('[site]\nqos = "long"\n')
    assert read("--profile", f"{own}:site").qos == "long"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exampel", "did you mean 'example'?"),
        ("nowhere.toml:site", "cannot read nowhere.toml"),
    ],
)
def test_an_unknown_profile_is_named(text, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        read("--profile", text)


def test_an_unknown_key_of_a_profile_is_named(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text('[site]\npartitoin = "gpu"\n')
    with pytest.raises(UsageError, match="did you mean 'partition'"):
        read("--profile", f"{own}:site")
    with pytest.raises(UsageError, match="is not KEY=VALUE"):
        read("--slurm-extra", "night")


def test_the_time_limit_is_by_the_longest_job_or_as_asked():
    assert Options().parameters(JOBS, "a", ())["timeout_min"] == 90
    assert Options(time=30).parameters(JOBS, "a", ())["timeout_min"] == 30
    unknown = (Job(array="stage 1", device="cuda", cells=(), seconds=None),)
    with pytest.raises(UsageError, match="--time MINUTES"):
        Options().parameters(unknown, "a", ())


def test_gpus_and_dependencies():
    found = Options(gpus_per_node=2).parameters(JOBS, "a", ("7", "8"))
    assert found["gpus_per_node"] == 2
    assert found["slurm_dependency"] == "afterany:7:8"
    on_cpu = (Job(array="stage 1", device="cpu", cells=(), seconds=1.0),)
    assert "gpus_per_node" not in Options().parameters(on_cpu, "a", ())
    assert "slurm_dependency" not in Options().parameters(on_cpu, "a", ())


def test_where_there_is_no_slurm_the_error_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(scheduler.SlurmError, match="is this a login node"):
        scheduler.states(["1"])


def test_arrays_are_cut_to_what_the_site_takes():
    parts = list(submitting._parts(JOBS * 3, 4))
    assert [len(part) for part in parts] == [4, 2]
    assert sum(parts, ()) == JOBS * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90:30", 91),
        ("4:00:00", 240),
        ("0:30:01", 31),
        ("2-12", 3600),
        ("1-0:30", 1470),
    ],
)
def test_a_time_limit_has_slurms_forms(text, expected):
    assert read("--time", text).time == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--time", "4h"], "--time: '4h' is not minutes, HH:MM:SS or D-HH"),
        (["--time", "0"], "--time: 0 is less than 1"),
        (["--cpus-per-task", "0"], "--cpus-per-task: 0 is less than 1"),
        (["--array-parallelism", "0"], "--array-parallelism: 0 is less than 1"),
        (["--mem-gb", "-3"], "--mem-gb: -3.0 is less than"),
        (["--max-requeue", "-1"], "--max-requeue: -1 is less than 0"),
        (["--slurm-extra", "=1"], "'=1' is not KEY=VALUE"),
    ],
)
def test_a_value_that_is_none_is_refused(arguments, said):
    with pytest.raises(UsageError) as error:
        read(*arguments)
    assert said in str(error.value)


def test_a_profile_with_a_value_of_another_kind_is_refused(tmp_path):
    own = tmp_path / "mine.toml"
    for line, said in (
        ('cpus_per_task = "many"', "profile 'site': cpus_per_task: 'many' is not a number"),
        ("partition = 3", "partition: 3 is not text"),
        ('extra = "comment"', "is not a table"),
        ('time = "1 hour"', "is not minutes"),
    ):
        own.write_text(f"[site]\n{line}\n")
        with pytest.raises(UsageError, match=said):
            read("--profile", f"{own}:site")
    own.write_text('[site]\ntime = "1-0"\nsetup = "module load cuda"\n')
    assert read("--profile", f"{own}:site").time == 1440
    assert read("--profile", f"{own}:site").setup == ("module load cuda",)
    own.write_text('site = "gpu"\n')
    with pytest.raises(UsageError, match="unknown profile 'site'"):
        read("--profile", f"{own}:site")


def test_a_limit_that_leaves_no_time_before_its_signal_is_refused():
    with pytest.raises(UsageError, match="is too short for a signal 120 s before it"):
        Options(time=2).parameters(JOBS, "a", ())
    assert Options(time=3).parameters(JOBS, "a", ())["timeout_min"] == 3


def test_jobs_ask_to_be_requeued_and_what_measures_time_has_a_node():
    found = Options(extra={"comment": "x", "contiguous": ""}).parameters(JOBS, "a", ())
    extra = {"requeue": True, "comment": "x", "contiguous": True}
    assert found["slurm_additional_parameters"] == extra
    assert "slurm_exclusive" not in found
    timed = (Job(array="timed", device="cuda", cells=(), seconds=600.0),)
    assert Options().parameters(timed, "a", ())["slurm_exclusive"] is True


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("sbatch: unrecognized option '--x=1'\nTry \"sbatch --help\" for more information\n",
         "sbatch: unrecognized option '--x=1'"),
        ("allocation failure: Invalid partition name specified\n",
         "allocation failure: Invalid partition name specified"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification\n\n",
         "sbatch: error: Batch job submission failed: Invalid qos specification"),
        ("", "nothing"),
    ],
)  # fmt: skip
def test_the_line_that_says_what_is_wrong(said, line):
    assert scheduler.reason(said) == line


def test_what_is_submitted_within_a_job_does_not_take_itself_for_a_part_of_it(monkeypatch):
    of_job = {
        "SLURM_ARRAY_JOB_ID": "12",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_JOB_ID": "15",
        "SLURM_MEM_PER_NODE": "1",
    }
    for name, value in {**of_job, "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "me"}.items():
        monkeypatch.setenv(name, value)
    with scheduler.outside_of_a_job():
        assert not of_job.keys() & os.environ.keys()
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
        assert os.environ["SBATCH_ACCOUNT"] == "me"
    assert {name: os.environ[name] for name in of_job} == of_job
