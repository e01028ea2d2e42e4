"""What a person types on a cluster of three nodes: names that do not exist, folders, parts of a plan."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.vtab1k.spec import VTAB1K
from slurm.cli import main
from tests.benchmarks.packed import pack_task
from tests.slurm.cluster import until
from tests.slurm.conftest import ROOT
from tests.slurm.test_on_a_cluster import EPOCHS, LONG, SMALL

EUROSAT = "vtab1k/vit_micro/eurosat/lora-r2"


@pytest.fixture
def ask(world, monkeypatch, capsys):
    """The command in this process: its exit code, and what it prints."""
    for name, value in world.cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)

    def run(*arguments: str) -> tuple[int, str]:
        # The last job of what is submitted builds tables.
        tables = ["--tables", str(world.folder / "tables")] if "submit" in arguments[0] else []
        code = main([arguments[0], *world.places, *tables, *arguments[1:]])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize("how", [["--dry-run"], []], ids=["dry-run", "submit"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--partition", "mian"], "--partition mian; did you mean 'main'? (sinfo"),
        (["--constraint", "a100"], "nvalid feature specification: --constraint a100 (sinfo"),
        (["--exclude", "n9"], "--exclude n9; did you mean 'n"),
        (["--slurm-extra", "nonsense=1"], "unrecognized option '--nonsense=1'"),
        (["--cpus-per-task", "64"], "Requested node configuration is not available"),
        (["--partition", "short", "--time", "60"], "above that of the partition short, 2 min"),
        (["--time", "1"], "is too short for a signal"),
    ],
)
def test_what_the_site_does_not_have_is_named(world, ask, flags, said, how):
    code, told = ask("submit", EUROSAT + "*", *SMALL, *flags, *how)
    assert code == 2
    assert said in told
    (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert said in error
    assert not list(world.folder.rglob("submission.json"))
    assert not list(world.folder.glob("work/smoke/slurm/*/"))


def test_names_of_cells_that_do_not_exist(ask):
    code, told = ask("logs", "vtab1k/vit_micro/eurosat/lora-r9/0")
    assert code == 2
    assert "did you mean 'lora-r" in told
    code, told = ask("logs", f"{EUROSAT}/0")
    assert code == 2
    assert "was not submitted at scale smoke" in told
    code, told = ask("status")
    assert code == 0
    assert "nothing was submitted at scale smoke in" in told
    assert "(--work chooses the folder)" in told
    code, told = ask("cancel", "vtab1k/vit_micro/eurosatt")
    assert code == 2
    assert "did you mean 'eurosat'?" in told


def test_another_working_directory_a_path_with_spaces_and_one_job(world):
    """A cell alone is no array; everything is relative to where the command was typed."""
    folder = world.folder / "my own runs"
    folder.mkdir()
    environment = world.cluster.environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    places = ["--scale", "smoke", "--set", "backbone.weights=random", "--results", "my results",
              "--work", "my work", "--data", os.path.relpath(world.data, folder)]  # fmt: skip

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "slurm", arguments[0], *places, *arguments[1:]]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
        )

    done = ask("submit", f"{EUROSAT}/0", *SMALL, "--tables", "my tables")
    assert done.returncode == 0, done.stderr
    until(lambda: ask("status").returncode == 0, 120, "the cell is done")
    assert (folder / "my results" / "smoke" / f"{EUROSAT}/0.json").exists()
    assert (folder / "my tables" / "smoke" / "index.html").exists()
    assert f"{EUROSAT}/0 ok" in ask("logs", f"{EUROSAT}/0").stdout
    # Records that have been moved are found where they are said to be; elsewhere the cell is lost.
    (folder / "my results").rename(folder / "elsewhere")
    lost = ask("status")
    assert lost.returncode == 1
    assert "no record in my results/smoke; its job ended as COMPLETED" in lost.stdout
    assert ask("status", "--results", "elsewhere").returncode == 0


def test_a_stage_1_that_another_submission_trains_is_waited_for(world, ask):
    world.more = ["--set", f"stage1.epochs={EPOCHS}"]
    code, told = ask("submit", f"{EUROSAT}/0", *SMALL)
    assert code == 0, told
    first = world.jobs()[0]["id"]
    code, told = ask("submit", f"{EUROSAT}[+]linear/0", *SMALL)
    assert code == 0, told
    assert [job["array"] for job in world.jobs()] == ["stage 2", "tables"]
    second = world.jobs()[0]["id"]
    assert f"afterany:{first}" in world.cluster.run("scontrol", "show", "job", second)
    # What the second stage may have to train itself is not submitted again either.
    assert "left out: 1 cells" in ask("submit", f"{EUROSAT}/0", *SMALL)[1]
    world.wait(240)
    logs = "".join(path.read_text() for path in world.folder.rglob("*_0_log.out"))
    assert len(re.findall(f"^{EUROSAT}/0 ok$", logs, re.M)) == 1
    assert logs.count(f"{EUROSAT}/0 epoch 1 of ") == 1


def test_a_part_is_cancelled_and_submitted_again(world, ask):
    world.more = LONG
    world.submit()
    code, told = ask("cancel", "vtab1k/vit_micro/dmlab")
    assert code == 0
    cancelled = int(re.search(r"cancelled: (\d+) jobs", told).group(1))
    assert cancelled >= 1
    world.wait(240, code=1)
    done = world.records()
    assert {name for name in done if "eurosat" in name and done[name]["status"] == "ok"}
    assert len(done) < 12
    code, told = ask("resubmit", "--missing", *SMALL)
    assert code == 0, told
    world.wait(240)
    assert len(world.records()) == 12
    same = {name: world.records()[name]["record_sha256"] for name in done}
    assert same == {name: record["record_sha256"] for name, record in done.items()}


def test_1500_cells_at_once(world, ask, tmp_path):
    """A job each, held: arrays of at most MaxArraySize, each after the stage before it; then cancelled."""
    for task in VTAB1K.tasks:
        pack_task(tmp_path / "all", task.name, task.num_classes, n=2)
    places = ["--scale", "micro", "--data", str(tmp_path / "all"), "--results", str(world.results),
              "--work", str(world.folder / "work")]  # fmt: skip
    asked = ["--device", "cpu", "--seconds", "60", "--hours", "0.01", "--cpus-per-task", "1"]
    assert main(["submit", "vtab1k/vit_micro/*", *places, *asked, "--slurm-extra", "hold="]) == 0
    queued = world.cluster.run("squeue", "-h", "--array", "--me", "-o", "%i %j").splitlines()
    cells = [line for line in queued if "tables" not in line]
    assert len(cells) > 1500
    assert len(queued) == len(cells) + 1
    sizes: dict[str, int] = {}
    for line in cells:
        base = line.split()[0].partition("_")[0]
        sizes[base] = sizes.get(base, 0) + 1
    assert max(sizes.values()) <= 1001
    assert len(sizes) >= 3
    assert main(["status", *places]) == 3
    assert main(["cancel", *places]) == 0
    until(lambda: not world.cluster.run("squeue", "-h", "--me"), 60, "the queue is empty")
    assert main(["status", *places]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_named(world, ask):
    closed = Path(world.folder / "work")
    closed.mkdir(mode=0o500)
    code, told = ask("submit", EUROSAT + "*", *SMALL)
    assert code == 2
    assert f"error: {closed}" in told
    assert "Permission denied" in told
