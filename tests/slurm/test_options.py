"""What jobs ask for, and a plan on this machine: no Slurm is needed."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.harness.errors import UsageError
from slurm import options, scheduler, submitting
from slurm.cli import main
from slurm.options import Options
from slurm.planning import Job
from tests.benchmarks.packed import pack_task

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


def test_the_same_plan_runs_on_this_machine(tmp_path, capfd):
    data = tmp_path / "data"
    pack_task(data, "eurosat", 10)
    command = ["submit", "vtab1k/vit_micro/eurosat/lora-r2*", "--executor", "local", "--workers", "2",
               "--scale", "smoke", "--set", "backbone.weights=random", "--device", "cpu", "--seconds", "3",
               "--hours", "0.002", "--cpus-per-task", "1", "--results", str(tmp_path / "results"),
               "--work", str(tmp_path / "work"), "--data", str(data),
               "--tables", str(tmp_path / "t")]  # fmt: skip
    assert main(command) == 0
    assert len(list((tmp_path / "results").rglob("*.json"))) == 6
    assert (tmp_path / "t" / "smoke" / "index.html").exists()
    assert main(command) == 0
    assert "nothing to do" in capfd.readouterr().out


def test_arrays_are_cut_to_what_the_site_takes():
    parts = list(submitting._parts(JOBS * 3, 4))
    assert [len(part) for part in parts] == [4, 2]
    assert sum(parts, ()) == JOBS * 3
