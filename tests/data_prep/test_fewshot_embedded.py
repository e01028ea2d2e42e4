"""The embedded few-shot sets: what is packed, the draws, and that more shots tell classes apart better."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from benchmarks.fewshot import runner
from benchmarks.fewshot.spec import EMBEDDED_SETS
from data_prep import cli, pack, sheet
from data_prep.embedded.fewshot import SETS, generate, sets
from data_prep.embedded.fewshot.source import EmbeddedFewShot
from data_prep.fewshot.draw import draws
from data_prep.fewshot.sets import DRAW_SEEDS, SHOTS

PETS = SETS[-1]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    assert cli.main(["prepare", "fewshot/pets", "--data", str(data)]) == 0
    return data


def test_the_benchmark_declares_the_same_sets():
    assert {one.name: one.num_classes for one in SETS} == EMBEDDED_SETS
    assert (runner.EMBEDDED_VAL, runner.EMBEDDED_TEST) == (sets.VAL, sets.TEST)


@pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)
def test_classes_are_different_and_images_of_one_are_too(one):
    assert len(set(one.class_names)) == one.num_classes
    images, labels = generate(one, "val")
    assert images.shape == (one.num_classes * sets.VAL, 3, 32, 32)
    assert np.bincount(labels).tolist() == [sets.VAL] * one.num_classes
    assert len({image.tobytes() for image in images}) == len(images)
    again, _ = generate(one, "val")
    assert np.array_equal(images, again)
    other, _ = generate(one, "val", seed=1)
    assert not np.array_equal(images, other)
    train, _ = generate(one, "train")
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in images}


@pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)
def test_the_nearest_class_mean_is_right_more_often_with_more_shots(one):
    """On pixels alone; the means of 16 images say more than those of one."""
    train, labels = generate(one, "train")
    test, wanted = generate(one, "test")
    flat, asked = (x.reshape(len(x), -1).astype(np.float32) for x in (train, test))
    found = draws(labels, (one.name, 0))
    right = {}
    for shots in (1, 16):
        hits = []
        for seed in DRAW_SEEDS:
            index = found[f"{shots}shot_seed{seed}"]
            means = flat[index].reshape(one.num_classes, shots, -1).mean(1)
            distances = ((asked[:, None] - means) ** 2).sum(2)
            hits.append((distances.argmin(1) == wanted).mean())
        right[shots] = np.mean(hits)
    assert right[16] > right[1] > 1 / one.num_classes
    assert right[16] < 0.95


def test_draws_have_so_many_images_of_every_class_and_are_not_nested():
    _, labels = generate(PETS, "train")
    found = draws(labels, ("pets", 0))
    assert len(found) == len(SHOTS) * len(DRAW_SEEDS)
    for name, index in found.items():
        shots = int(name.partition("shot")[0])
        assert np.bincount(labels[index]).tolist() == [shots] * PETS.num_classes
        assert len(set(index.tolist())) == len(index)
    assert not set(found["1shot_seed0"]) <= set(found["2shot_seed0"])
    assert not np.array_equal(found["4shot_seed0"], found["4shot_seed1"])
    with pytest.raises(ValueError, match="class 0 has 4 images, 16 are drawn"):
        draws(labels[: 4 * PETS.num_classes], ("pets", 0))


def test_the_manifest_names_every_draw(packed):
    folder = packed / "embedded" / "fewshot" / "pets"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["benchmark"] == "fewshot"
    assert {name: split["n"] for name, split in manifest["splits"].items()} == PETS.counts
    assert manifest["draws"]["lists"]["4shot_seed2"] == {"n": 64, "distinct": 64}
    assert manifest["draw_source"] == "our own draw, seed 0"
    index = load_file(folder / "draws.safetensors")["4shot_seed2"]
    labels = load_file(folder / "train.safetensors")["labels"]
    assert np.bincount(labels[index]).tolist() == [4] * 16


def test_verify_finds_a_damaged_or_missing_draw(packed, tmp_path):
    folder = tmp_path / "embedded" / "fewshot" / "pets"
    folder.mkdir(parents=True)
    for path in (packed / "embedded" / "fewshot" / "pets").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    source = EmbeddedFewShot(0)
    assert pack.check_task(tmp_path, source, PETS).ok
    path = folder / "draws.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes(8))
    assert "sha256 differs" in pack.check_task(tmp_path, source, PETS).wrong[0]
    path.unlink()
    assert "no such file" in pack.check_task(tmp_path, source, PETS).missing[0]


def test_a_source_that_a_data_set_does_not_have_is_refused(tmp_path, capsys):
    assert cli.main(["prepare", "fewshots", "--data", str(tmp_path)]) == 2
    assert "nearest: 'fewshot'" in capsys.readouterr().err
    assert cli.main(["prepare", "fewshot/car", "--data", str(tmp_path)]) == 2
    assert "nearest: 'fewshot/cars'" in capsys.readouterr().err


def test_a_sheet_is_drawn_without_preparing(tmp_path):
    out = tmp_path / "sheet.png"
    assert cli.main(["show", "fewshot", "--data", str(tmp_path), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_sheet_by_class_has_images_of_that_class_in_its_row(packed, tmp_path):
    out = tmp_path / "sheet.png"
    command = ["show", "fewshot/pets", "--by-class", "--data", str(packed), "--out", str(out)]
    assert cli.main(command) == 0
    drawn = np.asarray(Image.open(out))
    row = sheet.TITLE + sheet.TILE
    assert drawn.shape[:2] == (sheet.TITLE + 16 * row, sheet.COLUMNS * sheet.TILE)
    arrays = load_file(packed / "embedded" / "fewshot" / "pets" / "train.safetensors")
    fifth = arrays["images"][np.flatnonzero(arrays["labels"] == 7)[4]]
    top, left = 2 * sheet.TITLE + 7 * row, 4 * sheet.TILE
    step = sheet.TILE // 32
    tile = drawn[top : top + sheet.TILE : step, left : left + sheet.TILE : step]
    assert np.array_equal(tile.transpose(2, 0, 1), fifth)
