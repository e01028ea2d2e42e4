"""The five fine-grained few-shot sets in miniature: 32 x 32, generated, classes of one family each."""

from __future__ import annotations

from data_prep.embedded.fewshot import aircraft, cars, flowers, food, pets
from data_prep.embedded.fewshot.sets import GENERATOR_VERSION, GeneratedSet, generate

__all__ = ["GENERATOR_VERSION", "SETS", "GeneratedSet", "generate"]

SETS = (
    GeneratedSet("food101", "the dish", food.CLASSES.names, food.render),
    GeneratedSet("cars", "the model of the car", cars.CLASSES.names, cars.render),
    GeneratedSet("flowers102", "the species of the flower", flowers.CLASSES.names, flowers.render),
    GeneratedSet("aircraft", "the type of the aircraft", aircraft.CLASSES.names, aircraft.render),
    GeneratedSet("pets", "the breed of the pet", pets.CLASSES.names, pets.render),
)
