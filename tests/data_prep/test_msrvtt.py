"""MSR-VTT from its own files: what is packed, left out by name, refused; going on after a kill."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from data_prep import cli
from data_prep.msrvtt import generated, lists, packed, video

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("videos", Path(__file__).with_name("videos.py"))
videos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(videos)

TRAIN = [f"video{k}" for k in (3, 1, 7, 0, 12)]
TEST = {"video5": "a man, playing video games", "video2": "a woman is COOKING", "video9": "cars"}


def _run(capsys, *argv):
    code = cli.main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _lists(root):
    train = {clip: [f"{clip} does {k}" for k in range(4)] for clip in TRAIN}
    videos.write_lists(root, train, TRAIN[:3], TEST)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small data set: clip k has k + 1 seconds; video7 is a WebM file."""
    root = tmp_path_factory.mktemp("files")
    _lists(root)
    (root / "videos").mkdir()
    for clip in (*TRAIN, *TEST):
        ending = ".webm" if clip == "video7" else ".mp4"
        videos.write(root / "videos" / f"{clip}{ending}", 10 * int(clip[5:]) + 10)
    return root


@pytest.fixture
def root(files, tmp_path):
    """A copy of it that may be damaged; videos are linked."""
    copy = tmp_path / "files"
    _lists(copy)
    (copy / "videos").mkdir()
    for path in (files / "videos").iterdir():
        (copy / "videos" / path.name).hardlink_to(path)
    return copy


def _options(root, data, *more):
    options = ["prepare", "msrvtt", "--root", root, "--data", data, "--size", "16", "--jobs", "1"]
    return [*options, "--vocab", generated.VOCABULARY, "--other-sizes", *more]


def _fits_small(monkeypatch):
    """Have a run on files take what is packed here."""
    small = dict(zip(packed.FITS["folder"], (994, 16), strict=True))
    monkeypatch.setitem(packed.FITS, "folder", small)


def _replace(root, name, content=None):
    """Replace a linked video, or remove it."""
    path = root / "videos" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_clips_captions_and_lists_are_packed(capsys, files, tmp_path, jobs, monkeypatch):
    assert _run(capsys, *_options(files, tmp_path, "--jobs", jobs))[0] == 0
    folder = tmp_path / "folder" / "msrvtt"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["size"] == 16
    train, test = (load_file(folder / f"{split}.frames.safetensors") for split in ("train", "test"))
    assert train["frames"].shape == (5, 12, 3, 16, 16)
    assert train["counts"].tolist() == [4, 2, 8, 1, 12]
    assert test["counts"].tolist() == [6, 3, 10]
    # Thirteen seconds: twelve of them.
    seconds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert videos.numbers_of(train["frames"][4]) == [10 * k for k in seconds]
    assert videos.numbers_of(train["frames"][0][:4]) == [0, 10, 20, 30]
    assert not train["frames"][0][4:].any()
    captions = load_file(folder / "train.captions.safetensors")
    assert captions["clips"].tolist() == [k for k in range(5) for _ in range(4)]
    assert captions["tokens"].shape == (20, 32)
    ends = captions["tokens"].argmax(axis=1)
    assert (captions["lengths"] == ends + 1).all()
    lines = (folder / "train.caps.txt").read_text().splitlines()
    # Clips stand in the order of the list, sentences in that of the annotations.
    assert [line.split()[0] for line in lines] == [c for c in TRAIN for _ in range(4)]
    assert sorted(lines[:4]) == [f"video3 does {k}" for k in range(4)]
    assert (folder / "test.caps.txt").read_text().splitlines() == list(TEST.values())
    assert (folder / "train.clips.txt").read_text().splitlines() == TRAIN
    rows_of = load_file(folder / "lists.safetensors")
    assert {name: rows.tolist() for name, rows in rows_of.items()} == {
        "train_9k": [0, 1, 2, 3, 4],
        "train_7k": [0, 1, 2],
        "test_1ka": [0, 1, 2],
    }
    code, out, _ = _run(capsys, "verify", "msrvtt", "--data", tmp_path)
    assert code == 1
    assert "the data have 994 tokens in the vocabulary, a run's backbone has 49408" in out
    assert "the data have 16 pixels in height and width, a run's backbone has 224" in out
    _fits_small(monkeypatch)
    assert _run(capsys, "verify", "msrvtt", "--data", tmp_path)[0] == 0
    assert "already there" in _run(capsys, *_options(files, tmp_path))[1]
    assert "prepared: folder" in _run(capsys, "ls", "--data", tmp_path)[1]
    sheet = tmp_path / "sheet.png"
    assert _run(capsys, "show", "msrvtt", "--data", tmp_path, "--out", sheet)[0] == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_read_is_left_out_by_name(capsys, root, tmp_path, monkeypatch):
    _replace(root, "video3.mp4", b"not a video")
    _replace(root, "video2.mp4")
    videos.write_audio(_replace(root, "video0.mp4"))
    code, _, err = _run(capsys, *_options(root, tmp_path))
    assert code == 3
    assert "train: 2 of 5 clips left out" in err
    assert "video3: not a readable video" in err
    assert "video0: no video stream in it (audio)" in err
    assert "video2: no such file" in err
    folder = tmp_path / "folder" / "msrvtt"
    splits = json.loads((folder / "manifest.json").read_text())["splits"]
    assert splits["train"]["left_out"].keys() == {"video3", "video0"}
    assert splits["test"]["left_out"] == {"video2": "no such file"}
    counts = load_file(folder / "train.frames.safetensors")["counts"]
    assert counts.tolist() == [0, 2, 8, 0, 12]
    captions = load_file(folder / "train.captions.safetensors")
    assert sorted(set(captions["clips"].tolist())) == [1, 2, 4]
    assert len((folder / "train.caps.txt").read_text().splitlines()) == 12
    rows_of = load_file(folder / "lists.safetensors")
    assert rows_of["train_9k"].tolist() == [1, 2, 4]
    assert rows_of["train_7k"].tolist() == [1, 2]
    _fits_small(monkeypatch)
    code, out, _ = _run(capsys, "verify", "msrvtt", "--data", tmp_path)
    assert code == 0
    assert "test: 1 of 3 clips left out" in out


