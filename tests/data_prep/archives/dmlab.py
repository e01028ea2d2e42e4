"""DMLab: TFRecord files of JPEG images."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from . import draw
from .pictures import jpeg
from .store import Store, tar_gz


def dmlab(
    store: Store, ids: dict[str, list[int]], rng: np.random.Generator
) -> dict[str, dict[int, Any]]:
    """A tar.gz of dmlab-<split>.tfrecord-0000?-of-00002 with image (360 x 480), filename, label."""
    truth: dict[str, dict[int, Any]] = {}
    files = []
    for split, numbers in ids.items():
        truth[split] = dict(zip(numbers, draw.labels(len(numbers), 6, rng), strict=True))
        records = [
            _example(jpeg(i, 360, 480), f"{split}_{k:05d}.jpg", label)
            for k, (i, label) in enumerate(truth[split].items())
        ]
        for shard in range(2):
            name = f"dmlab-{split}.tfrecord-{shard:05d}-of-00002"
            files.append((name, _tfrecord(records[shard::2])))
    store.put("dmlab.tar.gz", tar_gz(files))
    return truth


def _example(image: bytes, filename: str, label: int) -> bytes:
    """A serialized tf.train.Example."""
    import tensorflow as tf

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    number = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    feature = {"image": text(image), "filename": text(filename.encode()), "label": number}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _tfrecord(records: list[bytes]) -> bytes:
    """A TFRecord file."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
        return path.read_bytes()
