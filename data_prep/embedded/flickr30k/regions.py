"""Region features: what a detector's last layer could say of a scene, a vector for each region.

A thing's region holds its category, colour, size, pattern, garment and action, its place in the picture,
its part in an interaction and a trace of its neighbour. Each of them adds a fixed random vector, then noise,
and what is negative is cut off: no attribute can be read from one number. Some things have a second, weaker
region; the other regions are background, or mistakes of the detector.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from data_prep.embedded.flickr30k.lexicon import World
from data_prep.embedded.flickr30k.scene import Rng, Scene, pick

REGIONS, WIDTH = 12, 64
NOISE = 0.6
_TABLES_SEED = 20_250_609
_CHANCE_OF_PART = 0.5
_CHANCE_OF_MISTAKE = 0.3

Vector = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]


class Detector:
    """Draws the regions of scenes; its tables are the same for every seed of the data."""

    def __init__(self, world: World) -> None:
        self.world = world
        tables = np.random.default_rng(_TABLES_SEED)

        def table(names: object) -> dict[str, Vector]:
            return {name: tables.standard_normal(WIDTH) for name in list(names)}  # type: ignore[call-overload]

        self._category = table(world.nouns)
        self._colour = table(world.colours)
        self._size = table(world.sizes)
        self._pattern = table(world.patterns)
        self._garment = table(world.garments)
        self._action = table(world.actions)
        self._does = table(world.interactions)
        self._undergoes = table(world.interactions)
        self._beside = table(world.nouns)
        self._place = table(world.places)
        self._across, self._down = table(("x", "y")).values()

    def regions(self, scene: Scene, rng: Rng) -> Features:
        """Return the features of a scene's regions, in no order.

        Args:
            scene: What is to be seen.
            rng: Noise, and which regions there are besides the things.

        Returns:
            float32 (REGIONS, WIDTH), nothing negative.
        """
        whole = [self._thing(scene, index) for index in range(len(scene.things))]
        found = list(whole)
        for vector in whole:
            if rng.random() < _CHANCE_OF_PART:
                found.append(0.6 * vector)
        while len(found) < REGIONS:
            found.append(self._other(scene, rng))
        rows = np.stack(found[:REGIONS])[rng.permutation(REGIONS)]
        noisy = rows + NOISE * rng.standard_normal(rows.shape)
        # Two decimals: the same bytes wherever a sum is rounded in another order.
        cut: Features = np.maximum(noisy, 0.0).round(2).astype(np.float32)
        return cut

    def _thing(self, scene: Scene, index: int) -> Vector:
        """Return the clean features of a thing, before what is negative is cut off."""
        thing = scene.things[index]
        total = (
            self._category[thing.category]
            + 0.8 * self._colour[thing.colour]
            + 0.5 * self._size[thing.size]
            + 0.3 * self._place[scene.place]
            + 0.9 * (2 * thing.x - 1) * self._across
            + 0.9 * (2 * thing.y - 1) * self._down
        )
        if thing.pattern != "plain":
            total = total + 0.6 * self._pattern[thing.pattern]
        if thing.garment is not None:
            total = total + 0.6 * self._garment[thing.garment]
        if thing.action is not None:
            total = total + 0.7 * self._action[thing.action]
        if scene.interaction is not None:
            subject, verb, target = scene.interaction
            if index == subject:
                total = total + 0.8 * self._does[verb]
            if index == target:
                total = total + 0.8 * self._undergoes[verb]
        nearest = min(
            (t for t in scene.things if t is not thing),
            key=lambda t: max(abs(t.x - thing.x), abs(t.y - thing.y)),
        )
        return total + 0.3 * self._beside[nearest.category]

    def _other(self, scene: Scene, rng: Rng) -> Vector:
        """Return a region of the background, or of something that is not there."""
        if rng.random() < _CHANCE_OF_MISTAKE:
            wrong = pick(rng, list(self.world.nouns))
            return (
                0.5 * self._category[wrong]
                + 0.5 * self._colour[pick(rng, list(self.world.colours))]
            )
        return 0.8 * self._place[scene.place] + 0.3 * rng.standard_normal(WIDTH)
