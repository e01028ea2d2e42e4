"""Pictures with captions that the small CLIP is pre-trained on.

No clip and no frame of one is among them: the broader world shows pictures, lacks some shapes, colours and
grounds of the
clips and a third of the words, and says nothing of motion; its scenes come from seeds of their own. Every
second
picture is the twin of the one before: two of its things have exchanged colours or shapes. To tell the
captions of twins
apart, one has to see which thing has which colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.embedded.msrvtt import scene
from data_prep.embedded.msrvtt.captions import Speaker
from data_prep.embedded.msrvtt.drawing import frames
from data_prep.embedded.msrvtt.lexicon import BROAD
from data_prep.msrvtt.tokens import ClipTokens
from data_prep.msrvtt.video import fit
from data_prep.streams import stream


@dataclass(frozen=True)
class Batch:
    """Pictures with a caption each.

    Attributes:
        images: uint8 (B, 3, S, S).
        tokens: int64 (B, L), with start and end, padded with 0; L is as long as the longest.
    """

    images: npt.NDArray[np.uint8]
    tokens: npt.NDArray[np.int64]


def batch(words: ClipTokens, seed: int, step: int, pairs: int, size: int) -> Batch:
    """Make the batch of a step: an even number of pairs; it depends on nothing but the arguments."""
    rng = stream("msrvtt upstream", seed, step)
    images, said = [], []
    for _ in range(pairs // 2):
        made = scene.make_picture(BROAD, rng)
        what = "colour" if rng.random() < 0.5 else "shape"
        other = scene.make_picture(BROAD, rng)
        if len(made.things) > 1:
            other = scene.twin(made, rng, what=what)
        for seen in (made, other):
            images.append(fit(frames(seen)[0].transpose(1, 2, 0), size))
            said.append(Speaker(BROAD, rng).caption(seen))
    rows = words.rows(said).astype(np.int64)
    longest = int((rows == words.about()["special"]["end"]).argmax(axis=1).max()) + 1
    return Batch(np.stack(images), rows[:, :longest])
