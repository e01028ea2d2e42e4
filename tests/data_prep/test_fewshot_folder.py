"""The published few-shot lists: what is packed, and every kind of damage refused by file and line."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from data_prep import cli, pack
from data_prep.fewshot import lists, real, sets

PETS = dataclasses.replace(sets.SETS[-1], num_classes=3, n_val=6, n_test=9)
CARS = dataclasses.replace(sets.SETS[1], num_classes=2, n_val=2, n_test=2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(real, "SETS", (CARS, PETS))


def write_set(images, annotations, one, *, prefix="", doubled=False):
    """Write images in colours of their own and all lists; an image of class k is called ``k name.jpg``."""
    images.mkdir(parents=True)
    annotations.mkdir(parents=True, exist_ok=True)
    colour = iter(range(10**6))

    def image(label):
        number = next(colour)
        name = f"{prefix}{label} {number:05d}.jpg"
        path = images / name
        path.parent.mkdir(exist_ok=True)
        picture = np.full((50, 70, 3), (number * 37 % 256, 40 * label, number * 11 % 256), np.uint8)
        Image.fromarray(picture).save(path, quality=95)
        return f"{name} {label}\n"

    k = one.num_classes
    for name, count in ((lists.VAL, one.n_val), (lists.TEST, one.n_test)):
        (annotations / name).write_text("".join(image(i % k) for i in range(count)))
    for shots in sets.SHOTS:
        for seed in sets.DRAW_SEEDS:
            lines = [image(label) for label in range(k) for _ in range(shots)]
            if doubled and shots == 1:
                lines *= 2
            (annotations / lists.train_list(shots, seed)).write_text("".join(lines))
    return annotations


@pytest.fixture
def tree(tmp_path):
    """Pets as NOAH has them, and where to pack them."""
    place = tmp_path / "raw" / "oxford-pets"
    write_set(place / "images", place / "annotations", PETS, doubled=True)
    return place / "annotations", tmp_path / "packed"


def prepare(capsys, tree, selector="fewshot/pets"):
    root = tree[0].parents[1]
    where = ["--root", str(root), "--data", str(tree[1]), "--size", "28"]
    code = cli.main(["prepare", selector, "--source", "folder", *where])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, tree):
    """Prepare, expect a refusal that leaves nothing behind, return what was said."""
    code, out, err = prepare(capsys, tree)
    assert code == 1
    assert "0 prepared, 0 already there, 1 failed" in out
    assert not [path for path in tree[1].rglob("*") if path.is_file()]
    return err


def test_lists_are_packed_as_they_are(tree, capsys):
    code, out, _ = prepare(capsys, tree)
    assert code == 0
    assert "1 prepared" in out
    folder = tree[1] / "folder" / "fewshot" / "pets"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["draw_source"] == "lists with the published names and counts"
    assert "JPEG files" in manifest["jpeg"]
    assert (manifest["image_size"], manifest["train_size"]) == (28, 48)
    assert manifest["resize"]["size"] == [32, 32]
    pool, test = load_file(folder / "train.safetensors"), load_file(folder / "test.safetensors")
    assert pool["images"].shape == (31 * 3 * 3, 3, 48, 48)
    assert test["images"].shape == (9, 3, 28, 28)
    draws = load_file(folder / "draws.safetensors")
    for shots in sets.SHOTS:
        for seed in sets.DRAW_SEEDS:
            lines = (tree[0] / lists.train_list(shots, seed)).read_text().splitlines()
            index = draws[f"{shots}shot_seed{seed}"]
            assert pool["labels"][index].tolist() == [int(line.split()[-1]) for line in lines]
            number = int(lines[0].split()[1].removesuffix(".jpg"))
            first = pool["images"][index[0]].mean((1, 2))
            assert np.abs(first - [number * 37 % 256, 0, number * 11 % 256]).max() < 4
    assert cli.main(["verify", "fewshot/pets", "--source", "folder", "--data", str(tree[1])]) == 0
    assert prepare(capsys, tree)[1].endswith("0 prepared, 1 already there, 0 failed\n")


def test_doubled_lines_are_kept_and_reported(tree, capsys):
    _, _, err = prepare(capsys, tree)
    for seed in sets.DRAW_SEEDS:
        name = lists.train_list(1, seed)
        assert f"pets: {name}: every line is there twice (6 lines, 3 images); kept" in err
    manifest = json.loads((tree[1] / "folder" / "fewshot" / "pets" / "manifest.json").read_text())
    assert manifest["draws"]["lists"]["1shot_seed0"] == {"n": 6, "distinct": 3}
    assert manifest["draws"]["lists"]["2shot_seed0"] == {"n": 6, "distinct": 6}
    assert len(manifest["notes"]) == 3
    assert "every line is there twice (6 lines, 3 images); kept" in manifest["notes"][0]


def test_the_other_layout_and_cars_without_a_folder_of_images(tmp_path, capsys):
    """DTL's folders; the cars' paths begin with ``cars_train/``."""
    root = tmp_path / "raw"
    write_set(
        root / "standford-cars", root / "few-shot_split" / "standford-cars" / "annotations", CARS,
        prefix="cars_train/",
    )  # fmt: skip
    tree = (root / "x" / "y", tmp_path / "packed")
    assert prepare(capsys, tree, "fewshot/cars")[0] == 0


def change(path, line, text):
    lines = path.read_text().splitlines(keepends=True)
    lines[line - 1 : line] = [text] if text else []
    path.write_text("".join(lines))


def first_line(path):
    return path.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 00001.jpg 3\n", "label 3 is outside 0 to 2, the 3 classes of pets"),
        ("0 00001.jpg cat\n", "is not a path and a label"),
        ("0 00001.jpg --1\n", "is not a path and a label"),
        ("0 00001.jpg -1\n", "label -1 is outside 0 to 2"),
        ("0\n", "is not a path and a label"),
    ],
)
def test_a_bad_line_is_refused(tree, capsys, text, message):
    path = tree[0] / lists.train_list(4, 1)
    change(path, 2, text)
    said = refused(capsys, tree)
    assert f"{path}:2: " in said
    assert message in said


def test_a_duplicate_is_refused(tree, capsys):
    path = tree[0] / lists.train_list(4, 1)
    change(path, 2, first_line(path) + "\n")
    assert f"{path}:2: " in (said := refused(capsys, tree))
    assert "is already in line 1" in said


@pytest.mark.parametrize("other", [lists.TEST, lists.VAL])
def test_a_held_out_image_among_the_training_images_is_refused(tree, capsys, other):
    path = tree[0] / lists.train_list(2, 0)
    change(path, 1, first_line(tree[0] / other) + "\n")
    assert f"{path}:1: " in (said := refused(capsys, tree))
    assert f"{tree[0] / other}:1; training" in said


def test_validation_and_test_images_have_to_be_apart(tree, capsys):
    change(tree[0] / lists.TEST, 1, first_line(tree[0] / lists.VAL) + "\n")
    assert f"{tree[0] / lists.TEST}:1: " in refused(capsys, tree)


def test_another_number_of_shots_is_refused(tree, capsys):
    path = tree[0] / lists.train_list(8, 2)
    change(path, 24, None)
    assert f"{path}: class 2 has 7 images, not 8" in refused(capsys, tree)


def test_an_incomplete_list_is_refused(tree, capsys):
    change(tree[0] / lists.TEST, 9, None)
    assert "8 images, the published list of pets has 9" in refused(capsys, tree)


def test_another_label_for_the_same_image_is_refused(tree, capsys):
    one, other = (tree[0] / lists.train_list(16, seed) for seed in (0, 1))
    name = first_line(one).rpartition(" ")[0]
    change(other, 17, f"{name} 1\n")
    assert f"{other}:17: label 1; the same image has 0 in {one}:1" in refused(capsys, tree)


def test_missing_files_are_named(tree, capsys):
    path = tree[0] / lists.train_list(1, 0)
    image = tree[0].parent / "images" / first_line(path).rpartition(" ")[0]
    image.unlink()
    assert f"no such image: {path}:1: {image}" in refused(capsys, tree)
    path.unlink()
    assert f"{path}: no such list" in refused(capsys, tree)
    (tree[0] / lists.TEST).unlink()
    assert "no test_meta.list of pets" in refused(capsys, tree)


def test_an_unreadable_image_is_named(tree, capsys):
    path = tree[0] / lists.VAL
    image = tree[0].parent / "images" / first_line(path).rpartition(" ")[0]
    image.write_bytes(image.read_bytes()[:200])
    assert f"{path}:1: {image}: not a complete image" in refused(capsys, tree)


def dying_at(split, monkeypatch):
    """Let packing end at a split, the first time; return the list that takes the splits that are packed."""
    packed, asked = pack._pack_split, []

    def die(staging, name, *rest):
        asked.append(name)
        if name == split and asked.count(split) == 1:
            raise KeyboardInterrupt
        return packed(staging, name, *rest)

    monkeypatch.setattr(pack, "_pack_split", die)
    return asked


def test_a_killed_run_keeps_nothing_of_lists_that_have_changed(tree, capsys, monkeypatch):
    """Draws are indices into the training images, whose order the lists decide."""
    asked = dying_at("val", monkeypatch)
    assert prepare(capsys, tree)[0] == 1
    one, other = (tree[0] / lists.train_list(2, seed) for seed in (0, 1))
    texts = one.read_text(), other.read_text()
    one.write_text(texts[1])
    other.write_text(texts[0])
    assert prepare(capsys, tree)[0] == 0
    assert asked == ["train", "val", "train", "val", "test"]
    folder = tree[1] / "folder" / "fewshot" / "pets"
    index = load_file(folder / "draws.safetensors")["2shot_seed0"][0]
    pixels = load_file(folder / "train.safetensors")["images"][index].mean((1, 2))
    number = int(first_line(one).split()[1].removesuffix(".jpg"))
    assert np.abs(pixels - [number * 37 % 256, 0, number * 11 % 256]).max() < 4


def test_a_killed_run_goes_on_with_the_same_lists(tree, capsys, monkeypatch):
    asked = dying_at("test", monkeypatch)
    assert prepare(capsys, tree)[0] == 1
    assert prepare(capsys, tree)[0] == 0
    assert asked == ["train", "val", "test", "test"]


def test_the_draws_cannot_have_more_images_than_there_are():
    most = {one.name: one.most_train for one in sets.SETS}
    assert most == {
        "food101": 93 * 101, "cars": 16_185 - 1_635 - 8_041, "flowers102": 4_093, "aircraft": 3_334,
        "pets": 2_944,
    }  # fmt: skip


def test_two_folders_of_one_set_are_refused(tree, capsys):
    other = tree[0].parents[1] / "pets"
    other.mkdir()
    (other / lists.TEST).write_text("")
    assert "more than one folder has lists of pets" in refused(capsys, tree)
