"""The missing cells as jobs: order, length, what is left out, and the words of the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness.execute import Settings
from benchmarks.harness.registry import BENCHMARKS, select
from slurm import planning, scheduler, submitting
from slurm.cli import main
from slurm.planning import STAGE1, STAGE2, TIMED, plan
from slurm.scheduler import JobState
from slurm.submission import Submission, Submitted

RESULTS = Path(__file__).parents[2] / "results"
BLOCK = ["vtab1k/vit_b16/[ep][ue][rt]*/lora-r8*/0"]  # EuroSAT and Pets: 7 cells each


@pytest.fixture
def settings(tmp_path):
    return Settings(scale="paper", results=tmp_path / "results", work=tmp_path / "work")


def planned(settings, selectors, seconds=lambda cell: 600.0, hours=1.0, device="cuda"):
    return plan(select(selectors, settings.scale), settings, seconds, hours=hours, device=device)


def test_stage_1_comes_first_and_the_others_after_it(settings):
    found = planned(settings, BLOCK)
    assert [job.array for job in found.jobs] == [STAGE1, STAGE2, STAGE2]
    first, *second = found.jobs
    assert [cell.method for cell in first.cells] == ["lora-r8", "lora-r8"]
    assert first.seconds == 1200
    for job in second:
        # Six cells of ten minutes fill an hour; they share the checkpoint of one base.
        assert job.seconds == 3600
        assert len({cell.base for cell in job.cells}) == 1
        assert all("+" in cell.method for cell in job.cells)
    every = [cell for job in found.jobs for cell in job.cells]
    assert sorted(every) == sorted(select(BLOCK, "paper"))
    assert len(set(every)) == len(every) == 14


def test_a_stage_1_that_was_not_chosen_is_planned_where_its_checkpoint_is_missing(settings):
    found = planned(settings, ["vtab1k/vit_b16/pets/lora-r8+linear/0"])
    assert [[str(cell) for cell in job.cells] for job in found.jobs] == [
        ["vtab1k/vit_b16/pets/lora-r8/0"],
        ["vtab1k/vit_b16/pets/lora-r8+linear/0"],
    ]


def test_what_has_a_record_is_not_planned():
    settings = Settings(scale="micro", results=RESULTS, work=Path("nowhere"))
    found = planned(settings, ["vtab1k/vit_micro/*/lora-r8+linear"])
    assert found.jobs == ()
    assert found.done == 57


@pytest.mark.parametrize(("hours", "jobs"), [(0.1, 14), (1 / 3, 7), (0.5, 5), (10, 1)])
def test_jobs_are_filled_up_to_their_length(settings, hours, jobs):
    """14 cells of ten minutes without a second stage: two in 20 minutes, three in half an hour."""
    selector = ["vtab1k/vit_b16/[cdfps]*/bitfit/0"]
    cells = select(selector, "paper")[:14]
    found = plan(cells, settings, lambda cell: 600.0, hours=hours, device="cuda")
    assert len(found.jobs) == jobs == -(-len(cells) // max(1, int(6 * hours)))
    assert all(job.seconds <= 3600 * max(hours, 1 / 6) for job in found.jobs)


def test_a_cell_of_unknown_length_has_a_job_of_its_own(settings):
    known = {"linear": 60.0}
    found = planned(
        settings,
        ["vtab1k/vit_b16/pets/linear/*", "vtab1k/vit_b16/pets/bitfit/*"],
        seconds=lambda cell: known.get(cell.method),
    )
    seeds = len(BENCHMARKS["vtab1k"].scales["paper"].seeds)
    lengths = [job.seconds for job in found.jobs]
    assert lengths.count(None) == seeds
    assert [length for length in lengths if length] == [60.0 * seeds]
    assert found.hours("cuda") is None
    assert found.wall_hours(4) is None


def test_cells_that_time_run_last_alone_and_on_their_device(settings):
    found = planned(settings, ["cost/*", "vtab1k/vit_b16/pets/linear/0"])
    assert found.jobs[0].array == STAGE1
    timed = found.jobs[1:]
    assert {job.array for job in timed} == {TIMED}
    assert all(len(job.cells) == 1 for job in timed)
    for job in timed:
        assert job.device == job.cells[0].task.partition("-")[0]


def test_hours_and_wall_time_by_hand(settings):
    """Stage 1: two cells in one job, 20 minutes. Stage 2: two jobs of an hour."""
    found = planned(settings, BLOCK)
    assert found.hours("cuda") == pytest.approx(1 / 3 + 2)
    assert found.wall_hours(2) == pytest.approx(1 / 3 + 1)
    assert found.wall_hours(1) == pytest.approx(1 / 3 + 2)
    assert found.hours("cpu") == 0
    # Longest first on the worker that is free: 5 | 4, 3 -> 3 on the first? 5+3 | 4+3 = 8.
    assert planning._makespan([3, 5, 4, 3], 2) == 8
    assert planning._makespan([], 2) == 0


def test_lengths_come_from_the_records():
    settings = Settings(scale="micro", results=RESULTS, work=Path("nowhere"))
    seconds = planning.by_records(settings, lambda cell: 7.0)
    (cell, *_) = select(["vtab1k/vit_micro/svhn/lora-r8/0"], "micro")
    assert 3 < seconds(cell) < 60
    (unknown, *_) = select(["vtab1k/swin_micro/svhn/fact-tk/0"], "micro")
    assert seconds(unknown) == 7.0


def test_the_command(tmp_path, capsys):
    folders = ["--results", str(tmp_path), "--work", str(tmp_path)]
    assert main(["plan", *BLOCK, *folders, "--seconds", "600", "--hours", "1"]) == 0
    out = capsys.readouterr().out
    assert "14 cells chosen at scale paper, 0 done before" in out
    assert (
        "4 jobs for 14 cells, 2.3 GPU hours; with 8 jobs at the same time about 80 minutes" in out
    )
    assert main(["plan", *BLOCK, *folders]) == 0
    assert "their time is not known: no record of lora-r8 on vit_b16" in capsys.readouterr().out
    assert main(["plan", *BLOCK, *folders, "--seconds", "600", "--cells"]) == 0
    assert "  vtab1k/vit_b16/pets/lora-r8+cosine/0" in capsys.readouterr().out


def test_nothing_to_do_and_bad_input(tmp_path, capsys):
    done = ["vtab1k/vit_micro/pets/lora-r8+linear/0", "--scale", "micro", "--results", str(RESULTS)]
    assert main(["plan", *done]) == 0
    assert capsys.readouterr().out.endswith("nothing to do\n")
    assert main(["plan", "vtab1k/vit_b16/pets/lora-r9", "--results", str(tmp_path)]) == 2
    assert "did you mean 'lora-r8'?" in capsys.readouterr().err
    for bad in (["--hours", "0"], ["--parallel", "0"], ["--device", "tpu"]):
        with pytest.raises(SystemExit) as stop:
            main(["plan", *BLOCK, *bad])
        assert stop.value.code == 2


def test_an_estimate_is_asked_once_for_a_method_on_a_backbone(settings):
    asked = []
    seconds = planning.by_records(settings, lambda cell: asked.append(cell.method) or 5.0)
    for cell in select(["vtab1k/vit_b16/*/linear/0", "vtab1k/vit_b16/*/bitfit/0"], "paper"):
        assert seconds(cell) == 5.0
    assert sorted(asked) == ["bitfit", "linear"]


def test_the_benchmarks_own_estimate(settings, monkeypatch):
    monkeypatch.setattr(planning, "expected_seconds", lambda cell, settings: (12.0, "a step"))
    found = planned(
        settings, BLOCK, seconds=planning.by_records(settings, planning.measured(settings))
    )
    assert found.hours("cuda") == pytest.approx(14 * 12 / 3600)


def test_a_stage_1_of_another_submission_is_left_to_it(settings, monkeypatch):
    (second,) = select(["vtab1k/vit_b16/pets/lora-r8+linear/0"], "paper")
    assert len(plan([second], settings, lambda cell: 1.0, hours=1, device="cpu").jobs) == 2
    found = plan(
        [second], settings, lambda cell: 1.0, hours=1, device="cpu", elsewhere={second.base}
    )
    assert [job.cells for job in found.jobs] == [(second,)]
    # A job that starts from a stage 1 without a record may train it: it has that cell too.
    states = {"7_0": JobState("RUNNING"), "7_1": JobState("COMPLETED"), "8": JobState("PENDING")}
    monkeypatch.setattr(scheduler, "states", lambda ids: states)
    (other,) = select(["vtab1k/vit_b16/dtd/lora-r8+linear/0"], "paper")
    submissions = [
        Submission(
            folder=Path("a"),
            jobs=(
                Submitted(id="7_0", array=STAGE2, cells=(second,)),
                Submitted(id="7_1", array=STAGE2, cells=(other,)),
                Submitted(id="8", array="tables", cells=()),
            ),
        )
    ]
    expected = {second: "7_0", second.base: "7_0"}
    assert submitting.active_cells(submissions, settings) == expected
