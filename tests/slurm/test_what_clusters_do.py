"""What takes time on a cluster: limits, dead nodes, a stopped controller, accounting."""

from __future__ import annotations

import os
import time

import pytest

from tests.slurm.cluster import Cluster, until
from tests.slurm.conftest import World, require
from tests.slurm.test_on_a_cluster import LONG, _processes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    """Three nodes with accounting; as root each in a namespace of its own, so that it can be killed whole."""
    require(accounting=True)
    with Cluster(cpus=2, accounting=True, own_names=os.geteuid() == 0, port=16950) as found:
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
    logs = "".join(path.read_text() for path in world.folder.rglob("*_0_log.out"))
    assert "timed-out" in logs or "timed out" in logs


def test_the_controller_may_stop_and_start(world):
    world.more = LONG
    world.submit(hours="1")
    until(lambda: _processes(world), 60, "a job runs")
    world.cluster.stop_controller()
    error = world.slurm("status", code=2).stderr
    assert "squeue failed and says: " in error
    time.sleep(3)
    world.cluster.start_controller()
    complete(world, 300)
