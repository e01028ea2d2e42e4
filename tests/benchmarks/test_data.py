"""Reading packed images: what is resident, what is streamed, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.harness.errors import UsageError
from benchmarks.training import data
from benchmarks.training.data import Normalisation, Stream, load_images, open_stream, require_task

HALF = Normalisation.named("half", "cpu")


@pytest.fixture
def folder(packed_data):
    return packed_data / "embedded" / "vtab1k" / "eurosat"


@pytest.mark.parametrize("size", [1, 7, 40, 500])
@pytest.mark.parametrize("limit", [None, 10, 1000])
def test_a_stream_gives_what_resident_images_give(folder, size, limit):
    where = {"normalise": HALF, "device": "cpu", "limit": limit}
    stream, images = open_stream(folder, "test", **where), load_images(folder, "test", **where)
    assert len(stream) == len(images) == min(40, limit or 40)
    for (inputs, labels), (wanted, wanted_labels) in zip(
        stream.batches(size), images.batches(size), strict=True
    ):
        assert torch.equal(inputs, wanted)
        assert torch.equal(labels, wanted_labels)
    assert sum(len(labels) for _, labels in stream.batches(size)) == len(stream)


@pytest.mark.gpu
def test_a_stream_to_a_gpu_gives_the_same(folder):
    on_gpu = Normalisation.named("half", "cuda")
    stream = open_stream(folder, "test", normalise=on_gpu, device="cuda")
    wanted = open_stream(folder, "test", normalise=HALF, device="cpu")
    for (inputs, labels), (expected, expected_labels) in zip(
        stream.batches(7), wanted.batches(7), strict=True
    ):
        torch.testing.assert_close(inputs.cpu(), expected)
        assert torch.equal(labels.cpu(), expected_labels)


def test_an_empty_tail_makes_no_batch(folder):
    stream = open_stream(folder, "test", normalise=HALF, device="cpu")
    assert [len(labels) for _, labels in stream.batches(20)] == [20, 20]


def test_grey_images_reach_the_model_as_three_equal_channels(tmp_path):
    pixels = torch.arange(2 * 16, dtype=torch.uint8).view(2, 1, 4, 4)
    path = tmp_path / "grey.safetensors"
    save_file({"images": pixels, "labels": torch.zeros(2, dtype=torch.long)}, path)
    imagenet = Normalisation.named("imagenet", "cpu")
    ((inputs, _),) = Stream(path, 2, imagenet, "cpu").batches(4)
    assert torch.equal(inputs, imagenet(pixels.expand(2, 3, 4, 4)))
    assert inputs.shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [("half", [-1, -1, -1], [1, 1, 1]), ("none", [0, 0, 0], [1, 1, 1]),
     ("imagenet", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
      [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])],
)  # fmt: skip
def test_normalisations(name, black, white):
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    found = Normalisation.named(name, "cpu")(ends)[:, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([black, white], dtype=torch.float32))


def test_an_unknown_normalisation_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'imagenet'"):
        Normalisation.named("image-net", "cpu")


def test_a_file_that_differs_from_its_manifest_is_refused(tmp_path, folder):
    copy = tmp_path / "eurosat"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    tensors = load_file(copy / "test.safetensors")
    tensors["labels"][0] += 1
    save_file(tensors, copy / "test.safetensors")
    with pytest.raises(UsageError, match="differs from its manifest"):
        open_stream(copy, "test", normalise=HALF, device="cpu")


def _pack(root, variant, **more):
    folder = data.task_folder(root, variant, "vtab1k", "pets")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"variant": variant, "splits": {}, **more}))
    return folder


def test_what_is_prepared_as_another_variant_is_named(tmp_path):
    _pack(tmp_path, "folder")
    _pack(tmp_path, "embedded")
    with pytest.raises(
        UsageError, match=r"\(folder is: --set data.variant=folder\): python -m data_prep"
    ):
        require_task(tmp_path, {"variant": "tfds"}, "vtab1k", "pets")


def test_images_of_another_size_or_interpolation_are_refused(tmp_path):
    folder = _pack(tmp_path, "tfds", image_size=32, resize={"interpolation": "bicubic"})
    section = {"variant": "tfds", "image_size": 224, "interpolation": "bicubic"}
    with pytest.raises(
        UsageError, match=r"have image_size 32, the configuration has 224: .* --size 224"
    ):
        require_task(tmp_path, section, "vtab1k", "pets")
    changed = section | {"image_size": 32, "interpolation": "bilinear"}
    with pytest.raises(
        UsageError, match="have interpolation bicubic, the configuration has bilinear"
    ):
        require_task(tmp_path, changed, "vtab1k", "pets")
    assert require_task(tmp_path, section | {"image_size": 32}, "vtab1k", "pets") == folder


def test_the_fingerprint_says_where_real_images_came_from(tmp_path):
    about = {
        "source": {"kind": "list files"},
        "resize": {"size": [224, 224]},
        "jpeg": "yes",
        "notes": [],
    }
    folder = _pack(tmp_path, "folder", **about, class_names=["a"])
    found = data.fingerprint(folder)
    assert {key: found[key] for key in about} == about
    assert "class_names" not in found
