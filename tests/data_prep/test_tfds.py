"""VTAB-1K through TFDS' own builders, without a network: fake archives in the original formats.

What is asserted is asserted on the packed images and labels: every fake picture carries a number by
which it is found again, and the labels are computed here from what was written into the archive.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
import tensorflow_datasets as tfds

from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Settings, lacking, run_group
from data_prep import cli, pack
from data_prep.errors import DataError
from data_prep.sources import make_source
from data_prep.vtab1k import TASKS
from data_prep.vtab1k import source as real
from data_prep.vtab1k.tfds_source import Tfds
from tests.data_prep import archives

ROOT = Path(__file__).resolve().parents[2]

# TensorFlow alone takes a quarter of a minute to import.
pytestmark = pytest.mark.slow

# Of each builder's splits: how many examples the fake archive has.
SIZES = {
    "cifar100": {"train": 60, "test": 30},
    "caltech101": {"train": 60, "test": 30},
    "dtd": {"train": 60, "validation": 20, "test": 30},
    "oxford_flowers102": {"train": 60, "validation": 20, "test": 30},
    "oxford_iiit_pet": {"train": 60, "test": 30},
    "svhn_cropped": {"train": 60, "test": 30},
    "sun397/tfds": {"train": 60, "validation": 20, "test": 30},
    "patch_camelyon": {"train": 60, "validation": 20, "test": 30},
    "eurosat/rgb": {"train": 90},
    "resisc45": {"train": 90},
    "diabetic_retinopathy_detection/btgraham-300": {"train": 60, "validation": 20, "test": 30},
    "clevr": {"train": 60, "validation": 30},
    "dmlab": {"train": 60, "validation": 20, "test": 30},
    "kitti": {"train": 60, "validation": 20, "test": 30},
    "dsprites": {"train": 1300},
    "smallnorb": {"train": 60, "test": 60},
}
FIRST, HELD_OUT = 32, 6


def shrunk(task):
    """The task as declared, with slices in the same places of a source with fewer examples."""
    sizes = SIZES[task.builder]
    slices, ranges = {}, {}
    for split, where in task.slices.items():
        name, start, stop = parsed(where, task.sizes)
        scale = sizes[name] / task.sizes[name]
        low = round(start * scale)
        high = {"train800": FIRST, "val200": low + HELD_OUT}.get(split, round(stop * scale))
        slices[split] = f"{name}[{low}:{high}]"
        ranges[split] = (name, low, high)
    counts = {split: high - low for split, (_, low, high) in ranges.items()}
    return dataclasses.replace(task, sizes=sizes, slices=slices, counts=counts), ranges


def parsed(where, sizes):
    """Split, first and last example of a slice in TFDS' notation."""
    name, bracket, inside = where.partition("[")
    if not bracket:
        return name, 0, sizes[name]
    ends = inside.rstrip("]").split(":")
    start, stop = (
        int(end)
        if end and "%" not in end
        else int(end[:-1]) * sizes[name] // 100
        if end
        else default
        for end, default in zip(ends, (0, sizes[name]), strict=True)
    )
    return name, start, stop


SMALL = {task.name: shrunk(task) for task in TASKS}


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """TFDS' data folder with the fake archives of all 16 builders, and what was written into them."""
    root = tmp_path_factory.mktemp("tfds")
    return root, {name: archives.make(name, root, SIZES[name]) for name in archives.BUILDERS}


@pytest.fixture(scope="session")
def packed(raw, tmp_path_factory):
    """All 19 tasks prepared by the command line, at 32 x 32 pixels."""
    data = tmp_path_factory.mktemp("packed")
    patch = pytest.MonkeyPatch()
    patch.setattr(real.tasks, "TASKS", tuple(task for task, _ in SMALL.values()))
    arguments = ["vtab1k", "--source", "tfds", "--root", str(raw[0]), "--data", str(data)]
    code = cli.main(["prepare", *arguments, "--size", "32", "--jobs", "2"])
    verified = cli.main(["verify", "vtab1k", "--source", "tfds", "--data", str(data)])
    patch.undo()
    assert (code, verified) == (0, 0)
    return data