def _lost_list(root):
    (root / "MSRVTT_train.7k.csv").unlink()
    return ["no MSRVTT_train.7k.csv: an incomplete copy"]


def _no_sentences(root):
    (root / "MSRVTT_data.json").write_text('{"videos": []}')
    return ["MSRVTT_data.json: not MSR-VTT's annotations", "'sentences'"]


def _empty_sentence(root):
    path = root / "MSRVTT_data.json"
    path.write_text(path.read_text().replace("video3 does 0", " "))
    return ["MSRVTT_data.json: sentence 0 (from 0 on) is empty"]


def _other_column(root):
    path = root / "MSRVTT_JSFUSION_test.csv"
    path.write_text(path.read_text().replace("sentence", "text"))
    return ["MSRVTT_JSFUSION_test.csv: no sentence in it"]


def _twice(root):
    with (root / "MSRVTT_train.9k.csv").open("a") as file:
        file.write("video1\n")
    return ["MSRVTT_train.9k.csv, row 6: video1 is already in row 2"]


def _stranger(root):
    with (root / "MSRVTT_train.9k.csv").open("a") as file:
        file.write("video99\n")
    return ["MSRVTT_train.9k.csv: video99 is not in MSRVTT_data.json"]


def _on_both_sides(root):
    with (root / "MSRVTT_train.9k.csv").open("a") as file:
        file.write("video5\n")
    return ["MSRVTT_JSFUSION_test.csv: video5 is also in MSRVTT_train.9k.csv"]


def _no_subset(root):
    with (root / "MSRVTT_train.7k.csv").open("a") as file:
        file.write("video5\n")
    return ["MSRVTT_train.7k.csv: video5 is not in MSRVTT_train.9k.csv"]


def _no_videos(root):
    for path in (root / "videos").iterdir():
        path.unlink()
    return ["no video3.mp4 or video3.webm", "--videos"]


def _no_test_videos(root):
    for clip in TEST:
        _replace(root, f"{clip}.mp4")
    return ["test: none of its 3 clips can be read; video5: no such file"]


@pytest.mark.parametrize(
    "damage",
    [
        _lost_list,
        _no_sentences,
        _empty_sentence,
        _other_column,
        _twice,
        _stranger,
        _on_both_sides,
        _no_subset,
        _no_videos,
        _no_test_videos,
    ],
)
def test_damage_is_refused_with_file_and_place(capsys, root, tmp_path, damage):
    expected = damage(root)
    data = tmp_path / "data"
    code, out, err = _run(capsys, *_options(root, data))
    assert (code, out) == (1, "")
    message = err.splitlines()[-1]
    assert all(part in message for part in expected), message
    assert not list(data.rglob("*.safetensors"))


def test_other_sizes_have_to_be_asked_for(capsys, root, tmp_path, monkeypatch):
    options = [option for option in _options(root, tmp_path) if option != "--other-sizes"]
    code, _, err = _run(capsys, *options)
    assert code == 1
    assert "5 clips; MSR-VTT's has 9,000" in err
    names = (lists.TRAIN_9K, lists.TRAIN_7K, lists.TEST_1KA)
    monkeypatch.setattr(lists, "CLIPS", dict(zip(names, (5, 3, 3), strict=True)))
    code, _, err = _run(capsys, *options)
    assert code == 1
    assert "video3 has 4 sentences instead of 20" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["prepare", "msrvtt", "--source", "folder"], "needs --root"),
        (["prepare", "msrvtt", "--videos", "x"], "--videos is for --source folder"),
        (["prepare", "msrvtt", "--source", "tfds"], "embedded and folder do"),
        (["verify", "msrvtt/train"], "no tasks to select"),
    ],
)
def test_usage_errors(capsys, tmp_path, options, expected):
    code, out, err = _run(capsys, *options, "--data", tmp_path)
    assert (code, out) == (2, "")
    assert expected in err


