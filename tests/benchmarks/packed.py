"""Small packed tasks for the tests: two-colour images whose label can be learnt in a few steps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def pack_task(root: Path, task: str, num_classes: int, *, n: int = 96, seed: int = 0) -> Path:
    """Write a packed task of ``n`` training images (and as many in each other split)."""
    folder = root / "embedded" / "vtab1k" / task
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for index, split in enumerate(("train800", "val200", "test")):
        random = np.random.default_rng([seed, index])
        labels = random.integers(0, num_classes, n)
        images = random.integers(0, 60, (n, 3, 32, 32))
        images[np.arange(n), labels % 3] += 60 + 20 * (labels[:, None, None] // 3 % 7)
        path = folder / f"{split}.safetensors"
        save_file({"images": images.astype(np.uint8), "labels": labels.astype(np.int64)}, path)
        splits[split] = {"n": n, "sha256": _sha256(path)}
    manifest = {"schema": "resora.data/1", "variant": "embedded", "task": task, "splits": splits}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def pack_set(root: Path, name: str, num_classes: int, *, doubled: bool = False) -> Path:
    """Write a packed few-shot set: 20 images a class to draw from, a draw for each shot and seed."""
    folder = root / "embedded" / "fewshot" / name
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for index, (split, each) in enumerate((("train", 20), ("val", 4), ("test", 5))):
        random = np.random.default_rng([7, index])
        labels = np.arange(num_classes * each) % num_classes
        images = random.integers(0, 60, (len(labels), 3, 32, 32))
        images[np.arange(len(labels)), labels % 3] += 60 + 20 * (labels[:, None, None] // 3 % 7)
        path = folder / f"{split}.safetensors"
        save_file({"images": images.astype(np.uint8), "labels": labels.astype(np.int64)}, path)
        splits[split] = {"n": len(labels), "sha256": _sha256(path)}
    draws = {}
    for shots in (1, 2, 4, 8, 16):
        for seed in range(3):
            chosen = np.random.default_rng([shots, seed]).permuted(
                np.tile(np.arange(20), (num_classes, 1)), axis=1
            )[:, :shots]
            index = (chosen * num_classes + np.arange(num_classes)[:, None]).ravel()
            draws[f"{shots}shot_seed{seed}"] = np.repeat(index, 2 if doubled and shots == 1 else 1)
    save_file(draws, folder / "draws.safetensors")
    lists = {
        key: {"n": len(index), "distinct": len(set(index.tolist()))} for key, index in draws.items()
    }
    manifest = {
        "schema": "resora.data/1",
        "variant": "embedded",
        "task": name,
        "image_size": 32,
        "splits": splits,
        "draws": {"sha256": _sha256(folder / "draws.safetensors"), "lists": lists},
        "draw_source": "a test's own draw",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pack_pairs(
    root: Path, *, images: int = 26, regions: int = 4, seed: int = 0, is_blind: bool = False
) -> Path:
    """Write packed Flickr30K: an image shows one of 40 things, and its captions name it.

    With ``is_blind`` all images look alike, so that nothing can be learnt.
    """
    folder = root / "embedded" / "flickr30k"
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    looks = random.random((40, 64)).astype(np.float32)
    splits = {}
    for split, count in (("train", images), ("dev", 6), ("test", 8)):
        shown = random.integers(0, 40, count)
        noise = random.random((count, regions, 64)).astype(np.float32)
        features = looks[shown][:, None] + 0.3 * noise
        if is_blind:
            features = np.ones_like(features)
        np.save(folder / f"{split}_ims.npy", features)
        captions = [_caption(int(thing), random) for thing in shown for _ in range(5)]
        words = [word for caption in captions for word in caption]
        arrays = {
            "pieces": np.concatenate(words).astype(np.int32),
            "words": np.cumsum([0, *map(len, words)]),
            "captions": np.cumsum([0, *map(len, captions)]),
            "image": np.arange(count).repeat(5),
        }
        save_file(arrays, folder / f"{split}.captions.safetensors")
        splits[split] = {
            "n_images": count,
            "n_captions": 5 * count,
            "images_in_file": count,
            "regions": regions,
            "dim": 64,
            "features": {
                "file": f"{split}_ims.npy",
                "repeated": False,
                "bytes": (folder / f"{split}_ims.npy").stat().st_size,
                "sha256": _sha256(folder / f"{split}_ims.npy"),
            },
            "captions_sha256": _sha256(folder / f"{split}.captions.safetensors"),
        }
    manifest = {
        "schema": "resora.data/1",
        "benchmark": "flickr30k",
        "variant": "embedded",
        "tokenizer": {
            "name": "bert_micro",
            "vocab_sha256": "0" * 64,
            "size": 475,
            "special": {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
        },
        "splits": splits,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _caption(thing: int, random: np.random.Generator) -> list[list[int]]:
    """Words of one or two pieces, one of which names the thing."""
    others = [[int(piece)] for piece in random.integers(100, 475, int(random.integers(2, 9)))]
    return [*others, [10 + thing, 50 + thing]]


def pack_clips(root: Path, *, clips: int = 60, tests: int = 12, seed: int = 0) -> Path:
    """Write packed MSR-VTT: a clip shows one of 40 colours, and its two captions name it."""
    folder = root / "embedded" / "msrvtt"
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    looks = random.integers(0, 256, (40, 1, 3, 1, 1))
    splits = {}
    for split, count, each in (("train", clips, 2), ("test", tests, 1)):
        shown = random.integers(0, 40, count)
        counts = random.integers(1, 5, count)
        frames = np.clip(looks[shown] + random.integers(-20, 21, (count, 12, 3, 32, 32)), 0, 255)
        frames[np.arange(12) >= counts[:, None]] = 0
        save_file(
            {"frames": frames.astype(np.uint8), "counts": counts.astype(np.int64)},
            folder / f"{split}.frames.safetensors",
        )
        tokens = np.zeros((count * each, 32), dtype=np.int32)
        lengths = random.integers(5, 12, count * each)
        for row, (thing, length) in enumerate(zip(shown.repeat(each), lengths, strict=True)):
            said = [*random.integers(100, 900, length - 4), 10 + thing, 50 + thing]
            tokens[row, :length] = [992, *said, 993]
        arrays = {"tokens": tokens, "lengths": lengths.astype(np.int64)}
        arrays["clips"] = np.arange(count).repeat(each).astype(np.int64)
        save_file(arrays, folder / f"{split}.captions.safetensors")
        splits[split] = {
            "n_clips": count,
            "n_listed": count,
            "left_out": {},
            "n_captions": count * each,
            "captions_sha256": _sha256(folder / f"{split}.captions.safetensors"),
            "frames_sha256": _sha256(folder / f"{split}.frames.safetensors"),
        }
    lists = {"train_9k": np.arange(clips), "train_7k": np.arange(0, clips, 2)}
    lists["test_1ka"] = np.arange(tests)
    save_file(lists, folder / "lists.safetensors")
    manifest = {
        "schema": "resora.data/1",
        "benchmark": "msrvtt",
        "variant": "embedded",
        "tokenizer": {
            "name": "clip_micro",
            "vocab_sha256": "0" * 64,
            "size": 994,
            "special": {"start": 992, "end": 993, "pad": 0},
            "text_length": 32,
        },
        "size": 32,
        "lists": {name: len(rows) for name, rows in lists.items()},
        "lists_sha256": _sha256(folder / "lists.safetensors"),
        "splits": splits,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