def truth_of(raw, task):
    """Identity -> annotation of all examples of a builder."""
    return {
        identity: annotation
        for examples in raw[1][task.builder].values()
        for identity, annotation in examples.items()
    }


def class_below(value, edges):
    """The class of a distance, on the edge the lower one."""
    return int(np.searchsorted(edges, value, side="left"))


def expected_label(task, annotation):
    """The label by the published rules, from what the archive says."""
    if task.name == "clevr_count":
        return len(annotation["distances"]) - 3
    if task.name == "clevr_dist":
        return class_below(min(annotation["distances"]), [8, 8.5, 9, 9.5, 10])
    if task.name == "kitti_dist":
        near = [z for kind, z in annotation["objects"] if kind in ("Car", "Van", "Truck")]
        return class_below(min(near), [8, 20]) if near else 3
    if task.name == "dsprites_loc":
        return annotation["label_x_position"] // 2
    if task.name == "dsprites_ori":
        return int(annotation["label_orientation"] // 2.5)
    if task.name.startswith("smallnorb"):
        return annotation["label_azimuth" if task.name.endswith("azim") else "label_elevation"]
    return annotation


@pytest.mark.parametrize("name", SMALL)
def test_every_packed_label_is_what_the_archive_says(packed, raw, name):
    task, _ = SMALL[name]
    truth = truth_of(raw, task)
    seen = set()
    for split, count in task.counts.items():
        arrays = pack.read_split(packed, make_source("tfds"), task, split)
        assert arrays["images"].shape == (count, task.channels, 32, 32)
        found = archives.identities(np.asarray(arrays["images"])).tolist()
        assert len(set(found)) == count
        wanted = [expected_label(task, truth[identity]) for identity in found]
        assert arrays["labels"].tolist() == wanted
        assert not seen & set(found), "an example is in two splits"
        seen |= set(found)


@pytest.mark.parametrize("name", SMALL)
def test_slices_are_those_places_of_the_stored_order(packed, raw, name):
    task, ranges = SMALL[name]
    builder = tfds.builder(f"{task.builder}:{task.version}", data_dir=str(raw[0]))
    for split, (where, low, high) in ranges.items():
        whole = builder.as_data_source(split=where)
        images = [np.asarray(whole[index]["image"]) for index in range(low, high)]
        stored = [
            archives.identities((255 // task.brightest * i).transpose(2, 0, 1)[None])[0]
            for i in images
        ]
        arrays = pack.read_split(packed, make_source("tfds"), task, split)
        assert archives.identities(np.asarray(arrays["images"])).tolist() == stored


def test_slices_at_full_size_are_the_published_ones(tmp_path):
    """TFDS itself resolves the declared slices on metadata of the real sizes."""
    published = {  # start of val200 in its split, start of test, by facts of the data sets
        "cifar100": (45_000, 0), "caltech101": (2_754, 0), "pets": (2_944, 0), "svhn": (65_931, 0),
        "eurosat": (16_200, 21_600), "resisc45": (18_900, 25_200), "clevr_count": (63_000, 0),
        "clevr_dist": (63_000, 0), "dsprites_loc": (589_824, 663_552),
        "dsprites_ori": (589_824, 663_552), "smallnorb_azim": (0, 12_150),
        "smallnorb_elev": (0, 12_150),
    }  # fmt: skip
    for task in TASKS:
        splits = [
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[size],
                num_bytes=1,
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=tmp_path,
                    dataset_name="x",
                    split=name,
                    filetype_suffix="array_record",
                ),
            )
            for name, size in task.sizes.items()
        ]
        resolved = tfds.core.splits.SplitDict(splits)
        for split, where in task.slices.items():
            (read,) = resolved[where].file_instructions
            assert resolved[where].num_examples == task.counts[split], (task.name, split)
            start = {"train800": 0, "val200": 0, "test": 1}[split]
            start = published.get(task.name, (0, 0))[start] if split != "train800" else 0
            assert read.skip == start, (task.name, split)


def test_declared_sizes_add_up_to_the_published_total():
    assert sum(task.counts["test"] for task in TASKS) == 387_904
    assert len(TASKS) == 19


def test_edge_cases_of_the_rules_are_in_the_archives(raw):
    """Otherwise the tests above would not have met them."""
    clevr = [
        min(a["distances"])
        for a in truth_of(raw, SMALL["clevr_dist"][0]).values()
        if a["distances"]
    ]
    assert {8.0, 8.5, 9.0, 9.5, 10.0} <= set(clevr)
    counts = {len(a["distances"]) for a in truth_of(raw, SMALL["clevr_count"][0]).values()}
    assert {3, 10} <= counts
    kitti = [
        [z for kind, z in a["objects"] if kind in ("Car", "Van", "Truck")]
        for a in truth_of(raw, SMALL["kitti_dist"][0]).values()
    ]
    assert [] in kitti
    assert {8.0, 20.0} <= {min(near) for near in kitti if near}
    sprites = truth_of(raw, SMALL["dsprites_ori"][0]).values()
    assert {a["label_orientation"] for a in sprites} == set(range(40))
    assert {a["label_x_position"] for a in sprites} == set(range(32))


def test_manifest_names_builder_slices_resizing_and_drift(packed):
    manifest = pack.read_manifest(packed / "tfds" / "vtab1k" / "pets")
    assert manifest["source"] == {
        "kind": "tensorflow-datasets",
        "builder": "oxford_iiit_pet",
        "version": "4.0.0",
        "classic_version": "3.2.0",
        "library": f"tensorflow-datasets {tfds.__version__}",
    }
    assert manifest["resize"]["interpolation"] == "bicubic"
    assert "3.x is gone" in manifest["notes"][0]
    assert len(manifest["class_names"]) == 37
    assert manifest["splits"]["val200"]["slice"] == SMALL["pets"][0].slices["val200"]
    files = {
        name: pack.read_manifest(packed / "tfds" / "vtab1k" / name)["splits"]["test"]["files"]
        for name in ("cifar100", "dtd", "smallnorb_azim")
    }
    kinds = [{kind.partition(",")[0] for kind in kinds} for kinds in files.values()]
    assert kinds == [{"PNG RGB"}, {"JPEG RGB"}, {"PNG L"}]
    # TFDS describes sun397 as of quality 72 too, but encodes with OpenCV's default.
    encoded = {"sun397": " (quality 95)", "retinopathy": " (quality 72)"}
    for task in TASKS:  # what TFDS was said to do is what it did
        manifest = pack.read_manifest(packed / "tfds" / "vtab1k" / task.name)
        assert manifest["jpeg"] == task.jpeg + encoded.get(task.name, ""), task.name


def test_grey_data_are_packed_once_and_white_is_255(packed):
    for name in ("dsprites_loc", "smallnorb_azim"):
        images = pack.read_split(packed, make_source("tfds"), SMALL[name][0], "test")["images"]
        assert images.shape[1] == 1
        assert images.max() == 255


def test_what_is_prepared_is_read_without_tensorflow(packed, raw, tmp_path):
    """A second preparing, at another size, from what TFDS keeps: no TensorFlow, no archives."""
    program = (
        "import sys, dataclasses\n"
        "from pathlib import Path\n"
        "from data_prep import pack\n"
        "from data_prep.vtab1k import TASKS\n"
        "from data_prep.vtab1k.tfds_source import Tfds\n"
        "task = next(t for t in TASKS if t.name == 'dtd')\n"
        "task = dataclasses.replace(task, sizes={'train': 60, 'validation': 20, 'test': 30},\n"
        "    slices={'train800': 'train[:4]', 'val200': 'validation[:2]', 'test': 'test'},\n"
        "    counts={'train800': 4, 'val200': 2, 'test': 30})\n"
        "pack.pack_task(Path(sys.argv[2]), Tfds(Path(sys.argv[1]), 224), task, jobs=2)\n"
        "print('tensorflow' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(raw[0]), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "False"
    manifest = json.loads((tmp_path / "tfds/vtab1k/dtd/manifest.json").read_text())
    assert manifest["image_size"] == 224


def test_other_numbers_of_examples_are_refused(packed, raw):
    task = next(task for task in TASKS if task.name == "cifar100")
    with pytest.raises(DataError, match=r"train has 60 examples; .* defined on 50,000"):
        Tfds(raw[0], 32).open(task)


def _prepare(capsys, root, data, selector):
    where = ["--source", "tfds", "--root", str(root), "--data", str(data), "--size", "32"]
    code = cli.main(["prepare", selector, *where])
    return code, *capsys.readouterr()


def test_what_is_fetched_by_hand_is_explained(capsys, tmp_path):
    for name, needed in (
        ("resisc45", "NWPU-RESISC45/<class>/*.jpg"),
        ("retinopathy", "trainLabels.csv"),
    ):
        code, _, err = _prepare(capsys, tmp_path, tmp_path / "data", f"vtab1k/{name}")
        assert code == 1
        assert f"{name}: " in err
        assert needed in err
        assert str(tmp_path / "downloads" / "manual") in err


def test_a_failing_download_names_the_task_and_the_others_go_on(capsys, tmp_path, monkeypatch):
    """SVHN's archive is not there; CIFAR-100's and dSprites' are. Later it is, and it alone is prepared."""

    def dead(url, **options):
        raise ConnectionError(f"{url}: 404")

    monkeypatch.setattr(tfds.core.download.downloader, "_open_url", dead)
    monkeypatch.setattr(real.tasks, "TASKS", tuple(task for task, _ in SMALL.values()))
    for name in ("cifar100", "dsprites"):
        archives.make(name, tmp_path, SIZES[name])
    selector = "vtab1k/[csd][ivs][fhp][anr]*"
    code, out, err = _prepare(capsys, tmp_path, tmp_path / "data", selector)
    assert code == 1
    assert "3 prepared, 0 already there, 1 failed" in out
    assert "svhn: svhn_cropped:3.1.0 could not be prepared: " in err
    assert "train_32x32.mat" in err
    assert f"is taken from {tmp_path / 'downloads' / 'manual'} under its registered name" in err
    assert "The same command continues and uses the finished downloads" in err
    archives.make("svhn_cropped", tmp_path, SIZES["svhn_cropped"])
    code, out, _ = _prepare(capsys, tmp_path, tmp_path / "data", selector)
    assert code == 0
    assert "1 prepared, 3 already there, 0 failed" in out


def test_a_copy_as_tfrecord_is_named(capsys, tmp_path):
    archives.make("cifar100", tmp_path, SIZES["cifar100"])
    builder = tfds.builder("cifar100:3.0.2", data_dir=str(tmp_path))
    builder.download_and_prepare(download_dir=str(tmp_path / "downloads"))
    code, _, err = _prepare(capsys, tmp_path, tmp_path / "data", "vtab1k/cifar100")
    assert code == 1
    assert "is prepared in" in err
    assert "as tfrecord" in err


@pytest.mark.parametrize("name", SMALL)
def test_one_training_run_on_each(packed, tmp_path, name):
    """Stage 1 and stage 2 on what TFDS gave, through the harness; the record says what it ran on."""
    cells = [
        Cell("vtab1k", "vit_micro", name, method, 0) for method in ("lora-r8", "lora-r8+linear")
    ]
    settings = Settings(
        scale="smoke",
        results=tmp_path / "results",
        work=tmp_path / "work",
        data=packed,
        device="cpu",
        overrides={"data.variant": "tfds", "data.limit_test": None},
    )
    assert not lacking(cells, settings)
    run_group(cells, settings, lambda event: None)
    task, _ = SMALL[name]
    for cell in cells:
        record = settings.store.load(cell)
        assert (record["status"], record["error"]) == ("ok", None)
        assert record["data"]["variant"] == "tfds"
        assert record["data"]["source"]["builder"] == task.builder
        assert record["data"]["source"]["version"] == task.version
        assert record["data"]["resize"]["interpolation"] == "bicubic"
        assert record["counts"]["n_train"] == FIRST
        assert record["counts"]["n_evaluated"] == task.counts["test"]
        metrics = record["metrics"]["top1_accuracy"]
        assert set(metrics) == {"last_epoch", "best_val", "max_test"}
        assert None not in metrics.values()
        assert record["primary"]["selection"] == "last_epoch"
        assert record["protocol"]["sources"]["data.variant"] == "command line"
    assert record["stage1"]["cell"] == str(cells[0])
