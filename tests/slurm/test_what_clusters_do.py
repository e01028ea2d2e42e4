"""What takes time on a cluster: limits, dead nodes, a stopped controller, accounting."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys

import pytest

from tests.slurm.cluster import Cluster, until
from tests.slurm.conftest import ROOT, World, require
from tests.slurm.test_on_a_cluster import LONG, SMALL, _processes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Three nodes with accounting; as root each in a namespace of its own, so that it can be killed whole."""
    require(accounting=True)
    with Cluster(cpus=2, accounting=True, own_names=os.geteuid() == 0) as found:
        yield found


@pytest.fixture
def world(cluster, packed, tmp_path):
    yield World(cluster, tmp_path, packed)
    cluster.run("scancel", "--me", check=False)
    until(lambda: not cluster.run("squeue", "-h", "--me"), 90, "the queue is empty")


def complete(world, seconds):
    world.wait(seconds)
    records = world.records()
    assert len(records) == 12
    assert {record["status"] for record in records.values()} == {"ok"}


def test_a_grid_with_accounting(world):
    world.submit()
    complete(world, 240)


def test_a_dead_node_does_not_take_its_cells_along(world):
    if not world.cluster.own_names:
        pytest.skip("a node can be killed whole by root alone")
    world.more = LONG
    world.submit(hours="1")
    until(lambda: _processes(world), 60, "a job runs")
    node = world.cluster.run("squeue", "-h", "-t", "running", "-o", "%N").split()[0]
    world.cluster.kill_node(node)
    complete(world, 400)
    world.cluster.start_node(node)


def test_a_job_that_runs_into_its_limit_goes_on(world):
    world.more = ["--set", "stage1.epochs=250", "--set", "stage2.epochs=40"]
    world.submit("--time", "1", "--signal-delay-s", "40", hours="1")
    complete(world, 600)
    starts = world.logs().count("Starting with JobEnvironment")
    assert "timed-out" in world.logs() or "timed out" in world.logs()
    assert world.repeated_epochs() <= starts - len(world.jobs())
    assert world.logs().count(" ok\n") == 12


def test_what_ran_into_its_limit_too_often_is_lost_and_resubmitted(world):
    world.more = ["--set", "stage1.epochs=400"]
    limit = ["--time", "1", "--signal-delay-s", "40", "--max-requeue", "0"]
    world.submit(*limit, selector="vtab1k/vit_micro/*/lora-r2/0", hours="1")
    said = world.wait(300, code=1)
    assert "its job ended as" in said
    world.slurm("resubmit", "--missing", "--time", "60", *SMALL)
    world.wait(600)
    assert {record["status"] for record in world.records().values()} == {"ok"}
    assert world.repeated_epochs() <= 1


def test_the_controller_may_stop_and_start(world):
    world.more = LONG
    world.submit(hours="1")
    until(lambda: _processes(world), 60, "a job runs")
    command = [sys.executable, "-m", "slurm", "status", *world.places, "--watch", "1"]
    log = world.folder / "watch"
    with log.open("w") as file:
        watch = subprocess.Popen(command, cwd=ROOT, env=world.cluster.environment, stdout=file)
    until(lambda: "running" in log.read_text(), 60, "the watch says something")
    world.cluster.stop_controller()
    error = world.slurm("status", code=2).stderr
    assert "squeue failed and says: " in error
    # Watching goes on.
    until(lambda: "asking again" in log.read_text(), 60, "the watch waits")
    short = world.slurm("status", "--watch", "1", "--deadline-hours", "0.001", code=3).stdout
    assert "stopped watching after 0.001 hours; the jobs continue" in short
    world.cluster.start_controller()
    complete(world, 300)
    assert watch.wait(60) == 0


def test_accounts_and_qualities_of_service_where_a_site_enforces_them(packed, tmp_path):
    require(accounting=True)
    with Cluster(nodes=1, accounting=True, enforced=True) as cluster:
        manage = ("sacctmgr", "-i", "-Q")
        cluster.run(*manage, "add", "qos", "long")
        for name in ("vision", "language"):
            cluster.run(*manage, "add", "account", name, "cluster=test")
        me = getpass.getuser()
        cluster.run(*manage, "add", "user", me, "account=vision", "qos=normal,long", check=False)
        cluster.run(*manage, "modify", "user", me, "set", "qos=normal,long")
        world = World(cluster, tmp_path, packed)
        for asked, said in (
            (["--account", "vison"], "--account vison; did you mean 'vision'? (sacctmgr "),
            (["--account", "language"], "--account language"),  # known, but not to this user
            (
                ["--account", "vision", "--qos", "lnog"],
                "--qos lnog; did you mean 'long'? (sacctmgr ",
            ),
        ):
            assert said in world.submit(*asked, code=2).stderr
            assert not cluster.run("squeue", "-h", "--me")
        world.submit("--account", "vision", "--qos", "long")
        kept = cluster.run("squeue", "-h", "--me", "-o", "%a %q")
        assert set(kept.splitlines()) == {"vision long"}
        complete(world, 240)
