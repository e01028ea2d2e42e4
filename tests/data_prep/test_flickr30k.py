"""Flickr30K's precomputed layout, in both storages, and every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from data_prep import cli
from data_prep.errors import DataError
from data_prep.flickr30k import generated, packed, precomputed

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = generated.VOCABULARY
REGIONS, WIDTH = 3, 8
IMAGES = {"train": 10, "dev": 1_014, "test": 7}


def _run(capsys, *argv):
    code = cli.main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _features(rows, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((rows, REGIONS, WIDTH), dtype=np.float32)


def _layout(folder, *, repeated=False):
    """Write a small data set in the layout; return the folder."""
    folder.mkdir(parents=True)
    for number, (split, images) in enumerate(IMAGES.items()):
        features = _features(images, number)
        np.save(folder / f"{split}_ims.npy", features.repeat(5, axis=0) if repeated else features)
        lines = [f"A dog, {split} {k}: Café {k % 5}!" for k in range(5 * images)]
        (folder / f"{split}_caps.txt").write_bytes("\n".join(lines).encode() + b"\n")
        ids = "".join(f"{k}\n" for k in range(images))
        (folder / f"{split}_ids.txt").write_text(ids)
    return folder


def _options(root, data):
    where = ["prepare", "flickr30k", "--root", root, "--data", data]
    return [*where, "--vocab", VOCABULARY, "--other-sizes"]


@pytest.fixture
def root(tmp_path):
    return _layout(tmp_path / "files")


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("below", [".", "f30k/precomp", "f30k_precomp"])
def test_both_storages_are_prepared(capsys, tmp_path, repeated, below, monkeypatch):
    files = _layout(tmp_path / "files" / below, repeated=repeated)
    data = tmp_path / "data"
    assert _run(capsys, *_options(tmp_path / "files", data))[0] == 0
    folder = data / "folder" / "flickr30k"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert Path(manifest["root"]) == files.resolve()
    assert not list(folder.glob("*.npy"))
    for number, split in enumerate(IMAGES):
        entry = manifest["splits"][split]
        images = 1_000 if split == "dev" else IMAGES[split]
        assert (entry["n_images"], entry["n_captions"]) == (images, 5 * images)
        assert entry["features"]["repeated"] is repeated
        content = (files / f"{split}_ims.npy").read_bytes()
        assert entry["features"]["sha256"] == hashlib.sha256(content).hexdigest()
        arrays = load_file(folder / f"{split}.captions.safetensors")
        stored = np.load(files / f"{split}_ims.npy", mmap_mode="r")
        meant = _features(IMAGES[split], number)
        assert len(arrays["image"]) == 5 * images
        for caption in (0, 7, 5 * images - 1):
            assert np.array_equal(stored[arrays["image"][caption]], meant[caption // 5])
    code, out, _ = _run(capsys, "verify", "flickr30k", "--data", data)
    assert code == 1
    assert "(475 of them), a run's text encoder has 30522" in out
    monkeypatch.setitem(packed.VOCABULARY, "folder", 475)
    assert _run(capsys, "verify", "flickr30k", "--data", data)[0] == 0
    again = _run(capsys, *_options(tmp_path / "files", data))
    assert "already there" in again[1]


def test_captions_are_cut_as_bert_does(capsys, root, tmp_path):
    assert _run(capsys, *_options(root, tmp_path / "data"))[0] == 0
    folder = tmp_path / "data" / "folder" / "flickr30k"
    arrays = load_file(folder / "test.captions.safetensors")
    pieces = VOCABULARY.read_text().split("\n")
    words = [
        [pieces[k] for k in arrays["pieces"][first:last]]
        for first, last in zip(arrays["words"][:-1], arrays["words"][1:], strict=True)
    ][: arrays["captions"][1]]
    assert words == [
        ["a"],
        ["dog"],
        [","],
        ["t", "##es", "##t"],
        ["[UNK]"],  # this vocabulary has no digits and no colon
        ["[UNK]"],
        ["cafe"],
        ["[UNK]"],
        ["[UNK]"],
    ]
    assert (folder / "test.caps.txt").read_text().split("\n")[0] == "A dog, test 0: Café 0!"


def _truncated(root):
    path = root / "train_ims.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    return ["train_ims.npy: truncated", f"{len(content) - 10:,}", f"{len(content):,}"]


def _no_header(root):
    (root / "train_ims.npy").write_bytes(b"PK\3\4 something else")
    return ["train_ims.npy: not a NumPy file"]


def _double(root):
    np.save(root / "test_ims.npy", np.zeros((7, REGIONS, WIDTH)))
    return ["test_ims.npy: float64 (7, 3, 8)"]


def _flat(root):
    np.save(root / "test_ims.npy", np.zeros((7, REGIONS * WIDTH), np.float32))
    return ["test_ims.npy: float32 (7, 24)"]


def _latin(root):
    path = root / "dev_caps.txt"
    lines = path.read_bytes().split(b"\n")
    lines[3] = "Un café".encode("latin-1")
    path.write_bytes(b"\n".join(lines))
    return ["dev_caps.txt:4, byte 7: 0xe9 is not UTF-8"]


def _utf16(root):
    path = root / "dev_caps.txt"
    path.write_bytes(path.read_text().replace("é", "e").encode("utf-16-le"))
    return ["dev_caps.txt:1, byte 2: a zero byte"]


def _empty_caption(root):
    path = root / "train_caps.txt"
    lines = path.read_bytes().split(b"\n")
    lines[11] = b"  \r"
    path.write_bytes(b"\n".join(lines))
    return ["train_caps.txt:12: an empty caption"]


def _lost_caption(root):
    path = root / "train_caps.txt"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[1:]))
    return ["train_caps.txt: 49 captions are not 5 for each image"]


def _lost_image(root):
    np.save(root / "train_ims.npy", _features(9))
    return ["train_ims.npy: 9 rows for 50 captions", "10, one for each image"]


def _not_a_number(root):
    features = np.load(root / "test_ims.npy")
    features[4, 2, 5] = np.nan
    np.save(root / "test_ims.npy", features)
    return ["test_ims.npy: image row 4, region 2, dimension 5 (from 0 on): nan"]


def _infinite(root):
    features = np.load(root / "dev_ims.npy")
    features[1_013, 0, 0], features[1_013, 0, 1] = np.inf, -np.inf
    np.save(root / "dev_ims.npy", features)
    return ["dev_ims.npy: image row 1013, region 0, dimension 0 (from 0 on): inf"]


def _huge(root):
    features = np.load(root / "test_ims.npy")
    features[2, 1, 3], features[3, 0, 0], features[0, 0, 0] = 3e38, -3e38, 1e-42
    np.save(root / "test_ims.npy", features)
    return ["test_ims.npy: image row 2, region 1, dimension 3 (from 0 on): 3e+38 is beyond 10000"]


def _not_repeated(root):
    features = np.load(root / "test_ims.npy").repeat(5, axis=0)
    features[12] += 1
    np.save(root / "test_ims.npy", features)
    return ["test_ims.npy: rows 10 and 12 differ"]


def _bad_id(root):
    (root / "test_ids.txt").write_text("1\n2\nthree\n")
    return ["test_ids.txt:3: b'three' is not the number of an image"]


def _few_ids(root):
    (root / "test_ids.txt").write_text("1\n2\n")
    return ["test_ids.txt: 2 ids instead of 7 or 35"]


def _no_file(root):
    (root / "dev_caps.txt").unlink()
    return ["no dev_caps.txt: an incomplete copy"]


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _no_header,
        _double,
        _flat,
        _latin,
        _utf16,
        _empty_caption,
        _lost_caption,
        _lost_image,
        _not_a_number,
        _infinite,
        _huge,
        _not_repeated,
        _bad_id,
        _few_ids,
        _no_file,
    ],
)
def test_damage_is_refused_with_file_and_place(capsys, root, tmp_path, damage):
    expected = damage(root)
    data = tmp_path / "data"
    code, out, err = _run(capsys, *_options(root, data))
    assert code == 1
    assert out == ""
    message = err.splitlines()[-1]
    assert all(part in message for part in expected), message
    assert not data.exists()


def test_what_was_prepared_before_stays_when_new_files_are_damaged(capsys, root, tmp_path):
    data = tmp_path / "data"
    assert _run(capsys, *_options(root, data))[0] == 0
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    _not_a_number(root)
    assert _run(capsys, "verify", "flickr30k", "--data", data)[0] == 1
    assert _run(capsys, *_options(root, data))[0] == 1
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_other_sizes_have_to_be_asked_for(capsys, root, tmp_path):
    options = [option for option in _options(root, tmp_path / "data") if option != "--other-sizes"]
    code, _, err = _run(capsys, *options)
    assert code == 1
    assert "50 captions of 10 images; Flickr30K's train has 29,000" in err
    assert "--other-sizes" in err


def test_real_sizes_need_no_option(root, monkeypatch):
    monkeypatch.setattr(precomputed, "IMAGES", IMAGES)
    with pytest.raises(DataError, match=r"3 regions of 8 numbers; .* 36 of 2,048"):
        precomputed.look(root)
    monkeypatch.setattr(precomputed, "REGIONS", REGIONS)
    monkeypatch.setattr(precomputed, "WIDTH", WIDTH)
    assert precomputed.look(root).keys() == IMAGES.keys()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["prepare", "flickr30k", "--source", "folder"], "needs --root"),
        (["prepare", "flickr30k", "--other-sizes"], "--other-sizes is for a folder (--root DIR)"),
        (["prepare", "flickr30k", "--size", "8"], "--size is for images"),
        (["prepare", "flickr30k", "--source", "tfds"], "embedded and folder do"),
        (["verify", "flickr30k/train"], "no tasks to select"),
    ],
)
def test_usage_errors(capsys, tmp_path, options, expected):
    code, out, err = _run(capsys, *options, "--data", tmp_path)
    assert (code, out) == (2, "")
    assert expected in err


def test_a_vocabulary_that_is_not_there_or_is_none(capsys, root, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    data = tmp_path / "data"
    options = _options(root, data)
    del options[options.index("--vocab") : options.index("--vocab") + 2]
    code, _, err = _run(capsys, *options)
    assert code == 1
    assert f"put its vocab.txt at {data}/weights/bert-base-uncased/vocab.txt" in err
    wrong = tmp_path / "vocab.txt"
    wrong.write_text("[PAD]\na\n")
    code, _, err = _run(capsys, *options, "--vocab", wrong)
    assert code == 1
    assert "no [UNK], [CLS], [SEP], [MASK] in it" in err
    local = data / "weights" / "bert-base-uncased" / "vocab.txt"
    local.parent.mkdir(parents=True)
    local.write_bytes(VOCABULARY.read_bytes())
    assert _run(capsys, *options)[0] == 0
    manifest = json.loads((data / "folder" / "flickr30k" / "manifest.json").read_text())
    assert manifest["tokenizer"]["name"] == "vocab.txt"  # and not BERT's, which has other pieces


MEASURE = """
import resource, sys
from data_prep import cli
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = cli.main(sys.argv[1:])
print(code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def test_features_are_never_in_memory_as_a_whole(root, tmp_path):
    """A file of 0.6 GB (zeros, which a file system does not store) takes less than a fourth of it."""
    rows = 50 * 41  # of 36 regions of 2,048
    path = root / "train_ims.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 36, 2_048)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + rows * 36 * 2_048 * 4)
    (root / "train_caps.txt").write_text("a dog .\n" * rows * 5)
    (root / "train_ids.txt").unlink()
    size = path.stat().st_size >> 20
    command = [sys.executable, "-c", MEASURE, *map(str, _options(root, tmp_path / "data"))]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    code, grown = done.stdout.split()[-2:]
    assert code == "0"
    assert size > 550
    assert int(grown) < size // 4


def test_show_draws_features_and_captions(capsys, root, tmp_path):
    out, data = tmp_path / "sheet.png", tmp_path / "data"
    assert _run(capsys, *_options(root, data))[0] == 0
    assert _run(capsys, "show", "flickr30k", "--data", data, "--out", out)[0] == 0
    assert out.read_bytes().startswith(b"\x89PNG")
