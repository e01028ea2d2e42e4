"""Packed files: contents, atomic writing, and a verification that finds damage."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from data_prep import pack
from data_prep.embedded.vtab1k import SPLITS, TASKS, generate

TASK = next(task for task in TASKS if task.name == "dsprites_loc")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed task that no test changes."""
    data = tmp_path_factory.mktemp("data")
    return data, pack.pack_task(data, TASK, 0)


@pytest.fixture
def copied(packed, tmp_path):
    """A copy of it that a test may damage."""
    folder = pack.task_folder(tmp_path, TASK)
    folder.mkdir(parents=True)
    for path in packed[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return tmp_path, folder


def test_layout_and_manifest(packed):
    data, folder = packed
    assert folder == data / "embedded" / "vtab1k" / "dsprites_loc"
    assert {path.name for path in folder.iterdir()} == {
        "train800.safetensors",
        "val200.safetensors",
        "test.safetensors",
        "manifest.json",
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    splits = manifest.pop("splits")
    assert manifest == {
        "schema": "resora.data/1",
        "benchmark": "vtab1k",
        "task": "dsprites_loc",
        "variant": "embedded",
        "generator_version": 1,
        "seed": 0,
        "num_classes": 16,
        "class_names": list(TASK.class_names),
        "image_size": 32,
    }
    assert list(splits) == list(SPLITS)
    for split, entry in splits.items():
        assert set(entry) == {"n", "class_counts", "sha256"}
        assert entry["n"] == sum(entry["class_counts"]) == SPLITS[split]


def test_files_hold_what_was_generated(packed):
    tensors = load_file(packed[1] / "val200.safetensors")
    images, labels = generate(TASK, "val200", 0)
    assert set(tensors) == {"images", "labels"}
    assert np.array_equal(tensors["images"], images)
    assert np.array_equal(tensors["labels"], labels)


def test_whole_task_is_found_right(packed):
    findings = pack.check_task(packed[0], TASK, 0)
    assert findings.ok, findings


def test_packing_again_gives_the_same_bytes(packed, tmp_path):
    folder = pack.pack_task(tmp_path, TASK, 0)
    for path in packed[1].iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_edited_byte_is_found(copied):
    data, folder = copied
    path = folder / "test.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    findings = pack.check_task(data, TASK)
    assert findings.missing == []
    assert findings.wrong == [f"{path}: sha256 differs from the manifest"]


def test_truncated_and_missing_files_are_found(copied):
    data, folder = copied
    path = folder / "train800.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (folder / "val200.safetensors").unlink()
    findings = pack.check_task(data, TASK)
    assert findings.wrong == [f"{path}: sha256 differs from the manifest"]
    assert findings.missing == [f"{folder / 'val200.safetensors'}: no such file"]


def test_not_prepared_is_missing_not_wrong(tmp_path):
    findings = pack.check_task(tmp_path, TASK)
    assert findings.wrong == []
    assert len(findings.missing) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"splits": 3}', '{"splits": {}}'])
def test_broken_manifest_is_wrong(copied, text):
    data, folder = copied
    (folder / "manifest.json").write_text(text)
    assert pack.check_task(data, TASK).wrong


@pytest.mark.parametrize(
    ("key", "value"),
    [("schema", "x/2"), ("task", "svhn"), ("num_classes", 3), ("generator_version", 0)],
)
def test_manifest_of_something_else_is_wrong(copied, key, value):
    data, folder = copied
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert any(key in line for line in pack.check_task(data, TASK).wrong)


def test_other_seed_is_wrong_only_when_asked_for(packed):
    assert not pack.check_task(packed[0], TASK, 1).ok
    assert pack.check_task(packed[0], TASK).ok


def _replace_split(folder, split, images, labels):
    """Replace a split together with its hash, so that only the contents can be found wrong."""
    content = save({"images": images, "labels": labels})
    (folder / f"{split}.safetensors").write_bytes(content)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"][split]["sha256"] = pack.hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


def test_contents_are_checked_beyond_the_hash(copied):
    data, folder = copied
    images, labels = generate(TASK, "val200", 0)
    _replace_split(folder, "val200", images, np.where(labels == 0, 16, labels))
    assert any("labels outside" in line for line in pack.check_task(data, TASK).wrong)
    _replace_split(folder, "val200", images, np.where(labels == 0, 1, labels))
    assert any("class_counts" in line for line in pack.check_task(data, TASK).wrong)
    _replace_split(folder, "val200", images[:, :, :16], labels)
    assert any("images are" in line for line in pack.check_task(data, TASK).wrong)
    _replace_split(folder, "val200", images, labels.astype(np.int32))
    assert any("labels are" in line for line in pack.check_task(data, TASK).wrong)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_interrupted_packing_leaves_no_manifest(copied, monkeypatch, before):
    data, folder = copied
    write, calls = pack.replace_file, []

    def interrupted(path, content):
        if len(calls) == before:
            raise KeyboardInterrupt
        calls.append(path)
        write(path, content)

    monkeypatch.setattr(pack, "replace_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack.pack_task(data, TASK, 0)
    assert not (folder / "manifest.json").exists()
    assert pack.check_task(data, TASK).missing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    pack.replace_file(path, b"old")

    def killed(number):
        raise OSError("disk full")

    monkeypatch.setattr(pack.os, "fsync", killed)
    with pytest.raises(OSError, match="disk full"):
        pack.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
