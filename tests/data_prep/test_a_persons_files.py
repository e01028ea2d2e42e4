"""Files as people have them: marks of byte order, endings in capitals, odd images; plain terminals."""

from __future__ import annotations

import codecs
import importlib.util
import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import vtab1k
from benchmarks.harness import cli as benchmarks_cli
from benchmarks.harness.registry import BENCHMARKS
from benchmarks.training import released
from data_prep import cli, pack, pictures
from data_prep.errors import DataError
from data_prep.flickr30k import precomputed
from data_prep.flickr30k.tokens import WordPieces
from data_prep.list_files import with_its_ending
from data_prep.msrvtt import generated, lists
from data_prep.msrvtt.tokens import ClipTokens
from data_prep.sources import make_source
from reports import cli as reports_cli
from slurm import cli as slurm_cli
from slurm import options as slurm_options


def _loaded(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


exported, videos = _loaded("exported"), _loaded("videos")


def _mark(path):
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


def _encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


# -- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_of_grey_are_scaled_and_not_cut_off(kind, channels):
    ramp = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    found = pictures.decode(_encoded(Image.fromarray(ramp), kind), size=256, channels=channels)
    assert found.kind == f"{kind} I;16"
    meant = np.round(ramp / 65_535 * 255)
    for channel in found.pixels:
        assert np.abs(channel - meant).max() <= 0.5


def test_sixteen_bits_of_colour_keep_the_upper_eight():
    """Pillow writes none: a file made by hand, of one pixel."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = zlib.compress(b"\0" + struct.pack(">HHH", 0xC8FF, 0x6400, 0x3280))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row)
    found = pictures.decode(content + chunk(b"IEND", b""), size=1, channels=3)
    assert found.pixels.ravel().tolist() == [0xC8, 0x64, 0x32]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_known_range_are_refused(mode):
    image = Image.fromarray(np.full((3, 3), 1000, np.int32 if mode == "I" else np.float32))
    with pytest.raises(
        DataError, match=rf"a TIFF of mode {mode}, whose values have no known range"
    ):
        pictures.decode(_encoded(image, "TIFF"), size=3, channels=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_other_modes_have_their_colour(mode):
    image = Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode)
    content = _encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    assert (pictures.decode(content, size=9, channels=3).pixels == 255).all()
    if mode == "P":
        transparent = io.BytesIO()
        image.save(transparent, "PNG", transparency=image.getpixel((0, 0)))
        assert (pictures.decode(transparent.getvalue(), size=9, channels=3).pixels == 255).all()


@pytest.mark.parametrize("side", [65_000, 13_400, 11_000])
def test_a_header_that_claims_a_huge_size_is_named(side):
    """By Pillow an error, an error, and a warning; none of them has the file's name."""
    content = bytearray(_encoded(Image.new("RGB", (8, 8)), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=rf"its header says {side:,} x {side:,} pixels"):
            pictures.decode(bytes(content), size=8, channels=3)


@pytest.mark.parametrize(
    ("listed", "there"),
    [("a.jpg", "a.JPG"), ("a.JPEG", "a.jpeg"), ("a.png", "a.PNG"), ("a.jpg", "a.jpg")],
)
def test_an_image_is_found_whatever_the_case_of_its_ending(listed, there, tmp_path):
    (tmp_path / there).touch()
    assert with_its_ending(tmp_path / listed) == tmp_path / there
    (tmp_path / there).unlink()
    assert with_its_ending(tmp_path / listed) == tmp_path / listed


def test_lists_with_a_mark_and_images_in_capitals_are_packed(tmp_path, monkeypatch, capsys):
    task = exported.small_task("dtd")
    monkeypatch.setattr("data_prep.vtab1k.source.tasks.TASKS", (task,))
    folder = exported.export(tmp_path / "raw", task, "dtd")
    for path in folder.glob("*.txt"):
        _mark(path)
    for path in (folder / "images").rglob("*.jpg"):
        path.rename(path.with_suffix(".JPG"))
    options = ["--source", "folder", "--root", str(folder.parent), "--data", str(tmp_path)]
    assert cli.main(["prepare", "vtab1k/dtd", *options, "--size", "8"]) == 0, capsys.readouterr()
    manifest = pack.read_manifest(tmp_path / "folder" / "vtab1k" / "dtd")
    assert not manifest["notes"]
    packed = pack.read_split(tmp_path, make_source("folder"), task, "test")
    assert packed["labels"].tolist() == list(range(6))


# -- marks of byte order --------------------------------------------------------------------------


def test_msrvtts_annotations_and_lists(tmp_path):
    train = {f"video{k}": ["a caption"] for k in range(3)}
    videos.write_lists(tmp_path, train, ["video1"], {"video9": "another"})
    meant = lists.look(tmp_path, other_sizes=True)
    for path in tmp_path.iterdir():
        _mark(path)
    found = lists.look(tmp_path, other_sizes=True)
    assert (found.captions, found.train_7k) == (meant.captions, meant.train_7k)


def test_captions_and_vocabularies(tmp_path):
    (tmp_path / "caps.txt").write_text("first\nsecond\n")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfirst\n")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((generated.VOCABULARY / name).read_bytes())
    words = WordPieces("x", tmp_path / "vocab.txt")
    tokens = ClipTokens("x", tmp_path)
    for path in tmp_path.iterdir():
        _mark(path)
    assert precomputed.read_captions(tmp_path / "caps.txt") == ("first", "second")
    marked = WordPieces("x", tmp_path / "vocab.txt")
    assert (marked.vocabulary, marked.sha256) == (words.vocabulary, words.sha256)
    assert ClipTokens("x", tmp_path).sha256 == tokens.sha256


def test_tables_of_settings(tmp_path):
    profiles = tmp_path / "profiles.toml"
    profiles.write_bytes(
        codecs.BOM_UTF8 + Path(slurm_options.__file__).with_name("profiles.toml").read_bytes()
    )
    assert slurm_options.profile(f"{profiles}:cpu")
    own = Path(vtab1k.__file__).with_name("hyperparameters") / "ssf.vit.toml"
    path = tmp_path / own.name
    path.write_bytes(codecs.BOM_UTF8 + own.read_bytes())
    tasks = tuple(task.name for task in BENCHMARKS["vtab1k"].tasks)
    assert released.load(path, tasks) == released.load(own, tasks)


# -- terminals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (benchmarks_cli.main, ["ls"]),
        (benchmarks_cli.main, ["run", "vtab1k/vit_micro/\u0421ifar/lora-r8/0"]),
        (reports_cli.main, ["show", "table2", "--scale", "micro"]),
        (cli.main, ["prepare", "vtab1k/\u2603"]),
        (slurm_cli.main, ["plan", "vtab1k/\u2603"]),
    ],
    ids=["ls", "run", "reports", "data_prep", "slurm"],
)
def test_every_command_prints_what_the_terminal_can_show(main, arguments, encoding, monkeypatch):
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2)
    )
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    main(arguments)
    shown = (out.buffer.getvalue() + err.buffer.getvalue()).decode(encoding)
    assert shown
    print("\u00b1 \u0421 \u2603", file=out)
    assert (
        out.buffer.getvalue()
        .decode(encoding)
        .endswith(
            {"ascii": "? ? ?\n", "latin-1": "\u00b1 ? ?\n", "utf-8": "\u00b1 \u0421 \u2603\n"}[
                encoding
            ]
        )
    )
