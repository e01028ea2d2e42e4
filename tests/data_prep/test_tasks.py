"""The 19 generated tasks: what is declared, shapes, determinism, disjoint splits."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.embedded.vtab1k import SPLITS, TASKS, generate
from data_prep.embedded.vtab1k.task import draw_labels
from data_prep.streams import stream

CLASSES = {
    "natural": {
        "cifar100": 100,
        "caltech101": 102,
        "dtd": 47,
        "flowers102": 102,
        "pets": 37,
        "svhn": 10,
        "sun397": 397,
    },
    "specialized": {"patch_camelyon": 2, "eurosat": 10, "resisc45": 45, "retinopathy": 5},
    "structured": {
        "clevr_count": 8,
        "clevr_dist": 6,
        "dmlab": 6,
        "kitti_dist": 4,
        "dsprites_loc": 16,
        "dsprites_ori": 16,
        "smallnorb_azim": 18,
        "smallnorb_elev": 9,
    },
}
BY_NAME = {task.name: task for task in TASKS}
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def test_declared_tasks_are_those_of_vtab():
    declared = {}
    for task in TASKS:
        declared.setdefault(task.group, {})[task.name] = task.num_classes
    assert declared == CLASSES


@every_task
def test_class_names_are_distinct_words(task):
    assert len(set(task.class_names)) == task.num_classes
    assert all(name == name.strip() != "" for name in task.class_names)


@every_task
def test_images_and_labels(task):
    images, labels = generate(task, "val200", n=60)
    assert images.shape == (60, 3, 32, 32)
    assert images.dtype == np.uint8
    assert labels.shape == (60,)
    assert labels.dtype == np.int64
    assert 0 <= labels.min() <= labels.max() < task.num_classes
    assert images.reshape(60, -1).std(axis=1).min() > 2, "an image is blank"


@every_task
def test_same_seed_same_bytes_other_seed_other_bytes(task):
    first, first_labels = generate(task, "test", seed=3, n=24)
    again, again_labels = generate(task, "test", seed=3, n=24)
    other, other_labels = generate(task, "test", seed=4, n=24)
    assert first.tobytes() == again.tobytes()
    assert first_labels.tobytes() == again_labels.tobytes()
    assert (first != other).any(axis=(1, 2, 3)).all()
    assert task.num_classes == 2 or (first_labels != other_labels).any()


@every_task
def test_splits_share_no_image(task):
    digests = [
        {hashlib.sha256(image.tobytes()).hexdigest() for image in generate(task, split, n=50)[0]}
        for split in SPLITS
    ]
    assert len(set.union(*digests)) == 50 * len(SPLITS)


def _digest(names):
    total = hashlib.sha256()
    drawn = {name: generate(BY_NAME[name], "val200", n=20) for name in names}
    for name in sorted(drawn):
        total.update(drawn[name][0].tobytes() + drawn[name][1].tobytes())
    return total.hexdigest()


def test_order_and_hash_seed_do_not_matter():
    names = ["flowers102", "clevr_count", "svhn", "dtd"]
    here = _digest(names)
    assert here == _digest(names[::-1])
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_tasks import _digest\n"
        "print(_digest(sys.argv[2:]))"
    )
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": path}
    command = [sys.executable, "-c", program, str(Path(__file__).parent), *names[2:], *names[:2]]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


@every_task
def test_labels_are_balanced_unless_declared_otherwise(task):
    counts = np.bincount(draw_labels(task, stream("test", task.name), 1000), minlength=8)
    if task.weights is None:
        assert counts[: task.num_classes].max() - counts[: task.num_classes].min() <= 1
    else:
        share = np.asarray(task.weights) / sum(task.weights)
        assert np.abs(counts[: task.num_classes] / 1000 - share).max() < 0.05


@pytest.mark.parametrize("split", SPLITS)
def test_full_splits_have_their_size(split):
    images, labels = generate(BY_NAME["dsprites_loc"], split)
    assert len(images) == len(labels) == SPLITS[split]
    assert SPLITS == {"train800": 800, "val200": 200, "test": 1000}
