"""``python -m data_prep``: selection, exit codes, messages."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from data_prep import cli, pack, sheet
from data_prep.embedded import source as embedded
from data_prep.embedded.fewshot import SETS
from data_prep.embedded.source import Embedded
from data_prep.embedded.vtab1k import TASKS, generate

ROOT = Path(__file__).resolve().parents[2]


def _run(capsys, *argv):
    code = cli.main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _select(selector):
    return cli.select(selector, Embedded())


def test_ls_names_every_task_and_what_is_prepared(capsys, tmp_path):
    pack.pack_task(tmp_path, Embedded(0), _select("vtab1k/dsprites_ori")[0])
    code, out, _ = _run(capsys, "ls", "--data", str(tmp_path))
    assert code == 0
    *lines, last, clips = out.splitlines()[1:]
    assert last.startswith("flickr30k: ")
    assert clips.startswith("msrvtt: ")
    rows = {line.split()[0]: line.split() for line in lines}
    shots = {f"fewshot/{one.name}" for one in SETS}
    assert set(rows) == {f"vtab1k/{task.name}" for task in TASKS} | shots
    assert {name for name, row in rows.items() if row[3] == "embedded"} == {"vtab1k/dsprites_ori"}


def test_select_takes_globs():
    assert [task.name for task in _select("vtab1k/dsprites_*")] == [
        "dsprites_loc",
        "dsprites_ori",
    ]
    assert _select("vtab1k") == list(TASKS)


@pytest.mark.parametrize(
    ("selector", "what", "nearest"),
    [
        ("vtab1k/cifar10", "task", "vtab1k/cifar100"),
        ("vtab1k/smallnorb_azimuth", "task", "vtab1k/smallnorb_azim"),
        ("vtab/svhn", "data set", "vtab1k"),
        ("zzz", "data set", "vtab1k"),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "verify", "show"])
def test_unknown_name_is_one_line_with_the_nearest(capsys, command, selector, what, nearest):
    code, out, err = _run(capsys, command, selector)
    name = selector if what == "task" else selector.partition("/")[0]
    assert code == 2
    assert out == ""
    assert err == (
        f"unknown {what} '{name}'; nearest: '{nearest}'; 'python -m data_prep ls' lists them\n"
    )


@pytest.mark.parametrize("argv", [[], ["prepare"], ["cook", "vtab1k"], ["prepare", "vtab1k", "-x"]])
def test_usage_errors_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as raised:
        cli.main(argv)
    assert raised.value.code == 2


def test_prepare_verify_and_skip(capsys, tmp_path):
    where = ["vtab1k/dsprites_*", "--data", str(tmp_path)]
    assert _run(capsys, "verify", *where)[0] == 3
    code, out, _ = _run(capsys, "prepare", *where, "--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["prepare", "prepare", "needed:"]
    assert list(tmp_path.iterdir()) == []

    assert _run(capsys, "prepare", *where)[0] == 0
    assert _run(capsys, "verify", *where)[0] == 0
    files = sorted(tmp_path.rglob("*.*"))
    times = [path.stat().st_mtime_ns for path in files]
    code, out, err = _run(capsys, "prepare", *where)
    assert (code, err) == (0, "")
    assert "0 prepared, 2 already there, 0 failed" in out
    assert [path.stat().st_mtime_ns for path in files] == times

    victim = tmp_path / "embedded/vtab1k/dsprites_ori/val200.safetensors"
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, out, _ = _run(capsys, "verify", *where)
    assert code == 1
    assert str(victim) in out
    code, out, _ = _run(capsys, "prepare", *where)
    assert "1 prepared, 1 already there" in out
    assert victim.read_bytes() == content

    victim.unlink()
    assert _run(capsys, "verify", *where)[0] == 3
    assert _run(capsys, "prepare", *where, "--force")[0] == 0
    assert _run(capsys, "verify", *where)[0] == 0


def test_one_failing_task_does_not_stop_the_others(capsys, tmp_path, monkeypatch):
    def broken(rng, labels, split):
        raise ValueError("no paint left")

    good, bad = _select("vtab1k/dsprites_*")
    tasks = (dataclasses.replace(good, render=broken), bad)
    monkeypatch.setattr(embedded, "TASKS", tasks)
    code, out, err = _run(capsys, "prepare", "vtab1k", "--data", str(tmp_path))
    assert code == 1
    assert "dsprites_loc: ValueError: no paint left" in err
    assert "1 prepared, 0 already there, 1 failed" in out
    assert pack.check_task(tmp_path, Embedded(0), bad).ok


def test_show_draws_a_row_a_task(capsys, tmp_path):
    out = tmp_path / "deep" / "sheet.png"
    code, printed, _ = _run(
        capsys, "show", "vtab1k/dsprites_*", "--data", str(tmp_path), "--out", str(out)
    )
    assert code == 0
    assert printed.strip() == str(out)
    with Image.open(out) as picture:
        assert picture.height > 2 * sheet.TILE
        assert picture.width >= sheet.COLUMNS * sheet.TILE


def test_sheet_rows_show_classes_in_order_and_many_in_pairs():
    for name, distinct in (("kitti_dist", 4), ("dsprites_ori", 12), ("resisc45", 6)):
        task = _select(f"vtab1k/{name}")[0]
        _, labels = generate(task, "train800", n=250)
        rows = sheet.choose(task, labels)
        assert len(set(rows.tolist())) == len(rows) == sheet.COLUMNS
        shown = labels[rows].tolist()
        assert shown == sorted(shown)
        assert len(set(shown)) == distinct


def test_light_commands_import_nothing_heavy(tmp_path):
    program = (
        "import sys\n"
        "from data_prep.cli import main\n"
        "assert main(['prepare', 'vtab1k/dsprites_loc', '--data', sys.argv[1]]) == 0\n"
        "assert main(['prepare', 'vtab1k/dsprites_loc', '--data', sys.argv[1]]) == 0\n"
        "assert main(['verify', 'vtab1k/dsprites_loc', '--data', sys.argv[1]]) == 0\n"
        "heavy = {'torch', 'timm', 'sklearn', 'pandas', 'matplotlib', 'PIL', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_long_words_of_a_caption_are_broken():
    font = ImageFont.load_default(11)
    lines = sheet.wrapped("HerbaceousVegetationOfAnyKind here", 60, font).splitlines()
    assert "".join(lines).startswith("HerbaceousVegetation")
    assert all(font.getlength(line) <= 60 for line in lines)
    assert sheet.wrapped("a word", 60, font) == "a word"
