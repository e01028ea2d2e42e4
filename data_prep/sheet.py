"""Contact sheets: for each task a row of images with their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from data_prep import pack
from data_prep.embedded.draw import SIZE, Images
from data_prep.embedded.vtab1k import Task, generate

COLUMNS = 12
ZOOM = 3
CELL = SIZE * ZOOM + 12
TITLE, CAPTION = 26, 40
MANY = 20  # from this number of classes on, a row shows few classes, twice each


def choose(task: Task, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
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


def load_examples(data: Path, task: Task, seed: int) -> tuple[Images, npt.NDArray[np.int64]]:
    """Read the training images of a task, or generate them where it is not prepared."""
    if (pack.task_folder(data, task) / pack.MANIFEST).is_file():
        return pack.read_split(data, task, "train800")
    return generate(task, "train800", seed)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Break a caption into lines of at most a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:3])


def draw_sheet(tasks: list[Task], data: Path, seed: int, out: Path) -> None:
    """Draw a sheet with a row a task and write it as PNG."""
    height = TITLE + SIZE * ZOOM + CAPTION
    sheet = Image.new("RGB", (COLUMNS * CELL + 12, height * len(tasks) + 8), "white")
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(15), ImageFont.load_default(11)
    for row, task in enumerate(tasks):
        images, labels = load_examples(data, task, seed)
        top = row * height
        title = f"{task.name}  ({task.group}, {task.num_classes} classes): {task.label}"
        pen.text((12, top + 6), title, fill="black", font=large)
        for column, index in enumerate(choose(task, labels)):
            tile = Image.fromarray(np.ascontiguousarray(images[index].transpose(1, 2, 0)))
            tile = tile.resize((SIZE * ZOOM, SIZE * ZOOM), Image.Resampling.NEAREST)
            left = 12 + column * CELL
            sheet.paste(tile, (left, top + TITLE))
            caption = _wrapped(task.class_names[int(labels[index])], CELL - 6, small)
            at = (left, top + TITLE + SIZE * ZOOM + 1)
            pen.multiline_text(at, caption, fill="black", font=small, spacing=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
