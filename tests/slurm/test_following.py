"""What a log says of one of its cells: no Slurm is needed."""

from __future__ import annotations

import pytest

from benchmarks.harness.cell import Cell
from slurm import following, submission
from slurm.cli import main
from slurm.planning import STAGE1, STAGE2
from slurm.submission import Submitted

FIRST, SECOND, THIRD = (
    Cell.parse(f"vtab1k/vit_micro/{task}/lora-r2/0") for task in ("pets", "svhn", "dmlab")
)
LOG = f"""\
submitit INFO - Starting
3 cells, 0 done before
{FIRST} epoch 1 of 2
{FIRST} epoch 2 of 2
{FIRST} ok
a warning
{SECOND} epoch 1 of 2
{SECOND} cancelled: stopped by the user
submitit INFO - Starting
3 cells, 1 done before
{SECOND} epoch 2 of 2
{SECOND} failed: ValueError: no
"""


def test_a_log_is_cut_to_a_cell_over_all_attempts():
    lines = LOG.splitlines()
    assert following.part_of(lines, FIRST) == lines[:5]
    assert following.part_of(lines, SECOND) == lines[5:]
    assert following.part_of(lines, THIRD) == []
    # One that runs, or was killed, has no end yet.
    running = [*lines, f"{THIRD} epoch 1 of 2", "out of memory"]
    assert following.part_of(running, THIRD) == running[-2:]


@pytest.mark.parametrize("option", [[], ["--all"]], ids=["part", "all"])
def test_the_logs_of_a_cell_that_was_submitted_twice(tmp_path, capsys, monkeypatch, option):
    monkeypatch.setattr(following.scheduler, "states", lambda ids: {})
    root = submission.root(tmp_path, "smoke")
    for number, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        cells = (FIRST, SECOND, THIRD)
        submission.save(root / name, [Submitted(id=str(number), array=STAGE1, cells=cells)])
    asked = ["logs", "--scale", "smoke", "--work", str(tmp_path), "--results", str(tmp_path / "r")]
    assert main([*asked, str(SECOND), *option]) == 3
    said = capsys.readouterr().out
    assert "earlier: " in said
    assert "(never started)" in said
    assert "no log: its job never started" in said
    (log,) = (one.log(one.jobs[0]) for one in submission.load_all(root)[1:])
    log.parent.mkdir(parents=True)
    log.write_text(LOG)
    assert main([*asked, str(SECOND), *option]) == 0
    said = capsys.readouterr().out
    assert "(lost: no record in " in said
    assert f"{SECOND} failed: ValueError: no" in said
    assert (f"{FIRST} ok" in said) == bool(option)
    assert main([*asked, str(THIRD), *option]) == 0
    assert ("its job has not started it yet" in capsys.readouterr().out) == (not option)


def test_of_two_commands_the_second_does_not_wait_for_ever(tmp_path):
    with (
        submission.locked(tmp_path),
        pytest.raises(following.UsageError, match="another command uses"),
        submission.locked(tmp_path, seconds=0.3),
    ):
        pass
    with submission.locked(tmp_path, seconds=0):
        pass


def test_cells_that_wait_are_told_by_slurms_reason():
    job = Submitted(id="1", array=STAGE2, cells=(FIRST,))
    waiting = [
        following.Followed(
            cell=cell, state=following.WAITING, reason=reason, submission=None, job=job
        )
        for cell, reason in ((FIRST, "Dependency"), (SECOND, "Dependency"), (THIRD, ""))
    ]
    assert following.reasons(waiting) == {"Dependency": 2, "no reason given": 1}
