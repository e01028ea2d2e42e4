"""Augmentation: what each part does, and that numbers depend on seeds alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.fewshot.spec import FEWSHOT
from benchmarks.harness.cell import Cell
from benchmarks.training.augment import Augmentation, Protocol, image_transform

NOTHING = {
    "crop_area": [1.0, 1.0],
    "crop_ratio": [1.0, 1.0],
    "interpolation": "bicubic",
    "flip": 0.0,
    "policy": None,
    "erasing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "smoothing": 0.0,
}
POLICY = "rand-m9-mstd0.5-inc1"


def make(*, size=16, num_classes=4, workers=None, **changes):
    return Augmentation(
        Protocol.of(NOTHING | changes),
        size=size,
        mean=(0.5, 0.5, 0.5),
        num_classes=num_classes,
        device="cpu",
        workers=workers,
    )


def images(n=8, side=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(256, (n, 3, side // 4, side // 4), generator=generator)
    return coarse.to(torch.uint8).repeat_interleave(4, 2).repeat_interleave(4, 3)


def epoch(augmentation, pixels, index=None, *, batch_size=4, seed=7):
    index = torch.arange(len(pixels)) if index is None else index
    return torch.cat(list(augmentation.pixels(pixels, index, batch_size=batch_size, seed=seed)))


def test_without_any_part_images_come_out_as_they_are():
    pixels = images()
    order = torch.tensor([3, 0, 7, 7, 1, 2, 5, 6])
    assert torch.equal(epoch(make(), pixels, order), pixels[order])


def test_what_does_not_fill_a_batch_is_dropped():
    assert len(epoch(make(), images(8), batch_size=3)) == 6


def test_a_certain_flip_mirrors():
    pixels = images()
    assert torch.equal(epoch(make(flip=1.0), pixels), pixels.flip(3))


def test_crops_have_their_size_and_are_parts_of_the_image():
    pixels = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, :, 16:] = 200  # dark left, bright right
    found = epoch(make(crop_area=[0.1, 0.2]), pixels)
    assert found.shape == (64, 3, 16, 16)
    means = found.float().mean((1, 2, 3))
    assert (means < 5).any()  # a tenth to a fifth of the image often lies in one half
    assert (means > 195).any()


def test_numbers_depend_on_the_seed_alone():
    pixels = images()
    parts = {"policy": POLICY, "flip": 0.5, "crop_area": [0.3, 1.0]}
    first = epoch(make(**parts), pixels)
    augmentation = make(**parts)
    epoch(augmentation, pixels, seed=1)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert torch.equal(epoch(augmentation, pixels), first)
    assert torch.equal(epoch(make(workers=1, **parts), pixels), first)
    assert not torch.equal(epoch(make(**parts), pixels, seed=8), first)


def test_dropout_draws_what_it_would_without_augmentation():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    augmentation = make(policy=POLICY, flip=0.5, erasing=1.0, mixup=0.8)
    pixels = epoch(augmentation, images())
    augmentation.batch(pixels.float(), torch.tensor([0, 1] * 4), seed=3)
    assert torch.equal(torch.rand(3), wanted)


def test_every_operation_of_the_policy_runs_at_every_magnitude():
    """timm asks Pillow for posterising to no bit at all at its greatest magnitude, which Pillow refuses."""
    transform = image_transform(Protocol.of(NOTHING | {"policy": POLICY}), size=16, mean=(0.5,) * 3)
    policy = next(step for step in transform.transforms if hasattr(step, "ops"))
    names = {operation.name for operation in policy.ops}
    assert len(names) == 15
    assert "PosterizeIncreasing" in names
    image = Image.fromarray(images(1)[0].permute(1, 2, 0).numpy())
    for operation in policy.ops:
        operation.prob, operation.magnitude_std = 1.0, 0
        for magnitude in (0, 5, 9, 10):
            operation.magnitude = magnitude
            assert operation(image).size == (16, 16)
    posterize = next(op for op in policy.ops if op.name == "PosterizeIncreasing")
    assert np.unique(np.asarray(posterize(image))).tolist() == [0, 128]


def test_the_policy_changes_half_of_its_images_once_and_a_quarter_twice():
    """Two operations, each with probability 1/2: about a quarter of the images stay as they are."""
    pixels = images(400)
    found = epoch(make(policy=POLICY), pixels, batch_size=400)
    same = (found == pixels).flatten(1).all(1).float().mean()
    # Some operations change nothing on some images, such as equalising what is equal already.
    assert 0.2 < same < 0.45


def test_mixup_mixes_each_image_with_its_opposite_and_its_label_alike():
    inputs = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16).clone()
    labels = torch.tensor([0, 1, 2, 3])
    mixed, targets = make(mixup=0.8).batch(inputs.clone(), labels, seed=3)
    assert targets.shape == (4, 4)
    assert torch.allclose(targets.sum(1), torch.ones(4))
    share = targets[0, 0]
    assert 0 < share < 1
    assert torch.allclose(mixed[0], share * inputs[0] + (1 - share) * inputs[3])
    assert torch.allclose(targets[0, 3], 1 - share)


def test_cutmix_replaces_a_rectangle_by_its_share_of_the_label():
    inputs = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16).clone()
    mixed, targets = make(cutmix=1.0).batch(inputs.clone(), torch.arange(4), seed=3)
    assert set(mixed[0].unique().tolist()) <= {0.0, 3.0}
    share = (mixed[0] == 3.0).float().mean()
    assert share > 0
    assert torch.allclose(targets[0, 3], share)


def test_erasing_replaces_a_rectangle_by_noise():
    inputs = torch.full((4, 3, 16, 16), 9.0)
    erased, labels = make(erasing=1.0).batch(inputs.clone(), torch.arange(4), seed=3)
    assert labels.tolist() == [0, 1, 2, 3]
    for image in erased:
        changed = (image != 9.0).all(0)
        rows, columns = changed.any(1), changed.any(0)
        assert changed.sum() == rows.sum() * columns.sum() > 0


def test_without_mixing_a_batch_is_returned_as_it_is():
    inputs, labels = torch.ones(4, 3, 16, 16), torch.arange(4)
    found = make().batch(inputs, labels, seed=3)
    assert found[0] is inputs
    assert found[1] is labels


@pytest.mark.parametrize("scale", FEWSHOT.scales)
def test_the_declared_protocol_is_taken(scale):
    cell = next(FEWSHOT.cells(FEWSHOT.scales[scale]))
    config = FEWSHOT.config(cell, FEWSHOT.scales[scale])
    protocol = Protocol.of(config["augment"])
    assert (protocol.policy, protocol.flip, protocol.mixup) == (POLICY, 0.5, 0.0)
    sources = FEWSHOT.sources(cell, FEWSHOT.scales[scale])
    assert sources["augment.policy"].startswith("heekhero/DTL")
    assert isinstance(cell, Cell)
