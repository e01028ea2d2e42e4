"""Scenes as small pictures: for people who look at the data, and for nothing else."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from data_prep.embedded.flickr30k.lexicon import ANIMALS, PEOPLE
from data_prep.embedded.flickr30k.scene import Scene, Thing

_PAINT = {
    "red": "#d03030",
    "blue": "#3060d0",
    "green": "#309040",
    "yellow": "#e0c020",
    "black": "#202020",
    "white": "#ffffff",
    "brown": "#805030",
    "orange": "#e08020",
    "purple": "#8040a0",
    "grey": "#909090",
}
_GROUND = {
    "street": "#c8c8cc",
    "beach": "#f0e0b0",
    "park": "#c0e0b0",
    "kitchen": "#f0e8e0",
    "farm": "#d8d8a0",
    "market": "#e8d0c0",
    "workshop": "#d0c8c0",
    "camp": "#b8d0b8",
}
_RADIUS = {"small": 0.05, "medium": 0.075, "big": 0.1}


def picture(scene: Scene, side: int) -> Image.Image:
    """Draw a scene: people as figures, animals as ovals, things as boxes, each with its name."""
    image = Image.new("RGB", (side, side), _GROUND[scene.place])
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(10)
    pen.text((3, 2), scene.place, fill="black", font=font)
    if scene.interaction is not None:
        subject, verb, target = scene.interaction
        ends = [_centre(scene.things[index], side) for index in (subject, target)]
        pen.line(ends, fill="black")
        middle = ((ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2)
        pen.text(middle, verb, fill="black", font=font, anchor="mm")
    for thing in sorted(scene.things, key=lambda thing: thing.y):
        _draw(pen, thing, side, font)
    return image


def _centre(thing: Thing, side: int) -> tuple[float, float]:
    return thing.x * side, thing.y * side


def _draw(
    pen: ImageDraw.ImageDraw,
    thing: Thing,
    side: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    x, y = _centre(thing, side)
    r = _RADIUS[thing.size] * side
    paint = _PAINT[thing.colour]
    if thing.category in PEOPLE:
        pen.ellipse(
            (x - r / 2, y - 1.6 * r, x + r / 2, y - 0.6 * r), fill="#e8c0a0", outline="black"
        )
        pen.rectangle((x - 0.6 * r, y - 0.6 * r, x + 0.6 * r, y + r), fill=paint, outline="black")
    elif thing.category in ANIMALS:
        pen.ellipse((x - r, y - 0.7 * r, x + r, y + 0.7 * r), fill=paint, outline="black")
    else:
        pen.rectangle((x - r, y - r, x + r, y + r), fill=paint, outline="black")
    looks = (thing.pattern if thing.pattern != "plain" else None, thing.garment, thing.action)
    name = " ".join([thing.category, *(look for look in looks if look)])
    pen.text((x, y + r + 1), name, fill="black", font=font, anchor="mt")
