"""What counts as a sample: masks of padded tokens, windows, inputs of different sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from resora import ReSoRA, penalties
from resora.penalties import linear
from resora.petl import Factors
from resora.petl.base import Taps
from tests.resora.networks import (
    PENALTIES,
    Adapted,
    activations,
    close,
    inputs,
    own,
    value_of,
)


@pytest.fixture
def model():
    return own()


class Given(nn.Module):
    """A layer whose activations are parameters, so that their gradient can be looked at."""

    def __init__(self, shape, rank=3):
        super().__init__()
        torch.manual_seed(0)
        self.z = nn.Parameter(torch.randn(1, *shape, rank, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(1, rank, 6, dtype=torch.float64))
        self.taps = Taps()

    def forward(self):
        self.taps(self.z)

    def tap(self, record):
        return self.taps.add(record)

    def factors(self):
        return Factors(self.b)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("sample", ["token", "image", "class"])
@pytest.mark.parametrize("padding", [0.0, 1e30, math.inf, math.nan])
def test_what_is_masked_does_not_matter(penalty, sample, padding):
    layer = Given((6, 5))
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[0, 3:] = mask[1, 1:] = mask[4] = False  # one is padding altogether
    regularizer = ReSoRA(layer, penalty, weight=1.0, sample=sample)
    layer()
    expected = regularizer(mask=mask)
    of_z, of_b = torch.autograd.grad(expected, [layer.z, layer.b], allow_unused=True)
    with torch.no_grad():
        layer.z[0, ~mask] = padding
    layer()
    found = regularizer(mask=mask.long())
    assert found == expected
    again = torch.autograd.grad(found, [layer.z, layer.b], allow_unused=True)
    for one, other in zip(again, (of_z, of_b), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.equal(one, other)
    if of_z is not None:
        assert not of_z[0, ~mask].any()
    # The same as on sequences that are cropped.
    cropped = [z[kept] for z, kept in zip(layer.z[0], mask, strict=True) if kept.any()]
    z = {
        "token": lambda: torch.cat(cropped),
        "image": lambda: torch.stack([one.mean(0) for one in cropped]),
        "class": lambda: torch.stack([one[0] for one in cropped]),
    }[sample]()
    expected = penalties.PENALTIES[penalty](z, layer.b[0])
    close(found, expected, 1e-12)
    for one, other in zip(
        again, torch.autograd.grad(expected, [layer.z, layer.b], allow_unused=True), strict=True
    ):
        assert (one is None) == (other is None)
        if one is not None:
            close(one, other, 1e-12)
    assert all(m.isfinite().all() for m in regularizer.redundancy().values())


def test_masks_that_do_not_fit(model):
    regularizer = ReSoRA(model, weight=1.0)
    model(inputs())
    with pytest.raises(ValueError, match=r"shape \(5, 6\), and 'blocks.0.qkv' saw .* \(5, 7\)"):
        regularizer(mask=torch.ones(5, 6).bool())
    model(inputs())
    with pytest.raises(TypeError, match="additive attention mask"):
        regularizer(mask=torch.zeros(5, 7))


class Windowed(nn.Module):
    """Attention in windows: its first layer sees 4 windows of an image as if they were images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.windows, self.whole = (Adapted(nn.Linear(12, 12), 3) for _ in range(2))

    def forward(self, x):
        x = torch.tanh(self.windows(x.unflatten(1, (4, -1)).flatten(0, 1)))
        return self.whole(x.unflatten(0, (-1, 4)).flatten(1, 2))


@pytest.mark.parametrize("sample", ["image", "class"])
def test_windows_need_the_number_of_images(sample):
    model = Windowed().double()
    x = inputs(tokens=8, dtype=torch.float64)
    regularizer = ReSoRA(model, weight=1.0, sample=sample)
    model(x)
    with pytest.raises(ValueError, match=r"'whole': 5, 'windows': 20.*batch_size=\.\.\."):
        regularizer()
    pairs = activations(model, x)
    regularizer._forget()
    model(x)
    tokens = [z.reshape(5, 8, 3) for z, _ in pairs]
    taken = [z.mean(1) if sample == "image" else z[:, 0] for z in tokens]
    expected = [linear(z, b) for z, (_, b) in zip(taken, pairs, strict=True)]
    close(regularizer(batch_size=5), torch.stack(expected).mean())
    model(x[:3])
    model(x[3:])
    close(regularizer(batch_size=[3, 2]), torch.stack(expected).mean())
    model(x)
    with pytest.raises(ValueError, match="'windows' saw 40 positions, which 7 images cannot share"):
        regularizer(batch_size=7)
    assert value_of(model, x=x, sample="token") > 0  # needs nothing


class Towers(nn.Module):
    """Two layers that see different inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.images, self.texts = (Adapted(nn.Linear(12, 12), 3) for _ in range(2))

    def forward(self, images, texts):
        return self.images(images), self.texts(texts)


def test_batches_of_different_sizes_are_no_windows():
    model = Towers().double()
    x = inputs(dtype=torch.float64)
    regularizer = ReSoRA(model, weight=1.0, sample="image")
    pairs = activations(model, x, x[:2])
    close(regularizer(), torch.stack([linear(z.mean(1), b) for z, b in pairs]).mean())
    model(x[:2], x[:4])
    with pytest.raises(ValueError, match="one regulariser for each, with exclude="):
        regularizer()
    both = [ReSoRA(model, weight=1.0, sample="image", exclude=[n]) for n in ("images", "texts")]
    model(x[:2], x[:4])
    assert all(one() > 0 for one in both)


def test_masks_by_layer_are_those_of_each_input():
    """Two towers that see different things, as CLIP's: each has its own mask, or none."""
    model = Towers().double()
    x = inputs(dtype=torch.float64)
    texts, valid = x[:2], torch.arange(x.shape[1]) < torch.tensor([[2], [3]])
    regularizer = ReSoRA(model, weight=1.0, sample="token")
    (images_z, images_b), (texts_z, texts_b) = activations(model, x, texts)
    expected = [
        linear(images_z.flatten(0, 1), images_b),
        linear(texts_z[valid], texts_b),
    ]
    close(regularizer(mask={"texts": valid}), torch.stack(expected).mean())
    model(x[:3], texts[:1])
    model(x[3:], texts[1:])
    parts = {"t*": [valid[:1], valid[1:]], "*": None}
    close(regularizer(mask=parts), torch.stack(expected).mean())
    model(x, texts)
    with pytest.raises(ValueError, match="the glob 'text_model' of a mask matches no low-rank"):
        regularizer(mask={"text_model": valid})
    with regularizer.recording():
        model(x, texts)
        found = regularizer.redundancy(mask={"texts": valid})["texts"]
    close(found, penalties.squared_cosines(texts_z[valid][None])[0])