def test_verify_names_what_was_changed(capsys, files, tmp_path):
    assert _run(capsys, *_options(files, tmp_path))[0] == 0
    path = tmp_path / "folder" / "msrvtt" / "test.frames.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    code, out, _ = _run(capsys, "verify", "msrvtt", "--data", tmp_path)
    assert code == 1
    assert "test.frames.safetensors: sha256 differs" in out
    path.unlink()
    assert _run(capsys, "verify", "msrvtt", "--data", tmp_path)[0] == 3


@pytest.fixture
def decoded(monkeypatch):
    """The names of the videos that are decoded in this process."""
    found, read = [], video.read
    monkeypatch.setattr(
        video, "read", lambda path, size: (found.append(path.name), read(path, size))[1]
    )
    return found


def test_force_decodes_what_is_new_or_changed_alone(capsys, files, root, tmp_path, decoded):
    _replace(root, "video0.mp4")
    assert _run(capsys, *_options(root, tmp_path))[0] == 3
    assert len(decoded) == len(TRAIN) + len(TEST) - 1
    videos.write(root / "videos" / "video0.mp4", 10)
    (root / "videos" / "video0.mp4").rename(root / "videos" / "video0.MP4")  # as some cameras do
    changed = _replace(root, "video9.mp4")
    videos.write(changed, 50)
    folder = tmp_path / "folder" / "msrvtt"
    frames = folder / "train.frames.safetensors"
    content = bytearray(frames.read_bytes())
    content[-1] ^= 1  # in the row of video12
    frames.write_bytes(bytes(content))
    decoded.clear()
    assert _run(capsys, *_options(root, tmp_path, "--force"))[0] == 0
    assert sorted(decoded) == ["video0.MP4", "video12.mp4", "video9.mp4"]
    decoded.clear()
    assert _run(capsys, *_options(root, tmp_path / "anew"))[0] == 0
    assert len(decoded) == len(TRAIN) + len(TEST)
    for path in (tmp_path / "anew" / "folder" / "msrvtt").iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    decoded.clear()
    assert _run(capsys, *_options(root, tmp_path, "--force", "--size", "8"))[0] == 0
    assert len(decoded) == len(TRAIN) + len(TEST)  # other frames are wanted of each
    (folder / "train.journal.jsonl").unlink()
    (folder / "test.clips.txt").write_bytes(b"\xff")
    decoded.clear()
    assert _run(capsys, *_options(root, tmp_path, "--force", "--size", "8"))[0] == 0
    assert len(decoded) == len(TRAIN) + len(TEST)


def test_of_two_videos_of_a_clip_the_one_of_the_usual_name_is_taken(root):
    for name in ("video3.MP4", "video3.WebM", "video7.WEBM"):
        (root / "videos" / name).write_bytes(b"")
    found = lists.find_videos(root, ["video3", "video7"])
    assert [path.name for path in found.values()] == ["video3.mp4", "video7.webm"]
    (root / "videos" / "video3.mp4").unlink()
    (root / "videos" / "video7.webm").unlink()
    found = lists.find_videos(root, ["video3", "video7"])
    assert [path.name for path in found.values()] == ["video3.MP4", "video7.WEBM"]


def test_a_killed_run_goes_on_where_it_was(capsys, files, tmp_path, monkeypatch):
    """Killed without warning while it decodes; what was done is kept, and the bytes are those of one run."""
    assert _run(capsys, *_options(files, tmp_path / "whole"))[0] == 0
    data = tmp_path / "parts"
    slow = (
        "import sys, time\nfrom data_prep import cli\nfrom data_prep.msrvtt import video\n"
        "read = video.read\n"
        "video.read = lambda *args: (time.sleep(0.3), read(*args))[1]\n"
        "cli.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", slow, *map(str, _options(files, data))]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal = data / "folder" / ".msrvtt.partial" / "train.journal.jsonl"
    until = time.monotonic() + 60
    while not journal.exists() or journal.read_text().count("\n") < 2:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with journal.open("a") as file:
        file.write('{"clip": "vid')  # as a line that was being written
    done = journal.read_text().count("\n")
    assert 2 <= done < len(TRAIN)
    frames = journal.with_name("train.frames.safetensors")
    content = bytearray(frames.read_bytes())
    first = len(content) - 5 * 12 * 3 * 16 * 16
    content[first] ^= 1  # the first clip's row is not what the journal says
    frames.write_bytes(bytes(content))
    decoded = []
    read = video.read
    monkeypatch.setattr(
        video, "read", lambda path, size: (decoded.append(path.stem), read(path, size))[1]
    )
    assert _run(capsys, *_options(files, data))[0] == 0
    assert sorted(decoded) == sorted([TRAIN[0], *TRAIN[done:], *TEST])
    whole, parts = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "folder/msrvtt").iterdir()}
        for name in ("whole", "parts")
    )
    assert whole == parts
