"""A pool of pre-training scenes on disk, and batches of crops with their targets from it."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_prep.embedded import draw, library, upstream
from data_prep.embedded.upstream import Scenes
from data_prep.progress import Bar

CHUNK = 256
PATCH = 8
GRID = draw.SIZE // PATCH
DIRECTIONS = 8
_CELLS = draw.SIZE // 2
_OFFSETS = upstream.MAP - _CELLS + 1


@dataclass(frozen=True)
class Targets:
    """What the network should answer about a batch; distributions sum to 1 over the last axis.

    Attributes:
        shapes: shape categories in view, weighted by the root of their area (B, SHAPES + 1).
        materials: materials in view, likewise (B, MATERIALS).
        palette: palette of the background (B,).
        style: how the picture was taken (B,).
        patch_shapes: shape categories over each patch, by area (B, patches, SHAPES + 1).
        patch_materials: materials over each patch, by area (B, patches, MATERIALS).
        pixels: the clean image as patches (B, patches, 3 * PATCH^2).
        layout: mean colour and contrast of each patch, side by side (B, 4 * patches).
        edges: strength of the edges in each patch by direction, side by side (B, 8 * patches).
        patch_edges: the same for each quarter of a patch, as patches (B, patches, 32).
    """

    shapes: Tensor
    materials: Tensor
    palette: Tensor
    style: Tensor
    patch_shapes: Tensor
    patch_materials: Tensor
    pixels: Tensor
    layout: Tensor
    edges: Tensor
    patch_edges: Tensor


@cache
def _library(seed: int) -> library.Library:
    return library.build(seed)


def _chunk(task: tuple[int, int]) -> Scenes:
    seed, chunk = task
    return upstream.generate(_library(seed), CHUNK, seed, chunk)


def make(folder: Path, count: int, seed: int, processes: int) -> Scenes:
    """Generate a pool of scenes into a folder, or open the one that is already there.

    Args:
        folder: where the arrays lie; it can be deleted at any time.
        count: scenes, rounded up to whole chunks.
        seed: seed of the vocabulary and of the scenes.
        processes: worker processes for the generation.
    """
    chunks = -(-count // CHUNK)
    stamp = {"chunks": chunks, "seed": seed, "size": upstream.SIZE, "version": 2}
    manifest = folder / "pool.json"
    if not manifest.exists() or json.loads(manifest.read_text()) != stamp:
        folder.mkdir(parents=True, exist_ok=True)
        manifest.unlink(missing_ok=True)
        _write(folder, chunks, seed, processes)
        manifest.write_text(json.dumps(stamp))
    names = [field.name for field in fields(Scenes)]
    return Scenes(**{name: np.load(folder / f"{name}.npy") for name in names})


def _write(folder: Path, chunks: int, seed: int, processes: int) -> None:
    tasks = [(seed, chunk) for chunk in range(chunks)]
    arrays: dict[str, np.memmap] = {}
    with multiprocessing.get_context("fork").Pool(processes) as workers:
        results = workers.imap(_chunk, tasks)
        for index, scenes in enumerate(Bar(results, total=chunks, desc="scenes", unit="chunk")):
            rows = slice(index * CHUNK, (index + 1) * CHUNK)
            for field in fields(Scenes):
                part = getattr(scenes, field.name)
                if field.name not in arrays:
                    arrays[field.name] = np.lib.format.open_memmap(
                        folder / f"{field.name}.npy",
                        mode="w+",
                        dtype=np.uint8,
                        shape=(chunks * CHUNK, *part.shape[1:]),
                    )
                arrays[field.name][rows] = part
    for array in arrays.values():
        array.flush()


def split(scenes: Scenes, size: int) -> tuple[Scenes, Scenes]:
    """Part a pool into its first ``size`` scenes and the rest."""
    columns = {field.name: getattr(scenes, field.name) for field in fields(Scenes)}
    head = Scenes(**{name: column[:size] for name, column in columns.items()})
    return head, Scenes(**{name: column[size:] for name, column in columns.items()})


def batches(pool: Scenes, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Targets]]:
    """Yield random crops, forever: the network's (corrupted) input and what it should answer."""
    while True:
        order = rng.permutation(len(pool.images))
        for start in range(0, len(order) - size + 1, size):
            yield crop(pool, np.sort(order[start : start + size]), rng)


