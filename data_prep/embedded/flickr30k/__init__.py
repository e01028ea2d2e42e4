"""Flickr30K in miniature: generated scenes, region features drawn from them, five captions each."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from data_prep.embedded.flickr30k import captions, scene
from data_prep.embedded.flickr30k.lexicon import FLICKR
from data_prep.embedded.flickr30k.regions import REGIONS, WIDTH, Detector, Features
from data_prep.embedded.flickr30k.scene import Scene

__all__ = ["GENERATOR_VERSION", "REGIONS", "SPLITS", "WIDTH", "Generated", "generate"]

GENERATOR_VERSION = 1
SPLITS = {"train": 1500, "dev": 200, "test": 500}
FAMILY = 3
"""Images that follow each other and show the same things, with colours or places exchanged."""


@dataclass(frozen=True)
class Generated:
    """A split.

    Attributes:
        scenes: What is to be seen in each image.
        features: float32 (images, REGIONS, WIDTH).
        captions: Five for each image, image after image.
    """

    scenes: tuple[Scene, ...]
    features: Features
    captions: tuple[str, ...]


def generate(split: str, seed: int = 0, count: int | None = None) -> Generated:
    """Generate a split, or its first images; an image depends on the seed, the split and its number.

    Every ``FAMILY`` images are of one family, so that a bag of words cannot tell all images apart.

    Args:
        split: train, dev or test.
        seed: Of the data.
        count: Images; default: all of the split.
    """
    detector = Detector(FLICKR)
    scenes: list[Scene] = []
    features: list[Features] = []
    said: list[str] = []
    for index in range(SPLITS[split] if count is None else count):
        rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
        made = scene.twin(scenes[-1], rng) if index % FAMILY else scene.make(FLICKR, rng)
        scenes.append(made)
        features.append(detector.regions(made, rng))
        said.extend(captions.describe(FLICKR, made, rng))
    return Generated(tuple(scenes), np.stack(features), tuple(said))
