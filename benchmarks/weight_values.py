"""Whether a file of weights is the one meant, and its values can be those of a trained network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness.errors import UsageError
from benchmarks.harness.provenance import ROOT, file_sha256

LARGEST = 1e5
"""Of a parameter's magnitude. Published ones stay below 1,000."""
LARGEST_BUFFER = 1e12
"""Running variances of published networks reach 150,000 where images were not scaled."""
LARGEST_MEAN = 100.0
"""Of the magnitudes in a matrix. Published ones stay below 10."""
SMALLEST = 1e-12
"""Of the largest magnitude in a matrix. Layer scales begin at 1e-6, and are vectors."""


def check_embedded(file: Path, record: Path) -> None:
    """Compare a file of the embedded world with the hash that the record of its pre-training has.

    Raises:
        UsageError: It is another file.
    """
    if not record.is_file():
        return
    try:
        expected = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        expected = None
    if file_sha256(file) != expected:
        raise UsageError(
            f"{file.name}: its sha256 is not the one in {record.name}; {_remedy(file)}"
        )


def check_values(model: nn.Module, file: Path, state: Mapping[str, Tensor]) -> None:
    """Look at the tensors that a file has for a network, before they are loaded.

    Tensors that are floating-point in the network have to be so in the file, finite and of a magnitude that
    training gives. Integer buffers have to be integers. Matrices, convolutions among them, have to be neither
    constant nor whole numbers.

    Args:
        model: The network.
        file: Where the tensors come from, for the message.
        state: They, by the names that they have in the network; others are left out.

    Raises:
        UsageError: With the tensor, the place and the value, and what to do.
    """
    parameters = dict(model.named_parameters())
    own = {**parameters, **dict(model.named_buffers())}
    for name, value in state.items():
        if name in own and value.numel():
            problem = _problem(name, value, own[name], is_trained=name in parameters)
            if problem:
                raise UsageError(f"{file.name}: {name} {problem}; {_remedy(file)}")


def _problem(name: str, value: Tensor, own: Tensor, *, is_trained: bool) -> str:
    """Say what is wrong with a tensor; nothing: an empty text."""
    if not own.is_floating_point():
        is_whole = not (value.is_floating_point() or value.is_complex())
        return "" if is_whole else f"is of the type {value.dtype}, in the network of {own.dtype}"
    if not value.is_floating_point() or value.element_size() < 2:
        return f"is of the type {value.dtype}, without the scales that make it floating-point"
    least, most = (-LARGEST, LARGEST) if is_trained else (-LARGEST_BUFFER, LARGEST_BUFFER)
    if name.endswith("running_var"):
        least = 0.0
    low, high = (one.item() for one in value.aminmax())
    if not (least <= low and high <= most):  # NaN compares false
        wrong = ~((value >= least) & (value <= most) & value.isfinite())
        place = wrong.nonzero()[0].tolist()
        return f"is {value[tuple(place)].item():g} at {place}, outside {least:g} to {most:g}"
    # The second largest dimension: a vector, or the rows of two token types, can be zero.
    if is_trained and sorted([1, 1, *value.shape])[-2] > 2:
        return _problem_of_matrix(value, low, high)
    return ""


def _problem_of_matrix(value: Tensor, low: float, high: float) -> str:
    if low == high:
        return f"is {low:g} everywhere"
    largest = max(-low, high)
    mean = torch.linalg.vector_norm(value, 1, dtype=torch.float64).item() / value.numel()
    if largest < SMALLEST or mean > LARGEST_MEAN:
        return f"has magnitudes of {mean:g} on average and {largest:g} at most, which no training gives"
    if largest > 1 and torch.equal(value, value.round()):
        return f"has whole numbers alone, up to {largest:g}: the scales of a quantised network are missing"
    return ""


def _remedy(file: Path) -> str:
    if file.is_relative_to(ROOT / "data_prep"):
        return f"restore it with `git checkout -- {file.relative_to(ROOT)}`"
    return (
        "fetch it again, convert a quantised one to floating point with its scales, or name another file by "
        "--weights"
    )