def crop(
    pool: Scenes, rows: np.ndarray, rng: np.random.Generator, corrupt: bool = True
) -> tuple[Tensor, Targets]:
    """Cut one random window out of each of the given scenes, image and label maps alike."""
    oy, ox = rng.integers(_OFFSETS, size=(2, len(rows)))
    window = np.lib.stride_tricks.sliding_window_view
    pixels = window(pool.images, (draw.SIZE, draw.SIZE), axis=(2, 3))[rows, :, 2 * oy, 2 * ox]
    shapes = window(pool.shapes, (_CELLS, _CELLS), axis=(1, 2))[rows, oy, ox]
    materials = window(pool.materials, (_CELLS, _CELLS), axis=(1, 2))[rows, oy, ox]

    clean = torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1.0
    if corrupt:
        clean = _photometric(clean, rng)
    patch_shapes = _shares(shapes, library.SHAPES + 1)
    patch_materials = _shares(materials, library.MATERIALS)
    patches = _patches(clean)
    colour = patches.reshape(len(rows), GRID * GRID, 3, PATCH * PATCH)
    layout = torch.cat([colour.mean(-1).flatten(1), colour.std(dim=-1).mean(-1)], dim=1)
    edges, patch_edges = _edges(clean)
    targets = Targets(
        shapes=_in_view(patch_shapes, background=library.SHAPES),
        materials=_in_view(patch_materials),
        palette=torch.from_numpy(pool.palette[rows].astype(np.int64)),
        style=torch.from_numpy(pool.style[rows].astype(np.int64)),
        patch_shapes=patch_shapes,
        patch_materials=patch_materials,
        pixels=patches,
        layout=layout,
        edges=edges,
        patch_edges=patch_edges,
    )
    return (_corrupted(clean, rng) if corrupt else clean), targets


def _shares(labels: np.ndarray, classes: int) -> Tensor:
    """Share of each patch that each class covers (B, patches, classes)."""
    n, side = len(labels), _CELLS // GRID
    cells = labels.reshape(n, GRID, side, GRID, side).transpose(0, 1, 3, 2, 4)
    index = torch.from_numpy(cells.reshape(n, GRID * GRID, side * side).astype(np.int64))
    shares = torch.zeros(n, GRID * GRID, classes)
    return shares.scatter_add_(2, index, torch.full(index.shape, 1.0 / side**2))


def _in_view(shares: Tensor, background: int | None = None) -> Tensor:
    """Distribution over the classes in an image, less dominated by large areas than the areas are."""
    area = shares.mean(dim=1).sqrt()
    if background is not None:
        area[:, background] = 0.0
        area[:, background] = (area.sum(dim=1) == 0).float()
    return area / area.sum(dim=1, keepdim=True)


def _patches(images: Tensor) -> Tensor:
    """Cut images into rows of patches: (B, patches, 3 * PATCH^2)."""
    grid = images.reshape(len(images), 3, GRID, PATCH, GRID, PATCH)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(len(images), GRID * GRID, -1)


def _edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Histograms of gradient directions, of whole patches and of their quarters."""
    grey = functional.pad(images.mean(dim=1), (1, 1, 1, 1), mode="replicate")
    gx = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    gy = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    size = torch.sqrt(gx * gx + gy * gy + 1e-8)
    # The cosine of twice the angle between the gradient and each of the directions, cut at zero.
    double_x, double_y = (gx * gx - gy * gy) / size, 2 * gx * gy / size
    angles = torch.arange(DIRECTIONS) * (2 * torch.pi / DIRECTIONS)
    cos, sin = (part.view(1, -1, 1, 1) for part in (angles.cos(), angles.sin()))
    strength = functional.relu(double_x[:, None] * cos + double_y[:, None] * sin)
    whole = functional.avg_pool2d(strength, PATCH).sqrt().flatten(1)
    half = functional.avg_pool2d(strength, PATCH // 2).sqrt()
    quarters = half.reshape(len(images), DIRECTIONS, GRID, 2, GRID, 2)
    return whole, quarters.permute(0, 2, 4, 1, 3, 5).reshape(len(images), GRID * GRID, -1)


def _photometric(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary exposure, contrast and white balance a little."""
    n = len(images)
    gain = torch.from_numpy(np.exp(rng.normal(0, 0.15, (n, 1, 1, 1))).astype(np.float32))
    balance = torch.from_numpy(np.exp(rng.normal(0, 0.05, (n, 3, 1, 1))).astype(np.float32))
    shift = torch.from_numpy(rng.normal(0, 0.12, (n, 1, 1, 1)).astype(np.float32))
    return (images * gain * balance + shift).clamp_(-1.0, 1.0)


def _corrupted(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Hide a few patches in a third of the images and add grain to another third."""
    n = len(images)
    hidden = rng.random((n, GRID, GRID)) < 0.3 * (rng.random((n, 1, 1)) < 0.35)
    mask = np.repeat(np.repeat(hidden, PATCH, axis=1), PATCH, axis=2)[:, None]
    level = 0.1 * rng.random((n, 1, 1, 1)) * (rng.random((n, 1, 1, 1)) < 0.35)
    grain = rng.standard_normal(images.shape, dtype=np.float32) * level.astype(np.float32)
    grey = images.mean(dim=(2, 3), keepdim=True)
    return torch.where(torch.from_numpy(mask), grey, images + torch.from_numpy(grain))
