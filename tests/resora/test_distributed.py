"""Two processes with gradients averaged as DDP does, against one process on the whole batch."""

from __future__ import annotations

import datetime

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel

from resora import ReSoRA
from resora.penalties import linear
from tests.resora.networks import PENALTIES, Adapted, inputs, own, recorded, trained, users

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without processes")

WORLD = 2
SPLITS = {"equal": [6, 6], "unequal": [11, 1]}


def mine(z, b, *, mask=None, group=None):
    """A penalty of the user's own that knows of masks and processes."""
    return linear(z, b, mask=mask, group=group)


CASES = {
    **{name: {"penalty": name} for name in PENALTIES},
    "feature": {"penalty": "linear", "orientation": "feature"},
    "joint": {"penalty": "linear", "orientation": "joint"},
    "centred": {"penalty": "linear", "center": True},
    "squared": {"penalty": "cosine", "variant": "squared"},
    "beta": {"penalty": "euclidean", "beta": 0.3},
    "fourier": {"penalty": "nonlinear", "form": "fourier", "sample": "token"},
    "exact": {"penalty": "nonlinear", "form": "exact", "sample": "token"},
    "median": {"penalty": "nonlinear", "width": "median"},
    "class": {"penalty": "linear", "sample": "class"},
    "weight": {"penalty": "linear", "space": "weight"},
    "function": {"penalty": mine},
}


class Towers(nn.Module):
    """Two layers of one shape that see different samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.images, self.texts = (Adapted(nn.Linear(12, 12), 3) for _ in range(2))
        self.requires_grad_(False)
        for tower in self.children():
            tower.up.requires_grad_(True)
            tower.down.requires_grad_(True)

    def forward(self, images, texts):
        return self.images(images).mean() + self.texts(texts).mean()


def batch():
    return inputs(batch=12, dtype=torch.float64)


def texts():
    return inputs(batch=10, seed=2, dtype=torch.float64)


def lengths():
    """Each sequence's number of tokens that count; those of the second process are short."""
    return torch.tensor([7, 7, 3, 7, 5, 7, 2, 4, 7, 1, 6, 2])


def part(x, sizes, rank):
    return x.split(sizes)[rank]


def run_step(model, module, settings, *args, mask=None):
    """The value of the penalty and the gradients of a step."""
    regularizer = ReSoRA(module, weight=0.7, **settings)
    model.zero_grad()
    task = model(*args).square().mean()
    value = regularizer(mask=mask)
    (0 * task + value).backward()  # all parameters get a gradient, as DDP wants
    assert not any(recorded(regularizer))
    regularizer.close()
    grads = torch.cat([p.grad.flatten() for p in trained(module)])
    return value.detach(), grads.clone()


def whole():
    """What one process finds on the whole batch, by the name of the case."""
    found = {}
    model = own().double()
    for name, settings in CASES.items():
        found["plain", name] = run_step(model, model, settings, batch())
    model = users().double()
    mask = torch.arange(7) < lengths()[:, None]
    for name in PENALTIES:
        found["masked", name] = run_step(model, model, CASES[name], batch(), mask=mask)
    towers = Towers().double()
    for name in PENALTIES:
        found["towers", name] = run_step(towers, towers, CASES[name], batch(), texts())
    return found


def child(rank, init, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=init,
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=60),
    )
    found = {}
    module = own().double()
    model = DistributedDataParallel(module)
    for split, sizes in SPLITS.items():
        x = part(batch(), sizes, rank)
        for name, settings in CASES.items():
            found["plain", name, split] = run_step(model, module, settings, x)
    module = users().double()
    model = DistributedDataParallel(module)
    # One process pads to its longest sequence; the other one has no padding, and no mask.
    for split, sizes in SPLITS.items():
        x, kept = part(batch(), sizes, rank), part(lengths(), sizes, rank)
        mask = torch.arange(7) < kept[:, None]
        longest = int(kept.max())
        for name in PENALTIES:
            found["masked", name, split] = run_step(
                model, module, CASES[name], x[:, :longest], mask=mask[:, :longest]
            )
    # On one process, both towers see equally many samples, and could be one batch; not on the other.
    towers = Towers().double()
    model = DistributedDataParallel(towers)
    for split, sizes in SPLITS.items():
        number = {"equal": [6, 4], "unequal": [9, 1]}[split]
        pair = part(batch(), sizes, rank), part(texts(), number, rank)
        for name in PENALTIES:
            found["towers", name, split] = run_step(model, towers, CASES[name], *pair)
    found["accumulated"] = accumulated(DistributedDataParallel(own().double()), rank)
    found["local"] = local(rank)
    found["wrapped"] = wrapped(rank)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


