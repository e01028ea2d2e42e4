"""Submitted cells on a real Slurm of three nodes without accounting: nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import until
from tests.slurm.conftest import ROOT

EPOCHS = 25
LONG = ["--set", f"stage1.epochs={EPOCHS}", "--set", f"stage2.epochs={EPOCHS}"]
"""Cells of some seconds: time to do something to them."""
SMALL = ["--device", "cpu", "--seconds", "3", "--cpus-per-task", "1"]


def test_a_grid_equals_a_run_without_slurm(world):
    said = world.submit().stdout
    assert "12 cells chosen at scale smoke, 0 done before" in said
    # A second command sees what the first has submitted.
    assert "left out: 12 cells that already run or wait" in world.submit().stdout
    world.wait()
    records = world.records()
    assert len(records) == 12
    assert {record["status"] for record in records.values()} == {"ok"}
    assert {record["run"]["attempt"] for record in records.values()} == {1}
    tables = world.folder / "tables" / "smoke"
    until(lambda: (tables / "index.html").exists(), 60, "the last job builds the tables")
    assert "COMPLETED" in world.cluster.run("squeue", "-h", "-t", "all", "-o", "%T")

    plain = world.folder / "plain"
    command = [sys.executable, "-m", "benchmarks", "run", "vtab1k/vit_micro/eurosat/lora-r2*",
               "vtab1k/vit_micro/dmlab/lora-r2*", "--scale", "smoke", "--set", "backbone.weights=random",
               "--results", str(plain), "--work", str(world.folder / "w"), "--data", str(world.data),
               "--device", "cpu", "--jobs", "1"]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    import json

    for name, record in records.items():
        other = json.loads((plain / "smoke" / f"{name}.json").read_text())
        for part in ("metrics", "redundancy", "config_hash", "stage1"):
            assert record[part] == other[part], (name, part)
    build = [sys.executable, "-m", "reports", "build", "--scale", "smoke", "--results", str(plain),
             "--out", str(world.folder / "again")]  # fmt: skip
    subprocess.run(build, cwd=ROOT, check=False, capture_output=True)
    for name in ("table2.md", "table5.csv", "claims.md"):
        assert (world.folder / "again" / "smoke" / name).read_text() == (tables / name).read_text()
    assert "nothing to do" in world.submit().stdout


def test_stage_1_runs_before_what_starts_from_it(world):
    world.submit()
    jobs = world.jobs()
    assert [job["array"] for job in jobs] == ["stage 1", *["stage 2"] * 4, "tables"] or {
        job["array"] for job in jobs
    } == {"stage 1", "stage 2", "tables"}
    second = next(job["id"].partition("_")[0] for job in jobs if job["array"] == "stage 2")
    shown = world.cluster.run("scontrol", "show", "job", second)
    assert re.search(r"Dependency=(afterany:\d+|\(null\))", shown)
    world.wait()
    for name, record in world.records().items():
        if "+" in name:
            assert record["stage1"]["cell"] == re.sub(r"\+[^/]*", "", name)


@pytest.mark.slow
def test_a_killed_process_is_lost_and_resubmitted(world):
    world.more = LONG
    world.submit(hours="1")  # one job an array
    until(lambda: len(world.records()) >= 3, 120, "stage 1 and a cell of stage 2 are done")
    until(lambda: _processes(world), 60, "the job of stage 2 runs")
    for pid in _processes(world):
        os.kill(pid, signal.SIGKILL)
    said = world.wait(code=1)
    done = {name: record["record_sha256"] for name, record in world.records().items()}
    assert 3 <= len(done) < 12
    assert said.count("lost: vtab1k/vit_micro/") == min(8, 12 - len(done))
    assert "its job ended as" in said
    world.slurm("resubmit", "--missing", *SMALL)
    world.wait(240)
    assert len(world.records()) == 12
    # What was done is not trained again.
    assert {name: world.records()[name]["record_sha256"] for name in done} == done


def test_one_cancelled_task_of_a_waiting_array_is_found(world):
    world.submit()
    jobs = [job for job in world.jobs() if job["array"] == "stage 2"]
    assert len(jobs) > 1
    world.cluster.run("scancel", jobs[-1]["id"])
    said = world.wait(code=1)
    assert said.count("lost: ") == len(jobs[-1]["cells"])
    world.slurm(
        "resubmit", "--missing", "--device", "cpu", "--seconds", "3", "--cpus-per-task", "1"
    )
    world.wait()
    assert len(world.records()) == 12


@pytest.mark.slow
def test_a_preempted_job_goes_on_where_it_was(world):
    world.more = LONG
    world.submit("--time", "60", hours="1")
    until(lambda: _processes(world), 60, "a job runs")
    until(lambda: list(world.folder.rglob("last-epoch.pt")), 60, "an epoch is saved")
    everything = ["--wrap", "sleep 3", "--partition", "high", "--nodes", "3", "--exclusive"]
    world.cluster.run("sbatch", *everything, "--output", "/dev/null")
    world.wait(300)
    records = world.records()
    assert len(records) == 12
    assert {record["status"] for record in records.values()} == {"ok"}
    log = next(world.folder.rglob("*_0_log.out")).read_text()
    assert f"epoch {EPOCHS} of {EPOCHS}" in log
    starts = log.count("Starting with JobEnvironment")
    assert starts >= 2
    # No more than one epoch is lost each time.
    assert world.repeated_epochs() <= starts - 1
    # One cell was in both attempts, and its log has both.
    (cell,) = set(re.findall(r"^(\S+) cancelled", world.logs(), re.M))
    told = world.slurm("logs", cell, "--all").stdout
    assert told.count("Starting with JobEnvironment") >= 2
    part = world.slurm("logs", cell).stdout
    assert f"{cell} ok" in part
    assert not re.search(rf"^(?!{re.escape(cell)} )\S+ ok$", part, re.M)


@pytest.mark.slow
def test_a_job_that_its_user_requeues_goes_on_where_it_was(world):
    world.more = LONG
    world.submit("--time", "60", hours="1")
    until(lambda: list(world.folder.rglob("last-epoch.pt")), 120, "an epoch is saved")
    world.cluster.run("scontrol", "requeue", world.jobs()[0]["id"])
    world.wait(300)
    records = world.records()
    assert len(records) == 12
    assert {record["status"] for record in records.values()} == {"ok"}
    assert world.repeated_epochs() <= 1
    assert world.logs().count(" ok\n") == 12


def test_a_failing_cell_leaves_a_record_and_the_job_goes_on(world):
    world.more = ["--set", "stage2.learning_rate=1e30"]
    world.submit(selector="vtab1k/vit_micro/*/lora-r2[+]linear")
    said = world.wait(code=1)
    assert "failed: vtab1k/vit_micro/eurosat/lora-r2+linear/0: diverged:" in said
    assert "failed: vtab1k/vit_micro/dmlab/lora-r2+linear/0: diverged:" in said
    logs = world.slurm("logs", "vtab1k/vit_micro/dmlab/lora-r2+linear/0").stdout
    assert "vtab1k/vit_micro/dmlab/lora-r2+linear/0 diverged" in logs
    # Neither was lost; with the learning rate mended both run again, stage 1 does not.
    assert "is lost" in world.slurm("resubmit", "--missing", *SMALL).stdout
    world.more = []
    world.slurm("resubmit", "--failed", *SMALL)
    world.wait()
    assert {record["status"] for record in world.records().values()} == {"ok"}
    assert world.logs().count("vtab1k/vit_micro/dmlab/lora-r2/0 ok") == 1


def test_jobs_side_by_side_see_different_gpus(world, tmp_path):
    from slurm.options import Options
    from slurm.planning import Job
    from slurm.submitting import _executor

    os_environ = dict(os.environ)
    os.environ.update(world.cluster.environment)
    try:
        jobs = tuple(Job(array="stage 1", device="cuda", cells=(), seconds=1.0) for _ in range(2))
        options = Options(cpus_per_task=1, time=5, extra={"nodelist": "n1"})
        executor = _executor(tmp_path, options, jobs, "gpus", ())
        with executor.batch():
            made = [
                executor.submit(os.system, f"echo gpu=$CUDA_VISIBLE_DEVICES; sleep {3}")
                for _ in jobs
            ]
        logs = [Path(job.paths.folder) / f"{job.job_id}_0_log.out" for job in made]
        until(
            lambda: all(p.exists() and "gpu=" in p.read_text() for p in logs), 60, "both jobs ran"
        )
        seen = {re.search(r"gpu=(\d)", path.read_text()).group(1) for path in logs}
        assert seen == {"0", "1"}
    finally:
        os.environ.clear()
        os.environ.update(os_environ)


def test_two_commands_at_once_submit_no_cell_twice(world):
    command = [sys.executable, "-m", "slurm", "submit", "vtab1k/vit_micro/eurosat/lora-r2*", *world.places,
               "--device", "cpu", "--seconds", "3", "--cpus-per-task", "1",
               "--tables", str(world.folder / "t")]  # fmt: skip
    both = [
        subprocess.Popen(
            command, cwd=ROOT, env=world.cluster.environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [one.communicate(timeout=120)[0] for one in both]
    assert sum("left out: 6 cells" in text for text in said) == 1
    world.wait()
    assert {record["run"]["attempt"] for record in world.records().values()} == {1}


def test_bad_input_is_one_line(world):
    error = world.submit("--partition", "nowhere", code=2).stderr
    assert "invalid partition" in error.lower()
    assert not list((world.folder / "work").rglob("submission.json"))
    assert "did you mean 'example'?" in world.submit("--profile", "exampel", code=2).stderr
    said = world.slurm("plan", "vtab1k/vit_micro/eurosat/lora-r9", code=2).stderr
    assert "did you mean 'lora-r" in said
    assert (
        "was not submitted"
        in world.slurm("logs", "vtab1k/vit_micro/eurosat/linear/0", code=2).stderr
    )
    assert "cancelled: 0 jobs" in world.slurm("cancel").stdout


def test_a_dry_run_submits_nothing_and_slurm_checks_it(world):
    before = world.cluster.run("squeue", "-h", "-t", "all", "-o", "%i")
    said = world.submit("--dry-run", "--setup", "echo hello").stdout
    assert "#SBATCH --signal=USR2@120" in said
    assert "#SBATCH --array=0-" in said
    assert "echo hello" in said
    assert "# Slurm: sbatch: Job" in said
    assert world.cluster.run("squeue", "-h", "-t", "all", "-o", "%i") == before
    refused = world.submit("--dry-run", "--partition", "nowhere", code=2).stderr
    assert "invalid partition" in refused.lower()


def test_cancel_ends_what_runs_and_waits(world):
    world.more = LONG
    world.submit(hours="1")
    until(lambda: _processes(world), 60, "a job runs")
    assert "cancelled: " in world.slurm("cancel").stdout
    until(lambda: world.slurm("status", code=None).returncode == 1, 60, "nothing runs or waits")


def _processes(world) -> list[int]:
    """The processes that run cells of this test."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if (
            "submitit.core._submit" in command
            and str(world.folder) in command
            and "srun" not in command
        ):
            found.append(int(path.name))
    return found


def test_thousands_of_cells_are_arrays_that_the_site_takes(world):
    """2,109 cells of Table 2 on the embedded world, a job each: MaxArraySize here is 1001."""
    command = [sys.executable, "-m", "slurm", "submit", "vtab1k/vit_micro/*", "--scale", "micro",
               "--results", str(world.results), "--work", str(world.folder / "work"), "--dry-run",
               "--data", str(world.folder / "no data"),
               "--device", "cpu", "--seconds", "60", "--hours", "0.01", "--cpus-per-task", "1"]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=world.cluster.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3, done.stderr
    assert "missing for " in done.stdout  # no data are packed here
    sizes = [int(number) + 1 for number in re.findall(r"#SBATCH --array=0-(\d+)%64", done.stdout)]
    cells = int(re.search(r"(\d+) cells chosen", done.stdout).group(1))
    assert cells > 2000
    assert max(sizes) == 1001
    assert sum(sizes) + len(re.findall(r"^# stage \d: 1 jobs$", done.stdout, re.M)) > 1500
    scripts = len(re.findall(r"^# (stage|tables)", done.stdout, re.M))
    assert done.stdout.count("# Slurm: sbatch: Job") == scripts >= 4
