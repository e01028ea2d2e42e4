"""The five fine-grained few-shot sets in miniature: 32 x 32, generated, classes of one family each."""

from __future__ import annotations

from data_prep.embedded.fewshot import aircraft, cars, flowers, food, pets
from data_prep.embedded.fewshot.sets import GENERATOR_VERSION, FewShotSet, generate

__all__ = ["GENERATOR_VERSION", "SETS", "FewShotSet", "generate"]

SETS = (
    FewShotSet("food101", "the dish", food.CLASSES.names, food.render),
    FewShotSet("cars", "the model of the car", cars.CLASSES.names, cars.render),
    FewShotSet("flowers102", "the species of the flower", flowers.CLASSES.names, flowers.render),
    FewShotSet("aircraft", "the type of the aircraft", aircraft.CLASSES.names, aircraft.render),
    FewShotSet("pets", "the breed of the pet", pets.CLASSES.names, pets.render),
)