def accumulated(model, rank):
    """Two micro-batches, the first without communication of gradients."""
    regularizer = ReSoRA(model, weight=0.7)
    first, second = part(batch(), [6, 6], rank).chunk(2)
    with model.no_sync():
        (0 * model(first).sum() + regularizer() / 2).backward()
    (0 * model(second).sum() + regularizer() / 2).backward()
    return torch.cat([p.grad.flatten() for p in trained(model)])


def local(rank):
    """``group=None``: the penalty of the process's own batch; and the sum of the two."""
    model = own().double()
    values = []
    for group in (None, "auto", dist.group.WORLD):
        regularizer = ReSoRA(model, weight=1.0, group=group)
        model(part(batch(), [11, 1], rank))
        values.append(regularizer().detach())
        regularizer.close()
    return values


def wrapped(rank):
    """Names and value where the wrapped model is handed over."""
    model = DistributedDataParallel(own().double())
    regularizer = ReSoRA(model, weight=1.0)
    model(part(batch(), [11, 1], rank))
    return list(regularizer.layers), regularizer().detach()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    spawn(child, (f"file://{folder}/init", folder), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.fixture(scope="module")
def one_process():
    return whole()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_those_of_the_whole_batch(processes, one_process, case, split):
    compare(processes, one_process["plain", case], ("plain", case, split))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", PENALTIES)
def test_padding_may_differ_between_processes(processes, one_process, case, split):
    compare(processes, one_process["masked", case], ("masked", case, split))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", PENALTIES)
def test_layers_may_see_different_numbers_of_samples(processes, one_process, case, split):
    compare(processes, one_process["towers", case], ("towers", case, split))


def compare(processes, expected, key):
    value, gradient = expected
    for found in processes:
        torch.testing.assert_close(found[key][0], value, rtol=1e-10, atol=1e-12)
        error = (found[key][1] - gradient).norm() / gradient.norm().clamp_min(1e-12)
        assert error < 1e-10


def test_accumulation_without_communication(processes):
    model = own().double()
    regularizer = ReSoRA(model, weight=0.7)
    parts = [batch()[[0, 1, 2, 6, 7, 8]], batch()[[3, 4, 5, 9, 10, 11]]]
    for x in parts:
        (0 * model(x).sum() + regularizer() / 2).backward()
    expected = torch.cat([p.grad.flatten() for p in trained(model)])
    for found in processes:
        torch.testing.assert_close(found["accumulated"], expected, rtol=1e-10, atol=1e-12)


def test_processes_can_be_left_alone(processes):
    model = own().double()
    regularizer = ReSoRA(model, weight=1.0)
    model(batch())
    together = regularizer().detach()
    for x, found in zip(batch().split([11, 1]), processes, strict=True):
        model(x)
        alone = regularizer().detach()
        torch.testing.assert_close(found["local"][0], alone)
        assert (alone - together).abs() > 1e-3
        for value in found["local"][1:]:
            torch.testing.assert_close(value, together)


def test_the_wrapped_model_can_be_handed_over(processes):
    model = own().double()
    regularizer = ReSoRA(model, weight=1.0)
    model(batch())
    expected = regularizer().detach()
    for found in processes:
        names, value = found["wrapped"]
        assert names == ["blocks.0.qkv", "blocks.1.qkv"]
        torch.testing.assert_close(value, expected)
