"""An official split of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.streams import Labels


@dataclass(frozen=True)
class Official:
    """One split.

    Attributes:
        labels: From 0 on, (n,).
        content: Returns the i-th image file.
        where: Says where the i-th image is, for messages.
    """

    labels: Labels
    content: Callable[[int], bytes]
    where: Callable[[int], str]

    def taken(self, index: npt.NDArray[np.int64]) -> Official:
        """Return the chosen images, in this order."""
        return Official(
            self.labels[index],
            lambda i: self.content(int(index[i])),
            lambda i: self.where(int(index[i])),
        )


def joined(parts: Sequence[Official]) -> Official:
    """Return the images of several splits as one, in this order."""
    places = [(part, i) for part in parts for i in range(len(part.labels))]
    return Official(
        np.concatenate([part.labels for part in parts]),
        lambda i: places[i][0].content(places[i][1]),
        lambda i: places[i][0].where(places[i][1]),
    )
