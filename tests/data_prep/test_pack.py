"""Packed files: contents, atomic writing, and a verification that finds damage."""

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from data_prep import pack, tensors_file
from data_prep.embedded.source import Embedded
from data_prep.embedded.vtab1k import SPLITS, TASKS, generate

TASK = next(task for task in TASKS if task.name == "dsprites_loc")
SEED_0, ANY_SEED = Embedded(0), Embedded()


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed task that no test changes."""
    data = tmp_path_factory.mktemp("data")
    return data, pack.pack_task(data, SEED_0, TASK)


@pytest.fixture
def copied(packed, tmp_path):
    """A copy of it that a test may damage."""
    folder = pack.task_folder(tmp_path, Embedded(0), TASK)
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
    findings = pack.check_task(packed[0], SEED_0, TASK)
    assert findings.ok, findings


def test_packing_again_gives_the_same_bytes(packed, tmp_path):
    folder = pack.pack_task(tmp_path, SEED_0, TASK)
    for path in packed[1].iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_edited_byte_is_found(copied):
    data, folder = copied
    path = folder / "test.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    findings = pack.check_task(data, ANY_SEED, TASK)
    assert findings.missing == []
    assert findings.wrong == [f"{path}: sha256 differs from the manifest"]


def test_truncated_and_missing_files_are_found(copied):
    data, folder = copied
    path = folder / "train800.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (folder / "val200.safetensors").unlink()
    findings = pack.check_task(data, ANY_SEED, TASK)
    assert findings.wrong == [f"{path}: sha256 differs from the manifest"]
    assert findings.missing == [f"{folder / 'val200.safetensors'}: no such file"]


def test_not_prepared_is_missing_not_wrong(tmp_path):
    findings = pack.check_task(tmp_path, ANY_SEED, TASK)
    assert findings.wrong == []
    assert len(findings.missing) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"splits": 3}', '{"splits": {}}'])
def test_broken_manifest_is_wrong(copied, text):
    data, folder = copied
    (folder / "manifest.json").write_text(text)
    assert pack.check_task(data, ANY_SEED, TASK).wrong


@pytest.mark.parametrize(
    ("key", "value"),
    [("schema", "x/2"), ("task", "svhn"), ("num_classes", 3), ("generator_version", 0)],
)
def test_manifest_of_something_else_is_wrong(copied, key, value):
    data, folder = copied
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert any(key in line for line in pack.check_task(data, ANY_SEED, TASK).wrong)


def test_other_seed_is_wrong_only_when_asked_for(packed):
    assert not pack.check_task(packed[0], Embedded(1), TASK).ok
    assert pack.check_task(packed[0], ANY_SEED, TASK).ok


def _replace_split(folder, split, images, labels):
    """Replace a split together with its hash, so that only the contents can be found wrong."""
    content = save({"images": images, "labels": labels})
    (folder / f"{split}.safetensors").write_bytes(content)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"][split]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))


def test_contents_are_checked_beyond_the_hash(copied):
    data, folder = copied
    images, labels = generate(TASK, "val200", 0)
    _replace_split(folder, "val200", images, np.where(labels == 0, 16, labels))
    assert any("labels outside" in line for line in pack.check_task(data, ANY_SEED, TASK).wrong)
    _replace_split(folder, "val200", images, np.where(labels == 0, 1, labels))
    assert any("class_counts" in line for line in pack.check_task(data, ANY_SEED, TASK).wrong)
    _replace_split(folder, "val200", images[:, :, :16], labels)
    assert any("images are" in line for line in pack.check_task(data, ANY_SEED, TASK).wrong)
    _replace_split(folder, "val200", images, labels.astype(np.int32))
    assert any("labels are" in line for line in pack.check_task(data, ANY_SEED, TASK).wrong)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_killed_run_keeps_its_whole_splits_and_what_was_there(copied, monkeypatch, before):
    data, folder = copied
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    sizes, drawn = [], []

    class Killed(Embedded):
        def _drawing(self, task, split):
            draw = super()._drawing(task, split)

            def draw_or_stop():
                if len(sizes) == before:
                    raise KeyboardInterrupt
                sizes.append(split)
                return draw()

            return draw_or_stop

    with pytest.raises(KeyboardInterrupt):
        pack.pack_task(data, Killed(1), TASK)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    assert pack.check_task(data, SEED_0, TASK).ok

    class Counting(Embedded):
        def _drawing(self, task, split):
            draw = super()._drawing(task, split)
            return lambda: (drawn.append(split), draw())[1]

    ticks = []
    pack.pack_task(data, Counting(1), TASK, tick=lambda split, n: ticks.append(n))
    assert drawn == list(SPLITS)[before:]
    assert sum(ticks) == sum(SPLITS.values())
    assert pack.check_task(data, Embedded(1), TASK).ok
    assert [path.name for path in folder.parent.iterdir()] == [TASK.name]


def test_what_another_seed_left_half_done_is_not_used(tmp_path):
    staging = tmp_path / "embedded" / "vtab1k" / f".{TASK.name}.partial"

    class Killed(Embedded):
        def _drawing(self, task, split):
            return (lambda: 1 / 0) if split == "test" else super()._drawing(task, split)

    with pytest.raises(ZeroDivisionError):
        pack.pack_task(tmp_path, Killed(1), TASK)
    assert (staging / "train800.safetensors").exists()
    pack.pack_task(tmp_path, SEED_0, TASK)
    images, _ = generate(TASK, "train800", 0)
    arrays = pack.read_split(tmp_path, Embedded(0), TASK, "train800")
    assert np.array_equal(arrays["images"], images)
    assert pack.check_task(tmp_path, SEED_0, TASK).ok


def test_a_split_damaged_between_two_runs_is_packed_again(tmp_path):
    class Killed(Embedded):
        def _drawing(self, task, split):
            return (lambda: 1 / 0) if split == "test" else super()._drawing(task, split)

    with pytest.raises(ZeroDivisionError):
        pack.pack_task(tmp_path, Killed(0), TASK)
    path = tmp_path / "embedded" / "vtab1k" / f".{TASK.name}.partial" / "val200.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    path.with_name(".test.1.tmp").write_bytes(b"what kill -9 leaves of a split")
    folder = pack.pack_task(tmp_path, SEED_0, TASK)
    assert pack.check_task(tmp_path, SEED_0, TASK).ok
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("n", [0, 1, 7])
def test_files_filled_piece_by_piece_have_the_librarys_bytes(tmp_path, n):
    random = np.random.default_rng(n)
    images = random.integers(0, 256, (n, 3, 5, 5)).astype(np.uint8)
    labels = random.integers(0, 9, n)
    path = tmp_path / "file"
    specs = {"images": (np.uint8, images.shape), "labels": (np.int64, labels.shape)}
    arrays = tensors_file.create(path, specs)
    arrays["images"][:], arrays["labels"][:] = images, labels
    del arrays
    assert path.read_bytes() == save({"images": images, "labels": labels})
    assert np.array_equal(tensors_file.open_arrays(path)["images"], images)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:30], lambda b: b"", lambda b: b"x" * 99]
)
def test_damaged_files_are_not_opened(tmp_path, damage):
    path = tmp_path / "file"
    path.write_bytes(damage(save({"images": np.zeros((3, 3), np.uint8)})))
    with pytest.raises(tensors_file.NotTensors):
        tensors_file.open_arrays(path)


def test_a_full_disk_leaves_no_part_of_a_split(tmp_path, monkeypatch):
    def full(number):
        raise OSError("No space left on device")

    monkeypatch.setattr(pack.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        pack.pack_task(tmp_path, SEED_0, TASK)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
