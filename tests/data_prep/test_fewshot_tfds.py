"""Few-shot sets through TFDS' own builders, on small archives in the original formats."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.fewshot import sets
from data_prep.fewshot.drawn import REGISTERED, FewShotTfds
from data_prep.pictures import decode
from tests.data_prep import archives

pytestmark = pytest.mark.slow  # imports TensorFlow
EACH = {"train": 12, "val": 6, "test": 8}


@pytest.mark.parametrize("name", ["flowers102", "pets"])
def test_the_official_splits_are_taken_whole_with_their_labels(name, tmp_path):
    registered = REGISTERED[name]
    counts = {where: EACH[split] for split, where in registered.splits.items()}
    written = archives.make(registered.builder, tmp_path, counts)
    one = next(one for one in sets.SETS if one.name == name)
    found, source = FewShotTfds(tmp_path).official(one)
    assert source["builder"] == registered.builder
    for split, where in registered.splits.items():
        official = found[split]
        contents = map(official.content, range(len(official.labels)))
        pixels = np.stack([decode(content, size=32, channels=3).pixels for content in contents])
        seen = dict(
            zip(archives.identities(pixels).tolist(), official.labels.tolist(), strict=True)
        )
        assert seen == written[where]
        assert where in official.where(0)
