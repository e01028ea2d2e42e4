"""The measurements behind ``resora/METHOD.md``: what each penalty does to a small adapter.

Everything is drawn from fixed seeds, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from resora.figures.setting import (
    RANK,
    SAMPLES,
    WIDTH,
    Adapter,
    adapter,
    descend,
    directions,
    generator,
    mean_distance,
    mean_over_pairs,
    whitened,
)
from resora.figures.theory import cosine_gradients, nonlinear_floor
from resora.penalties import cosine, euclidean, linear, nonlinear, squared_cosines

PAIRS = RANK * (RANK - 1) // 2
SIZES = (2, 3, 4, 6, 8, 16, 32, 64, 128, 256, 512)
"""Numbers of samples at which the floors are measured."""
TABLED_SIZES = (8, 32, 256, 1576, 6304)
"""Numbers of samples in the page's table: 1576 and 6304 are the tokens of 8 and 32 images in a ViT-B/16."""
FRACTIONS = (0.2, 0.5, 1.0)

Penalty = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Measured:
    """The numbers that the page quotes, and what the figures draw, by name."""

    numbers: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    matrices: dict[str, Tensor] = field(default_factory=dict)


def measure() -> Measured:
    """Run every measurement, on one thread: a sum then has the same order every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = Measured()
        for step in (
            moves,
            cosine_descent,
            euclidean_growth,
            gauge,
            held_width,
            eq10,
            curved,
            floors,
        ):
            step(found)
        common_mean(found)
        return found
    finally:
        torch.set_num_threads(threads)


def moves(found: Measured) -> None:
    """Share of each penalty's relative gradient, |dR/dP| |P|, by parameter, in a chain of two layers."""
    before, here = adapter(1), adapter(0)
    for name, function in OPTIONS.items():
        parts = [part.clone().requires_grad_() for part in (here.a, here.b, before.a, before.b)]
        a, b, earlier_a, earlier_b = parts
        x = here.x + 0.2 * here.x @ earlier_a.T @ earlier_b
        value = function(x @ a.T, b) if name != WEIGHT_SPACE else function(a.T, b)
        gradients = torch.autograd.grad(value, parts, allow_unused=True)
        sizes = [
            0.0 if g is None else float(g.norm() * part.detach().norm())
            for g, part in zip(gradients, parts, strict=True)
        ]
        found.curves[f"moves {name}"] = [size / sum(sizes) for size in sizes]


def cosine_descent(found: Measured) -> None:
    """Minimise each cosine on B alone, from random directions, at ranks 2 and 8."""
    for rank in (2, RANK):
        z = adapter(1, rank=rank).z
        start = torch.randn(rank, WIDTH, generator=generator(rank), dtype=torch.float64)
        for variant in ("signed", "absolute", "squared") if rank == RANK else ("signed",):
            b = start.clone().requires_grad_()
            penalty = partial(cosine, z, b, variant=variant)
            trace = [mean_over_pairs(directions(b).abs()) for _ in descend([b], penalty, 300, 0.08)]
            name = f"cosine.r{rank}.{variant}"
            found.curves[name], found.matrices[name] = trace, directions(b)
            unit = b.detach() / b.detach().norm(dim=1, keepdim=True)
            found.curves[f"{name}.singular"] = torch.linalg.svdvals(unit).tolist()
    found.numbers["cosine.r2"] = float(found.matrices["cosine.r2.signed"][0, 1])
    trace, spread = (found.curves[f"cosine.r8.signed{end}"] for end in ("", ".singular"))
    found.numbers |= {"cosine.r8.start": trace[0], "cosine.r8": trace[-1]}
    found.numbers["cosine.r8.directions"] = sum(value > 0.05 * spread[0] for value in spread)


