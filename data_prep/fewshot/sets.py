"""The five sets, as the published split lists have them (ZhangYuanhan-AI/NOAH data/few-shot)."""

from __future__ import annotations

from dataclasses import dataclass

SHOTS = (1, 2, 4, 8, 16)
DRAW_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class FewShotSet:
    """One set.

    Attributes:
        name: Registry name.
        label: What the label says.
        num_classes: Number of classes.
        n_images: Images of the whole data set.
        n_val: Images of the validation list.
        n_test: Images of the test list.
        folders: Names in use for its folder, the published one first.
    """

    name: str
    label: str
    num_classes: int
    n_images: int
    n_val: int
    n_test: int
    folders: tuple[str, ...]

    @property
    def group(self) -> str:
        """What kind of task it is."""
        return "fine-grained"

    @property
    def most_train(self) -> int:
        """Most training images that the draws, which are not nested, can have together."""
        drawn = sum(SHOTS) * len(DRAW_SEEDS) * self.num_classes
        return min(drawn, self.n_images - self.n_val - self.n_test)


SETS = (
    FewShotSet("food101", "the dish", 101, 101_000, 20_200, 30_300, ("food101", "food-101")),
    FewShotSet(
        "cars", "the model of the car", 196, 16_185, 1_635, 8_041,
        ("standford-cars", "stanford-cars", "stanford_cars", "cars"),
    ),
    FewShotSet(
        "flowers102", "the species of the flower", 102, 8_189, 1_633, 2_463,
        ("oxford-flowers102", "oxford_flowers102", "oxford_flowers", "flowers102"),
    ),
    FewShotSet(
        "aircraft", "the variant of the aircraft", 100, 10_000, 3_333, 3_333,
        ("fgvc-aircraft", "fgvc_aircraft", "aircraft"),
    ),
    FewShotSet(
        "pets", "the breed of the pet", 37, 7_349, 736, 3_669,
        ("oxford-pets", "oxford_pets", "pets"),
    ),
)  # fmt: skip
