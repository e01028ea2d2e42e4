"""Contact sheets of captioned images: a picture where there is one, the regions' features, five captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from data_prep.embedded import flickr30k
from data_prep.embedded.flickr30k.drawing import picture
from data_prep.flickr30k import packed
from data_prep.flickr30k.check import features_folder
from data_prep.pack import read_manifest
from data_prep.sheet import wrapped

SIDE, GAP, TEXT = 210, 10, 560
_COLUMNS = 64


def draw(data: Path, variant: str, out: Path, *, split: str = "test", count: int = 8) -> None:
    """Draw the first images of a split that is prepared and write the sheet as PNG.

    Args:
        data: The data folder.
        variant: embedded or folder; generated scenes are drawn, of real images only features are here.
        out: The file.
        split: train, dev or test.
        count: Images.
    """
    folder = packed.folder_of(data, variant)
    manifest = read_manifest(folder)
    entry = manifest["splits"][split]
    features = np.load(features_folder(folder, manifest) / entry["features"]["file"], mmap_mode="r")
    captions = (folder / packed.text_file(split)).read_text(encoding="utf-8").split("\n")
    count = min(count, entry["n_images"])
    rows = packed.image_rows(
        count * packed.CAPTIONS_PER_IMAGE, repeated=entry["features"]["repeated"]
    )[:: packed.CAPTIONS_PER_IMAGE]
    pictures = []
    if "seed" in manifest:
        made = flickr30k.generate(split, manifest["seed"], count)
        pictures = [picture(scene, SIDE) for scene in made.scenes]
    width = (len(pictures) > 0) * (SIDE + GAP) + SIDE + TEXT + 3 * GAP
    sheet = Image.new("RGB", (width, count * (SIDE + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, row in enumerate(rows.tolist()):
        left, top = GAP, GAP + number * (SIDE + GAP)
        for image in (*pictures[number : number + 1], _heat(np.asarray(features[row]))):
            sheet.paste(image, (left, top))
            left += SIDE + GAP
        first = number * packed.CAPTIONS_PER_IMAGE
        for line, caption in enumerate(captions[first : first + packed.CAPTIONS_PER_IMAGE]):
            pen.multiline_text(
                (left, top + 4 + line * 41),
                wrapped(caption, TEXT, font, 2),
                fill="black",
                font=font,
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def _heat(features: npt.NDArray[np.float32]) -> Image.Image:
    """Show features as grey values: a line for each region, darker for larger."""
    regions, dim = features.shape
    columns = min(dim, _COLUMNS)
    shown = features[:, : dim // columns * columns].reshape(regions, columns, -1).mean(axis=2)
    scaled = 255 * (1 - shown / max(float(shown.max()), 1e-6)).clip(0, 1)
    image = Image.fromarray(scaled.astype(np.uint8))
    return image.resize((SIDE, SIDE), Image.Resampling.NEAREST).convert("RGB")
