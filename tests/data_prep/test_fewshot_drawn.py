"""Few-shot sets without lists: the official splits of unpacked archives and of TFDS, and our own draw."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from scipy.io import savemat

from data_prep import cli
from data_prep.errors import DataError
from data_prep.fewshot import real, sets
from data_prep.fewshot.archives import read_official
from data_prep.fewshot.draw import held_out, split_anew
from data_prep.fewshot.drawn import REGISTERED, FewShotTfds

K, TRAIN, TEST = 3, 24, 2  # classes; images a class
FLOWERS = {"trnid": 10, "valid": 10, "tstid": 20}  # as in the archive, of its smallest classes


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrunk = tuple(dataclasses.replace(one, num_classes=K) for one in sets.SETS)
    monkeypatch.setattr(real, "SETS", shrunk)


def colour(label, number):
    """The colour of an image: its label and its number can be read off its pixels."""
    return (60 * label + 20, 5 * number, 5 * number)


def image(path, label, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 50, 3), colour(label, number), np.uint8)).save(path, quality=95)


def food(root):
    folder = root / "food-101"
    names = ["waffles", "apple_pie", "sushi"]  # classes.txt need not be sorted; labels are
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "classes.txt").write_text("\n".join(names) + "\n")
    for split, count in (("train", TRAIN), ("test", TEST)):
        lines = []
        for label, name in enumerate(sorted(names)):
            for number in range(count):
                lines.append(f"{name}/{split}{number}")
                image(folder / "images" / f"{lines[-1]}.jpg", label, number)
        (folder / "meta" / f"{split}.txt").write_text("\n".join(lines) + "\n")


def cars(root):
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    for split, count, path in (
        ("train", TRAIN, folder / "devkit" / "cars_train_annos.mat"),
        ("test", TEST, folder / "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for label in range(K):
            for number in range(count):
                name = f"{len(rows):05d}.jpg"
                image(folder / f"cars_{split}" / name, label, number)
                rows.append((label + 1, name))
        kind = np.dtype([("class", "O"), ("fname", "O")])
        savemat(path, {"annotations": np.array(rows, dtype=kind)})


def flowers(root):
    folder = root / "flowers-102"
    ids, labels = {"trnid": [], "valid": [], "tstid": []}, []
    numbers = [0] * K
    for key, count in FLOWERS.items():
        for label in range(K):
            for _ in range(count):
                labels.append(label + 1)
                ids[key].append(len(labels))
                image(folder / "jpg" / f"image_{len(labels):05d}.jpg", label, numbers[label])
                numbers[label] += 1
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels])})
    savemat(folder / "setid.mat", {key: np.array([value]) for key, value in ids.items()})


def aircraft(root):
    data = root / "fgvc-aircraft-2013b" / "data"
    data.mkdir(parents=True)
    names = ["707-320", "A300 B4", "Cessna 172"]
    (data / "variants.txt").write_text("\n".join(names) + "\n")
    serial = 0
    for split, count in (("train", TRAIN), ("val", 2), ("test", TEST)):
        lines = []
        for label, name in enumerate(names):
            for number in range(count):
                serial += 1
                lines.append(f"{serial:07d} {name}")
                image(data / "images" / f"{serial:07d}.jpg", label, number)
        (data / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")


def pets(root):
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    for name, count in (("trainval", TRAIN), ("test", TEST)):
        lines = ["#Image CLASS-ID SPECIES BREED ID"]
        for label in range(K):
            for number in range(count):
                lines.append(f"breed_{label}_{name}{number} {label + 1} 1 1")
                image(folder / "images" / f"{lines[-1].split()[0]}.jpg", label, number)
        (folder / "annotations" / f"{name}.txt").write_text("\n".join(lines) + "\n")


ARCHIVES = {
    "food101": food, "cars": cars, "flowers102": flowers, "aircraft": aircraft, "pets": pets
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_unpacked_archive_is_drawn_from_with_its_own_labels(name, tmp_path, capsys):
    ARCHIVES[name](tmp_path)
    where = ["--root", str(tmp_path), "--data", str(tmp_path / "data"), "--size", "28"]
    assert cli.main(["prepare", f"fewshot/{name}", "--source", "folder-drawn", *where]) == 0
    folder = tmp_path / "data" / "folder-drawn" / "fewshot" / name
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["variant"] == "folder-drawn"
    anew = name == "flowers102"
    source = "all images, split anew" if anew else "the official splits"
    assert manifest["draw_source"] == f"our own draw from {source}"
    has_val = name == "aircraft"
    assert bool(manifest["notes"]) is not has_val
    seen = {}
    for split in ("train", "val", "test"):
        arrays = load_file(folder / f"{split}.safetensors")
        red, green = (arrays["images"][:, channel].mean((1, 2)) for channel in (0, 1))
        assert np.abs(red - (60 * arrays["labels"] + 20)).max() < 6
        numbers = np.rint(green / 5).astype(int).tolist()
        seen[split] = set(zip(arrays["labels"].tolist(), numbers, strict=True))
    val = 8 if anew else 2 if has_val else round(0.2 * TRAIN)
    assert len(seen["val"]) == K * val
    assert len(seen["test"]) == K * (12 if anew else TEST)
    if anew:
        assert not seen["test"] & (seen["val"] | seen["train"])
    if not has_val:  # cut out of the training images, which the numbers tell apart
        assert not seen["val"] & seen["train"]
    labels = load_file(folder / "train.safetensors")["labels"]
    for key, index in load_file(folder / "draws.safetensors").items():
        shots = int(key.partition("shot")[0])
        assert np.bincount(labels[index]).tolist() == [shots] * K
        assert len(set(index.tolist())) == len(index)
    data = str(tmp_path / "data")
    assert cli.main(["verify", f"fewshot/{name}", "--source", "folder-drawn", "--data", data]) == 0
    capsys.readouterr()


def test_what_an_archive_lacks_is_named(tmp_path):
    with pytest.raises(DataError, match="no folder food-101"):
        read_official(tmp_path, "food101")
    food(tmp_path)
    (tmp_path / "food-101" / "images" / "sushi" / "test1.jpg").unlink()
    with pytest.raises(DataError, match=r"test: no such image: .*sushi/test1\.jpg; and 0 more"):
        read_official(tmp_path, "food101")
    (tmp_path / "food-101" / "meta" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt: no such file"):
        read_official(tmp_path, "food101")
    cars(tmp_path)
    (tmp_path / "stanford_cars" / "cars_test_annos_withlabels.mat").write_bytes(b"no matrix at all")
    with pytest.raises(DataError, match="differs from its archive"):
        read_official(tmp_path, "cars")


def test_too_few_images_for_the_draws_are_told(tmp_path, capsys):
    pets(tmp_path)
    path = tmp_path / "oxford-iiit-pet" / "annotations" / "trainval.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "breed_1_trainval1" not in line))
    where = ["--root", str(tmp_path), "--data", str(tmp_path / "data"), "--size", "28"]
    assert cli.main(["prepare", "fewshot/pets", "--source", "folder-drawn", *where]) == 1
    assert "pets: class 1 has 10 images, 16 are drawn" in capsys.readouterr().err


def test_splitting_anew_gives_every_image_to_one_split():
    labels = np.repeat(np.arange(2), (40, 258))
    parts = split_anew(labels, ("x",), (0.5, 0.2))
    assert {name: np.bincount(labels[index]).tolist() for name, index in parts.items()} == {
        "train": [20, 129], "val": [8, 52], "test": [12, 77]
    }  # fmt: skip
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(298))
    assert np.array_equal(parts["val"], split_anew(labels, ("x",), (0.5, 0.2))["val"])
    assert not np.array_equal(parts["val"], split_anew(labels, ("y",), (0.5, 0.2))["val"])


def test_held_out_images_are_a_share_of_each_class():
    labels = np.repeat(np.arange(4), 10)
    chosen = held_out(labels, ("x",), 0.2)
    assert np.bincount(labels[chosen]).tolist() == [2] * 4
    assert np.array_equal(chosen, held_out(labels, ("x",), 0.2))
    assert not np.array_equal(chosen, held_out(labels, ("y",), 0.2))


def test_what_tfds_does_not_have_says_what_to_do(tmp_path):
    aircraft_set = next(one for one in sets.SETS if one.name == "aircraft")
    with pytest.raises(DataError, match=r"TFDS has no aircraft; .*folder-drawn"):
        FewShotTfds(tmp_path).official(aircraft_set)
    assert {*REGISTERED, "aircraft"} == {one.name for one in sets.SETS}