def euclidean_growth(found: Measured) -> None:
    """Scale the update; then minimise R_e and R_l on inputs with and without a shared mean."""
    drawn = adapter(0)
    beta = 1 / mean_distance(drawn)
    for factor in (scales := [10 ** (k / 20) for k in range(-10, 31)]):
        for name, function in {"fixed": fixed(beta), "auto": euclidean, "linear": linear}.items():
            value = float(function(drawn.z, factor * drawn.b)) / PAIRS
            found.curves.setdefault(f"scale {name}", []).append(value)
    found.curves["scale"] = scales
    found.numbers["euclidean.scale1"] = float(fixed(beta)(drawn.z, drawn.b)) / PAIRS
    found.numbers["euclidean.scale30"] = float(fixed(beta)(drawn.z, 30 * drawn.b)) / PAIRS
    for where, mean in (("zero", 0.0), ("common", 1.0)):
        drawn = adapter(0, mean=mean)
        beta = 1 / mean_distance(drawn)
        for name, function in {"fixed": fixed(beta), "auto": euclidean, "linear": linear}.items():
            _descend_adapter(found, drawn, f"{where}.{name}", function)
    for run in ("common.fixed", "zero.fixed"):
        cos2 = found.curves[f"descent {run}.cos2"]
        found.numbers |= {f"euclidean.{run}.start": cos2[0], f"euclidean.{run}": cos2[-1]}
    found.numbers["euclidean.common.auto"] = found.curves["descent common.auto.cos2"][-1]
    found.numbers["euclidean.norm"] = found.curves["descent common.auto.norm"][-1]


def _descend_adapter(found: Measured, drawn: Adapter, name: str, function: Penalty) -> None:
    a, b = drawn.a.clone().requires_grad_(), drawn.b.clone().requires_grad_()
    traces: dict[str, list[float]] = {"value": [], "cos2": [], "norm": []}
    before = drawn.update.norm()
    for value in descend([a, b], lambda: function(drawn.x @ a.T, b), 200, 0.005):
        with torch.no_grad():
            traces["value"].append(float(value) / PAIRS)
            traces["cos2"].append(mean_over_pairs(squared_cosines(drawn.x @ a.T)))
            traces["norm"].append(float((b.T @ a).norm() / before))
    for quantity, trace in traces.items():
        found.curves[f"descent {name}.{quantity}"] = trace


def gauge(found: Measured) -> None:
    """Whiten the activations at the same update; then train a task from both factorisations."""
    drawn = adapter(0)
    white = whitened(drawn)
    for name, it in (("before", drawn), ("after", white)):
        found.matrices[f"gauge.{name}"] = squared_cosines(it.z)
    found.numbers["gauge.before"] = mean_over_pairs(squared_cosines(drawn.z))
    wanted = adapter(5).update
    middle = {
        name: _train(found, name, it, wanted, weight)
        for name, it, weight in (
            ("plain", drawn, 0.0),
            ("white", white, 0.0),
            ("linear", drawn, 0.1),
        )
    }
    apart = (middle["plain"] - middle["white"]).norm() / wanted.norm()
    found.numbers["gauge.apart"] = 100 * float(apart)
    for name in ("white", "linear"):
        found.numbers[f"gauge.{name}"] = found.curves[f"gauge {name}.value"][-1]
    errors = [found.curves[f"gauge {name}.error"][-1] for name in middle]
    found.numbers["gauge.error"] = 100 * max(errors)


def _train(found: Measured, name: str, start: Adapter, wanted: Tensor, weight: float) -> Tensor:
    """Fit a wanted update, with R_l at a weight; return the update after 100 steps of 600."""
    a, b = start.a.clone().requires_grad_(), start.b.clone().requires_grad_()
    target = start.x @ wanted.T
    values: list[float] = []
    errors: list[float] = []

    def loss() -> Tensor:
        z = start.x @ a.T
        error = (z @ b - target).square().mean() / target.square().mean()
        value = linear(z, b) / PAIRS
        errors.append(float(error.detach()))
        values.append(float(value.detach()))
        return error + weight * value

    for step, _ in enumerate(descend([a, b], loss, 600, 0.005)):
        if step == 100:
            middle = (b.T @ a).detach()
    found.curves[f"gauge {name}.error"], found.curves[f"gauge {name}.value"] = errors, values
    return middle


def held_width(found: Measured) -> None:
    """Minimise R_n on B with sigma held constant: the size of B changes, the value does not."""
    for name, samples, fraction in (("few", 32, 0.2), ("many", 128, 1.0)):
        z = torch.randn(samples, RANK, generator=generator(3), dtype=torch.float64)
        if name == "many":
            z = z + 2 * z[:, :1]
        start = adapter(3).b
        b = start.clone().requires_grad_()
        penalty = partial(nonlinear, z, b, fraction=fraction, width="detached", form="exact")
        steps = descend([b], penalty, 50, 0.003)
        found.curves[f"held {name}"] = [float(value) for value in steps]
        found.numbers[f"held.{name}"] = float(b.detach().norm() / start.norm())


