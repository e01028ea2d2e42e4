"""VTAB-1K from exported files: what is packed, and every kind of damage refused by file and line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.training.data import fingerprint
from data_prep import cli, pack
from data_prep.sources import make_source
from data_prep.vtab1k import TASKS, folder_source
from data_prep.vtab1k import source as real
from data_prep.vtab1k.folder_source import Folder
from data_prep.vtab1k.tasks import AGAIN, LOSSLESS, ORIGINAL
from data_prep.vtab1k.tfds_source import jpeg_of

_spec = importlib.util.spec_from_file_location("exported", Path(__file__).with_name("exported.py"))
exported = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(exported)


@pytest.fixture
def small(monkeypatch):
    """Every task with few images, for the command line too."""
    tasks = tuple(exported.small_task(task.name) for task in TASKS)
    monkeypatch.setattr(real.tasks, "TASKS", tasks)
    return {task.name: task for task in tasks}


@pytest.fixture
def tree(tmp_path, small):
    """An exported DTD, and where to pack it."""
    return exported.export(tmp_path / "raw", small["dtd"], "dtd"), tmp_path / "packed"


def _prepare(capsys, tree, selector="vtab1k/dtd", *more):
    folder, data = tree
    where = ["--root", str(folder.parent), "--data", str(data), "--size", "32"]
    code = cli.main(["prepare", selector, "--source", "folder", *where, *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _refused(capsys, tree):
    """Prepare, expect a refusal that leaves nothing behind, return its one line."""
    code, out, err = _prepare(capsys, tree)
    assert code == 1
    assert "0 prepared, 0 already there, 1 failed" in out
    assert not [path for path in tree[1].rglob("*") if path.is_file()]
    lines = [
        line
        for line in err.replace("\r", "\n").splitlines()
        if line.startswith("dtd: ") and "|" not in line and "?" not in line
    ]
    assert len(lines) == 1
    return lines[0]


def test_packed_images_and_labels_are_those_of_the_files(capsys, tree, small):
    assert _prepare(capsys, tree)[0] == 0
    for index, (split, count) in enumerate(exported.SMALL.items()):
        arrays = pack.read_split(tree[1], make_source("folder"), small["dtd"], split)
        assert arrays["images"].shape == (count, 3, 32, 32)
        assert arrays["labels"].tolist() == [n % 47 for n in range(count)]
        wanted = np.asarray([exported.colour(index, n) for n in range(count)])
        assert np.abs(arrays["images"].mean((2, 3)) - wanted).max() < 4  # a JPEG's rounding


def test_resizing_is_pillows_bicubic_without_keeping_the_aspect(capsys, tree, small):
    path = tree[0] / "images" / "test" / "000000.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (50, 90, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    assert _prepare(capsys, tree)[0] == 0
    packed = pack.read_split(tree[1], make_source("folder"), small["dtd"], "test")["images"][0]
    with Image.open(path) as image:
        wanted = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(packed, wanted.transpose(2, 0, 1))


def test_manifest_says_what_was_packed(capsys, tree):
    assert _prepare(capsys, tree)[0] == 0
    folder = tree[1] / "folder" / "vtab1k" / "dtd"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["variant"] == "folder"
    assert manifest["image_size"] == 32
    assert manifest["resize"]["interpolation"] == "bicubic"
    assert manifest["resize"]["library"].startswith("pillow ")
    assert manifest["jpeg"] == (
        "22 JPEG files; 22 have Pillow's default quality, as images that were encoded again with loss"
    )
    assert manifest["source"] == {"kind": "list files", "folder": "dtd"}
    assert manifest["notes"] == []
    assert str(tree[0].parent) not in json.dumps(manifest)
    for split, count in exported.SMALL.items():
        entry = manifest["splits"][split]
        assert entry["n"] == count == sum(entry["class_counts"])
        assert entry["files"] == {"JPEG RGB, quality 75": count}


def test_grey_cmyk_palette_and_alpha_are_converted_and_counted(capsys, tree, small):
    images = tree[0] / "images" / "test"
    square = Image.new("RGB", (30, 30), (200, 100, 50))
    square.convert("L").save(images / "000000.jpg")
    square.convert("CMYK").save(images / "000001.jpg")
    square.convert("P").save(images / "000002.jpg", format="PNG")
    square.convert("RGBA").save(images / "000003.jpg", format="PNG")
    assert _prepare(capsys, tree)[0] == 0
    packed = pack.read_split(tree[1], make_source("folder"), small["dtd"], "test")["images"]
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert np.abs(packed[0].astype(int) - grey).max() <= 2
    for row in (1, 2, 3):
        mean = packed[row].mean((1, 2))
        assert np.abs(mean - (200, 100, 50)).max() < 8, row
    manifest = pack.read_manifest(tree[1] / "folder" / "vtab1k" / "dtd")
    files = manifest["splits"]["test"]["files"]
    assert files == {
        "JPEG CMYK, quality 75": 1,
        "JPEG L, quality 75": 1,
        "JPEG RGB, quality 75": 2,
        "PNG P": 1,
        "PNG RGBA": 1,
    }


def own_table(image, path):
    image.save(path, qtables=[[3] * 64, [5] * 64])


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        (lambda image, path: image.save(path, format="PNG"), "22 PNG files"),
        (lambda image, path: image.save(path, format="BMP"), "22 BMP files"),
        (lambda image, path: image.save(path, format="WEBP"), "22 WEBP files"),
        (lambda image, path: image.save(path, quality=95), "22 JPEG files"),
        (own_table, "22 JPEG files"),
    ],
    ids=["png", "bmp", "webp", "jpeg of quality 95", "jpeg with its own table"],
)
def test_manifest_and_record_say_what_the_files_are(capsys, tree, save, expected):
    for path in (tree[0] / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
        save(image, path)
    assert _prepare(capsys, tree)[0] == 0
    folder = tree[1] / "folder" / "vtab1k" / "dtd"
    assert pack.read_manifest(folder)["jpeg"] == expected
    assert fingerprint(folder)["jpeg"] == expected


def test_files_of_several_kinds_are_counted(capsys, tree):
    for path in (tree[0] / "images" / "test").glob("*.jpg"):
        Image.new("RGB", (9, 9)).save(path, format="PNG")
    assert _prepare(capsys, tree)[0] == 0
    assert pack.read_manifest(tree[1] / "folder" / "vtab1k" / "dtd")["jpeg"] == (
        "16 JPEG files, 6 PNG files; 16 have Pillow's default quality, as images that were encoded again "
        "with loss"
    )


@pytest.mark.parametrize(
    ("name", "kinds", "expected"),
    [
        ("cifar100", {"PNG RGB": 3}, LOSSLESS),
        (
            "cifar100",
            {"PNG RGB": 3, "JPEG RGB": 1},
            "1 JPEG files, 3 PNG files; not as expected of",
        ),
        ("sun397", {"JPEG RGB, quality 95": 3}, f"{AGAIN} (quality 95)"),
        ("sun397", {"JPEG RGB, quality 95": 3, "JPEG RGB": 1}, AGAIN),
        (
            "sun397",
            {"PNG RGB": 3},
            "3 PNG files; not as expected of TFDS: JPEG files, encoded again",
        ),
        ("dtd", {"JPEG RGB": 2, "PNG L": 1}, ORIGINAL),
    ],
)
def test_what_tfds_does_is_said_if_its_files_are_so(name, kinds, expected, small):
    found = jpeg_of(small[name], kinds)
    assert found == expected or (found.startswith(expected) and "not as expected of TFDS" in found)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_alias_is_found(task, tmp_path):
    for alias in task.folders:
        root = tmp_path / alias
        (root / alias.upper()).mkdir(parents=True)
        assert folder_source.find_folder(root, task).name == alias.upper()


def test_aliases_in_use_belong_to_one_task():
    names = [name for task in TASKS for name in task.folders]
    shared = {alias for alias in names if sum(alias in task.folders for task in TASKS) > 1}
    assert not shared
    exporters = (
        "caltech101 cifar dtd oxford_flowers102 oxford_iiit_pet patch_camelyon sun397 svhn resisc45 eurosat "
        "dmlab kitti smallnorb_azi smallnorb_ele dsprites_loc dsprites_ori clevr_dist clevr_count "
        "diabetic_retinopathy cifar100 cifar_100 oxford_pet pets flowers102"
    ).split()
    assert set(exporters) <= set(names)


def test_two_folders_of_one_task_and_none(capsys, tree):
    line = _refused_root(capsys, tree, "DTD-copy", rename="else")
    assert "no folder of dtd; its name must be one of: dtd" in line


def _refused_root(capsys, tree, extra, rename):
    (tree[0].parent / extra).mkdir()
    tree[0].rename(tree[0].with_name(rename))
    return _refused(capsys, tree)


def test_an_ambiguous_alias_is_refused(capsys, tmp_path, small):
    root = tmp_path / "raw"
    (root / "cifar").mkdir(parents=True)
    (root / "cifar100").mkdir()
    with pytest.raises(
        folder_source.DataError, match="more than one folder is cifar100: cifar, cif"
    ):
        folder_source.find_folder(root, small["cifar100"])


def test_missing_images_are_named_by_list_and_line(capsys, tree):
    for number in (1, 3):
        (tree[0] / "images" / "val200" / f"{number:06d}.jpg").unlink()
    line = _refused(capsys, tree)
    assert f"no such image: {tree[0] / 'val200.txt'}:2: " in line
    assert f"; {tree[0] / 'val200.txt'}:4: {tree[0] / 'images/val200/000003.jpg'}" in line


def test_a_truncated_image_is_named_by_list_and_line(capsys, tree):
    path = tree[0] / "images" / "test" / "000005.jpg"
    path.write_bytes(path.read_bytes()[:-120])
    line = _refused(capsys, tree)
    assert f"{tree[0] / 'test.txt'}:6: {path}: not a complete image (" in line


def test_what_is_no_image_is_refused(capsys, tree):
    (tree[0] / "images" / "train800" / "000000.jpg").write_text("<html>404</html>")
    assert f"{tree[0] / 'train800.txt'}:1: " in _refused(capsys, tree)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("images/test/000002.jpg 47", "label 47 is outside 0 to 46, the 47 classes of dtd"),
        ("images/test/000002.jpg -1", "label -1 is outside 0 to 46"),
        ("images/test/000002.jpg two", "'images/test/000002.jpg two' is not a path and a label"),
        ("images/test/000002.jpg", "is not a path and a label"),
        ("images/test/000000.jpg 2", "images/test/000000.jpg is already in line 1"),
    ],
)
def test_wrong_lines_are_named(capsys, tree, line, says):
    path = tree[0] / "test.txt"
    lines = path.read_text().splitlines()
    lines[2] = line
    path.write_text("\n".join(lines))
    refusal = _refused(capsys, tree)
    assert f"{path}:3: " in refusal
    assert says in refusal


def test_too_few_lines_and_a_missing_list(capsys, tree):
    path = tree[0] / "test.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    assert f"{path}: 5 images, VTAB-1K's dtd has 6 there" in _refused(capsys, tree)
    path.unlink()
    assert f"{path}: no such list; dtd is incomplete" in _refused(capsys, tree)


def test_the_joined_list_stands_in_for_its_parts(capsys, tree, small):
    for name in ("train800", "val200"):
        (tree[0] / f"{name}.txt").unlink()
    assert _prepare(capsys, tree)[0] == 0
    assert pack.read_split(tree[1], make_source("folder"), small["dtd"], "val200")[
        "labels"
    ].tolist() == [
        0,
        1,
        2,
        3,
    ]
    notes = pack.read_manifest(tree[1] / "folder" / "vtab1k" / "dtd")["notes"]
    assert notes == ["train800 and val200 are the two parts of train800val200.txt"]


def test_a_joined_list_with_other_labels_is_remarked(capsys, tree):
    path = tree[0] / "train800val200.txt"
    path.write_text(path.read_text().replace("000000.jpg 0", "000000.jpg 5"))
    assert _prepare(capsys, tree)[0] == 0
    notes = pack.read_manifest(tree[1] / "folder" / "vtab1k" / "dtd")["notes"]
    assert notes == [
        "train800val200.txt has other labels than train800.txt and val200.txt together"
    ]


def test_one_broken_task_does_not_stop_the_others_and_the_next_run_takes_it_alone(
    capsys, tree, small
):
    folder, data = tree
    exported.export(folder.parent, small["svhn"], "svhn")
    damaged = folder / "images" / "test" / "000000.jpg"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:300])
    code, out, err = _prepare(capsys, tree, "vtab1k/[ds][tv][dh]*")
    assert code == 1
    assert "1 prepared, 0 already there, 1 failed" in out
    assert "dtd: " in err
    damaged.write_bytes(whole)
    code, out, _ = _prepare(capsys, tree, "vtab1k/[ds][tv][dh]*")
    assert code == 0
    assert "1 prepared, 1 already there, 0 failed" in out
    assert cli.main(["verify", "vtab1k/[ds][tv][dh]*", "--data", str(data)]) == 0
    assert capsys.readouterr().out == "folder: 2 of 2 tasks are complete and correct\n"
    sheet = data / "sheet.png"
    assert cli.main(["show", "vtab1k/dtd", "--data", str(data), "--out", str(sheet)]) == 0
    with Image.open(sheet) as picture:
        assert picture.width > 12 * 96


def test_many_threads_pack_what_one_packs(capsys, tree, tmp_path, small):
    assert _prepare(capsys, tree, "vtab1k/dtd", "--jobs", "1")[0] == 0
    assert _prepare(capsys, (tree[0], tmp_path / "other"), "vtab1k/dtd", "--jobs", "4")[0] == 0
    for path in (tree[1] / "folder" / "vtab1k" / "dtd").iterdir():
        assert (tmp_path / "other/folder/vtab1k/dtd" / path.name).read_bytes() == path.read_bytes()


def test_another_size_is_packed_again(capsys, tree):
    assert _prepare(capsys, tree)[0] == 0
    _, out, _ = _prepare(capsys, tree, "vtab1k/dtd", "--size", "48")
    assert "1 prepared, 0 already there" in out
    assert cli.main(["verify", "vtab1k/dtd", "--data", str(tree[1])]) == 0


def test_space_is_checked_before_anything_is_written(capsys, tree, monkeypatch):
    monkeypatch.setattr(cli, "_free_bytes", lambda folder: 10_000)
    code, out, err = _prepare(capsys, tree)
    assert (code, out) == (1, "")
    assert "not enough space: 1 tasks need 0.00 GB" in err
    assert not tree[1].exists()


def test_a_killed_run_goes_on_after_its_last_whole_split(capsys, tree, monkeypatch):
    original, opened = Folder._example, []

    def killed(self, entry):
        opened.append(entry.path.parent.name)
        if opened.count("test") == 3:
            raise KeyboardInterrupt
        return original(self, entry)

    monkeypatch.setattr(Folder, "_example", killed)
    assert _prepare(capsys, tree, "vtab1k/dtd", "--jobs", "1")[0] == 1
    assert not (tree[1] / "folder" / "vtab1k" / "dtd").exists()
    opened.clear()
    assert _prepare(capsys, tree, "vtab1k/dtd", "--jobs", "1")[0] == 1
    assert set(opened) == {"test"}
    monkeypatch.setattr(Folder, "_example", original)
    assert _prepare(capsys, tree)[0] == 0
    assert sorted(p.name for p in (tree[1] / "folder" / "vtab1k").iterdir()) == ["dtd"]
    assert cli.main(["verify", "vtab1k/dtd", "--data", str(tree[1])]) == 0


def test_options_that_do_not_fit_are_refused(capsys, tmp_path):
    assert cli.main(["prepare", "vtab1k", "--source", "folder"]) == 2
    assert "--source folder needs --root" in capsys.readouterr().err
    assert cli.main(["prepare", "vtab1k", "--root", str(tmp_path)]) == 2
    assert "--root is for --source tfds or folder" in capsys.readouterr().err
