"""Contact sheets: a row of images for each task, or for each class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from data_prep import pack
from data_prep.contents import Named, Source

COLUMNS = 12
TILE = 96
CELL = TILE + 12
TITLE, CAPTION = 26, 40
CLASSES = 24  # rows of a sheet by class; of more classes, evenly spaced ones
MANY = 20  # from this number of classes on, a row shows few classes, twice each


def choose(task: Named, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Choose a row's images: every class if they fit, else evenly spaced ones; many go in pairs."""
    k = task.num_classes
    if k > MANY:
        wanted = np.repeat(np.linspace(0, k - 1, COLUMNS // 2).round().astype(np.int64), 2)
    elif k > COLUMNS:
        wanted = np.linspace(0, k - 1, COLUMNS).round().astype(np.int64)
    else:
        wanted = np.sort(np.arange(COLUMNS) % k)
    rows, used = [], dict.fromkeys(wanted.tolist(), 0)
    for label in wanted.tolist():
        candidates = np.flatnonzero(labels == label)
        if len(candidates):
            rows.append(candidates[used[label] % len(candidates)])
        used[label] += 1
    return np.asarray(rows, dtype=np.int64)


def load_examples(
    data: Path, task: Named, source: Source
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], list[str]]:
    """Read the training images of a task, or generate them where it is not prepared.

    Returns:
        Images (N, C, H, W), labels (N,), and a name for each class.
    """
    shown = next(iter(source.counts(task)))
    numbers = [str(k) for k in range(task.num_classes)]
    folder = pack.task_folder(data, source, task)
    if (folder / pack.MANIFEST).is_file():
        names = pack.read_manifest(folder).get("class_names")
        arrays = pack.read_split(data, source, task, shown)
        return arrays["images"], arrays["labels"], names or numbers
    split = source.open(task).splits[shown]()
    examples = [split.example(index) for index in range(split.count)]
    pixels = np.stack([example.pixels for example in examples])
    labels = np.asarray([example.label for example in examples], dtype=np.int64)
    return pixels, labels, source.identity(task).get("class_names") or numbers


def _words(
    text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> Iterator[str]:
    """Yield the words of a caption; one that is wider than a line comes in pieces."""
    for word in text.split():
        rest = word
        while font.getlength(rest) > width:
            cut = next(
                n for n in range(len(rest), 0, -1) if font.getlength(rest[:n]) <= width or n == 1
            )
            yield rest[:cut]
            rest = rest[cut:]
        yield rest


def wrapped(
    text: str,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    lines_at_most: int = 3,
) -> str:
    """Break a caption into lines of at most a width in pixels; what needs more lines is cut off."""
    lines = [""]
    for word in _words(text, width, font):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:lines_at_most])


def _tile(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Turn (C, H, W) into a square that shows small images pixel by pixel."""
    colour = np.ascontiguousarray(
        np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    )
    how = Image.Resampling.NEAREST if pixels.shape[-1] < TILE else Image.Resampling.BICUBIC
    return Image.fromarray(colour).resize((TILE, TILE), how)


def draw_sheet(tasks: list[Named], data: Path, source: Source, out: Path) -> None:
    """Draw a sheet with a row a task and write it as PNG."""
    height = TITLE + TILE + CAPTION
    sheet = Image.new("RGB", (COLUMNS * CELL + 12, height * len(tasks) + 8), "white")
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(15), ImageFont.load_default(11)
    for row, task in enumerate(tasks):
        images, labels, names = load_examples(data, task, source)
        top = row * height
        title = f"{task.name}  ({task.group}, {task.num_classes} classes): {task.label}"
        pen.text((12, top + 6), title, fill="black", font=large)
        for column, index in enumerate(choose(task, labels)):
            left = 12 + column * CELL
            sheet.paste(_tile(images[index]), (left, top + TITLE))
            caption = wrapped(names[int(labels[index])], CELL - 6, small)
            at = (left, top + TITLE + TILE + 1)
            pen.multiline_text(at, caption, fill="black", font=small, spacing=1)
    _save(sheet, out)


def draw_classes(tasks: list[Named], data: Path, source: Source, out: Path) -> None:
    """Draw a sheet with a row a class, of each task at most ``CLASSES``, and write it as PNG."""
    font = ImageFont.load_default(15)
    blocks = []
    for task in tasks:
        images, labels, names = load_examples(data, task, source)
        title = f"{task.name}  ({task.group}, {task.num_classes} classes): {task.label}"
        shown = min(CLASSES, task.num_classes)
        classes = np.linspace(0, task.num_classes - 1, shown).round().astype(np.int64).tolist()
        block = Image.new("RGB", (COLUMNS * TILE, TITLE + shown * (TITLE + TILE)), "white")
        pen = ImageDraw.Draw(block)
        pen.text((4, 6), title, fill="black", font=font)
        for row, label in enumerate(classes):
            top = TITLE + row * (TITLE + TILE)
            pen.text((4, top + 6), f"{label}: {names[label]}", fill="black", font=font)
            for column, index in enumerate(np.flatnonzero(labels == label)[:COLUMNS]):
                block.paste(_tile(images[index]), (column * TILE, top + TITLE))
        blocks.append(block)
    sheet = Image.new("RGB", (COLUMNS * TILE, sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    _save(sheet, out)


def _save(sheet: Image.Image, out: Path) -> None:
    """Write a sheet as PNG."""
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