def eq10(found: Measured) -> None:
    """Error of Eq. 10 as printed at an angle of 60 degrees, by the length of the other feature."""
    u = torch.tensor([1.0, 0.0], dtype=torch.float64)
    v = torch.tensor([0.5, math.sqrt(0.75)], dtype=torch.float64)
    for length in (2, 10):
        printed, exact = cosine_gradients(u, length * v)
        found.numbers[f"eq10.{length}"] = 100 * float((printed - exact).norm() / exact.norm())


def curved(found: Measured) -> None:
    """A subspace that is a function of another, without any correlation between the two."""
    half = torch.randn(SAMPLES // 2, dtype=torch.float64, generator=generator(0))
    first = torch.cat((half, -half))
    z = torch.stack((first, first.square() - first.square().mean()), dim=1)
    b = torch.ones(2, 1, dtype=torch.float64)
    found.numbers["curved.nonlinear"] = float(nonlinear(z, b))
    found.numbers["curved.floor"] = nonlinear_floor(SAMPLES, 0.5)


def floors(found: Measured) -> None:
    """Mean value per pair of independent Gaussian subspaces, against the number of samples."""
    found.curves["floor N"] = [float(n) for n in SIZES]
    for n in SIZES:
        g = generator(n)
        z = torch.randn(max(4, 2048 // n), n, RANK, generator=g, dtype=torch.float64)
        b = torch.randn(len(z), RANK, WIDTH, generator=g, dtype=torch.float64)
        values = {"linear": linear(z, b), "euclidean": euclidean(z, b)}
        for fraction in FRACTIONS:
            values[f"nonlinear {fraction:g}"] = nonlinear(z, b, fraction=fraction)
        for variant in ("absolute", "squared"):
            values[f"cosine {variant}"] = cosine(z, b, variant=variant)
        for name, value in values.items():
            found.curves.setdefault(f"floor {name}", []).append(float(value.mean()) / PAIRS)
    for n in TABLED_SIZES:
        found.numbers[f"floor.linear.{n}"] = 1 / n
        for fraction in FRACTIONS:
            found.numbers[f"floor.nonlinear.{n}.{fraction:g}"] = nonlinear_floor(n, fraction)


def common_mean(found: Measured) -> None:
    """R_l of independent activations that share a mean: uncentred, centred, and pooled over tokens."""
    g = generator(0)
    draws, images, tokens = 16, 32, 196
    noise = torch.randn(draws, images, tokens, RANK, generator=g, dtype=torch.float64)
    b = torch.ones(draws, RANK, 1, dtype=torch.float64)
    for mean in (means := [k / 20 for k in range(41)]):
        z = noise + mean
        readings = {
            "token": linear(z.flatten(1, 2), b),
            "token centred": linear(z.flatten(1, 2), b, center=True),
            "image": linear(z.mean(2), b),
            "image centred": linear(z.mean(2), b, center=True),
        }
        for name, value in readings.items():
            found.curves.setdefault(f"mean {name}", []).append(float(value.mean()) / PAIRS)
    found.curves["mean"] = means
    at = means.index(0.1)
    for name in ("token", "image", "image centred"):
        found.numbers["mean." + name.replace(" ", ".")] = found.curves[f"mean {name}"][at]


def fixed(beta: float) -> Penalty:
    """R_e at a fixed beta."""
    return lambda z, b: euclidean(z, b, beta=beta)


WEIGHT_SPACE = 'linear, space="weight"'
OPTIONS: dict[str, Penalty] = {
    "linear (as printed)": linear,
    'linear, orientation="feature"': lambda z, b: linear(z, b, orientation="feature"),
    'linear, orientation="joint"': lambda z, b: linear(z, b, orientation="joint"),
    WEIGHT_SPACE: linear,
    "nonlinear (default)": nonlinear,
    'nonlinear, width="detached"': lambda z, b: nonlinear(z, b, width="detached"),
    "euclidean": euclidean,
    "cosine (as printed: signed)": cosine,
    'cosine, variant="absolute"': lambda z, b: cosine(z, b, variant="absolute"),
    'cosine, variant="squared"': lambda z, b: cosine(z, b, variant="squared"),
}


def table(numbers: dict[str, float], sizes: Sequence[int] = TABLED_SIZES) -> str:
    """Render the page's table of floors."""
    lines = [
        "| N | " + " | ".join(str(n) for n in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
        "| `linear` | " + " | ".join(_short(numbers[f"floor.linear.{n}"]) for n in sizes) + " |",
    ]
    for fraction in FRACTIONS:
        cells = (_short(numbers[f"floor.nonlinear.{n}.{fraction:g}"]) for n in sizes)
        lines.append(f"| `nonlinear`, fraction {fraction:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"
