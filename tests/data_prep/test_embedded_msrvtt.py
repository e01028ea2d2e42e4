"""The embedded world's MSR-VTT: scenes, clips, captions; files in the real layout, packed from those."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.harness.errors import UsageError
from benchmarks.msrvtt.data import require
from data_prep import cli
from data_prep.embedded import msrvtt
from data_prep.embedded.msrvtt import captions, drawing, files, scene, upstream, vocabulary
from data_prep.embedded.msrvtt.lexicon import BROAD, CLIPS
from data_prep.msrvtt import generated
from data_prep.msrvtt.tokens import ClipTokens

WORDS = ClipTokens("clip_micro", generated.VOCABULARY)
COUNTS = {"train": 12, "test": 8, "held_out": 4}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    data = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(msrvtt, "SPLITS", COUNTS)
        assert cli.main(["prepare", "msrvtt", "--data", str(data), "--jobs", "1"]) == 0
    return data


def test_the_files_are_in_the_real_layout_and_packed(embedded, capsys):
    root, folder = embedded / "embedded/msrvtt-files", embedded / "embedded/msrvtt"
    assert len(list((root / "videos").glob("*.mp4"))) == 20
    made = json.loads((root / "MSRVTT_data.json").read_text())
    assert len(made["sentences"]) == 5 * 20
    with (root / "MSRVTT_JSFUSION_test.csv").open() as file:
        test = list(csv.DictReader(file))
    said = [clip.captions[0] for clip in msrvtt.generate("test", 0, 8)]
    assert [row["sentence"] for row in test] == said
    assert (folder / "test.caps.txt").read_text().splitlines() == said
    arrays = load_file(folder / "train.frames.safetensors")
    assert arrays["frames"].shape == (12, 12, 3, 32, 32)
    for row, clip in enumerate(msrvtt.generate("train", 0, 12)):
        assert arrays["counts"][row] == min(
            int(np.ceil(round(clip.scene.seconds * clip.scene.rate) / clip.scene.rate)), 12
        )
    captions_ = load_file(folder / "train.captions.safetensors")
    assert len(captions_["clips"]) == 60
    assert captions_["lengths"].max() < 32
    assert cli.main(["verify", "msrvtt", "--data", str(embedded)]) == 0


def test_a_part_has_the_same_clips_and_is_completed_later(embedded, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(msrvtt, "SPLITS", COUNTS)
    monkeypatch.setattr(generated, "COUNTS", {split: COUNTS[split] for split in generated.COUNTS})
    where = ["msrvtt", "--data", str(tmp_path)]
    part = ["prepare", *where, "--jobs", "1", "--first", "5"]
    whole, folder = embedded / "embedded/msrvtt", tmp_path / "embedded/msrvtt"
    assert cli.main(part) == 0
    for split in ("train", "test"):
        frames = [load_file(f / f"{split}.frames.safetensors")["frames"] for f in (folder, whole)]
        assert np.array_equal(frames[0], frames[1][:5])
        texts = [(f / f"{split}.caps.txt").read_text().splitlines() for f in (folder, whole)]
        assert texts[0] == texts[1][: len(texts[0])]
    capsys.readouterr()
    assert cli.main(["verify", *where]) == 3
    assert "only the first 5 clips of each split are prepared" in capsys.readouterr().out
    assert require(tmp_path, "embedded", (5, 5)) == folder
    for limits in ((None, 5), (5, 6)):
        with pytest.raises(
            UsageError, match=r"only the first 5 clips of msrvtt .*data_prep prepare"
        ):
            require(tmp_path, "embedded", limits)
    assert cli.main(part) == 0
    assert "already there" in capsys.readouterr().out
    drawn = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    assert cli.main(["prepare", *where, "--jobs", "1"]) == 0
    assert cli.main(["verify", *where]) == 0
    for path in set(whole.iterdir()) - set(whole.glob("*.jsonl")):  # these have times
        assert (folder / path.name).read_bytes() == path.read_bytes()
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    assert len(drawn) == 10
    assert drawn.items() <= after.items(), "a clip was drawn twice"
    assert cli.main(part) == 0
    assert "already there" in capsys.readouterr().out, "the whole has the part"


@pytest.mark.parametrize("what", [["msrvtt", "--root", "."], ["flickr30k"], ["vtab1k/svhn"]])
def test_other_data_have_no_first_clips(what, capsys):
    assert cli.main(["prepare", *what, "--first", "5"]) == 2
    assert "--first" in capsys.readouterr().err


def test_a_video_has_the_same_bytes_each_time(tmp_path):
    clips = list(msrvtt.generate("train", 0, 3))
    kept, found = [], {}
    for turn in range(8):
        for number, clip in enumerate(clips):
            path = tmp_path / f"{number}.mp4"
            files.write_video(path, clip.scene)
            found.setdefault(number, set()).add(path.read_bytes())
        # Other memory each time: an encoder that reads what it has not written is found out by it.
        kept.append(np.random.default_rng(turn).integers(0, 256, 50_000 * (turn + 1)))
    assert [len(versions) for versions in found.values()] == [1, 1, 1]


def test_decoded_frames_are_what_was_drawn(embedded):
    from data_prep.msrvtt.video import fit

    arrays = load_file(embedded / "embedded/msrvtt/train.frames.safetensors")
    for row, clip in enumerate(msrvtt.generate("train", 0, 6)):
        drawn = drawing.frames(clip.scene)[:: clip.scene.rate]
        count = min(len(drawn), 12)
        if len(drawn) <= 12:
            meant = np.stack([fit(image.transpose(1, 2, 0), 32) for image in drawn])
            difference = np.abs(arrays["frames"][row, :count].astype(int) - meant.astype(int))
            assert difference.mean() < 6


def test_a_seed_gives_the_same_clips_and_splits_differ():
    one, again = (list(msrvtt.generate("train", 0, 8)) for _ in range(2))
    assert one == again
    assert one[0] != next(msrvtt.generate("train", 1, 1))
    assert one[0] != next(msrvtt.generate("held_out", 0, 1))
    assert np.array_equal(drawing.frames(one[3].scene), drawing.frames(again[3].scene))


def test_a_family_shows_the_same_things_with_something_exchanged():
    clips = list(msrvtt.generate("train", 0, 40))
    for first in range(0, 40, msrvtt.FAMILY):
        one, *twins = (clip.scene for clip in clips[first : first + msrvtt.FAMILY])
        for twin in twins:
            assert twin.ground == one.ground
            for what in ("shape", "colour", "size"):
                assert sorted(getattr(t, what) for t in twin.things) == sorted(
                    getattr(t, what) for t in one.things
                )
            looks = [{(t.shape, t.colour, t.motion) for t in s.things} for s in (one, twin)]
            assert looks[0] != looks[1] or twin is twins[1]


@pytest.mark.parametrize("motion", sorted(CLIPS.motions))
def test_motions_are_what_their_names_say(motion):
    thing = scene.Thing("star", "red", "big", "plain", 0.1, -0.1, motion)
    at = drawing.moments(thing, np.linspace(0, 6, 25, dtype=np.float32), 6.0)
    changed = {name: float(np.ptp(values)) for name, values in at._asdict().items()}
    moves = {
        "left": {"x"},
        "right": {"x"},
        "up": {"y"},
        "down": {"y"},
        "bounce": {"y"},
        "circle": {"x", "y"},
        "turn": {"angle"},
        "grow": {"scale"},
        "shrink": {"scale"},
        "blink": {"seen"},
        "wait": set(),
    }
    assert {name for name, extent in changed.items() if extent > 0.3} == moves[motion]
    if motion in ("right", "down", "grow"):
        assert (np.diff(getattr(at, next(iter(moves[motion])))) > 0).all()
    if motion in ("left", "up", "shrink"):
        assert (np.diff(getattr(at, next(iter(moves[motion])))) < 0).all()


@pytest.mark.parametrize("world", [CLIPS, BROAD])
def test_every_thing_can_be_seen_on_every_ground(world):
    for ground in world.grounds:
        for shape in world.shapes:
            for size in world.sizes:
                thing = scene.Thing(shape, "red", size, "plain", 0.0, 0.0)
                with_it, without = (
                    drawing.frames(scene.Scene(ground, things, 0.0, 1, 5)).astype(int)
                    for things in ((thing,), ())
                )
                assert with_it.shape == (1, 3, drawing.SIDE, drawing.SIDE)
                changed = np.abs(with_it - without).max(axis=1) > 60
                assert 0.007 < changed.mean() < 0.3, (ground, shape, size)


def test_captions_say_what_is_there():
    rng = np.random.default_rng(0)
    meaning = {word: name for name, words in CLIPS.shapes.items() for word in words}
    for _ in range(50):
        made = scene.make_clip(CLIPS, rng)
        said = captions.describe(CLIPS, made, rng)
        assert len(set(said)) == 5
        shapes = {thing.shape for thing in made.things}
        for caption in said:
            named = {meaning[word] for word in caption.split() if word in meaning}
            assert named
            assert named <= shapes


def test_the_vocabulary_is_what_the_lexicons_give():
    for name, content in vocabulary.files().items():
        assert (generated.VOCABULARY / name).read_bytes() == content
    pieces = {word: len(WORDS.pieces(word)) for word in set(vocabulary.words())}
    assert max(pieces.values()) <= 4
    assert 0.8 < np.mean([count == 1 for count in pieces.values()]) < 1


def test_the_broader_world_says_nothing_of_motion_and_lacks_things():
    assert not BROAD.motions
    assert {"heart", "arrow", "moon"} & BROAD.shapes.keys() == set()
    assert {"purple", "brown"} & BROAD.colours.keys() == set()
    assert {"night", "water"} & BROAD.grounds.keys() == set()
    one, again = (upstream.batch(WORDS, 0, 3, 8, 32) for _ in range(2))
    assert np.array_equal(one.images, again.images)
    assert np.array_equal(one.tokens, again.tokens)
    assert one.images.shape == (8, 3, 32, 32)
    assert not np.array_equal(one.images, upstream.batch(WORDS, 0, 4, 8, 32).images)
