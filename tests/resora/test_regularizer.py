"""ReSoRA on a model, and the LoRA layers that it reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resora import ReSoRA
from resora.discovery import low_rank_layers
from resora.penalties import linear
from resora.petl import make_method
from resora.petl.lora import LoRAQKV


class Attention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return x + torch.tanh(q) * torch.sigmoid(k) + v


class Model(nn.Module):
    def __init__(self, dim: int = 12) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Attention(dim), Attention(dim))
        self.head = nn.Linear(dim, 4)

    def forward(self, x):
        return self.head(self.blocks(x).mean(1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Model()
    make_method("lora-r3").adapt(model, "head")
    return model


def inputs():
    return torch.randn(5, 7, 12, generator=torch.Generator().manual_seed(1))


def randomise_up_projections(model):
    for layer in low_rank_layers(model).values():
        nn.init.normal_(layer.lora_b, std=0.1)


def activations(model):
    """Runs the model; z (B, T, r) and b (r, d) of each adapted matrix."""
    layers = low_rank_layers(model).values()
    found = []
    handles = [layer.tap(found.append) for layer in layers]
    model(inputs())
    for handle in handles:
        handle.remove()
    pairs = [zip(z, layer.factors().b, strict=True) for z, layer in zip(found, layers, strict=True)]
    return [pair for layer in pairs for pair in layer]


def test_lora_changes_nothing_at_its_start_and_is_the_low_rank_update_after():
    torch.manual_seed(0)
    plain = nn.Linear(6, 18)
    layer = LoRAQKV(plain, rank=2, scale=0.5)
    x = torch.randn(3, 4, 6)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    nn.init.normal_(layer.lora_b)
    parts = [0.5 * (x @ a.T) @ b for a, b in zip(layer.lora_a, layer.lora_b, strict=True)]
    torch.testing.assert_close(layer(x), plain(x) + torch.cat(parts, -1))


def test_only_adapters_and_head_are_trained(model):
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        *(f"blocks.{i}.qkv.lora_{x}" for i in range(2) for x in "ab"),
        "head.weight",
        "head.bias",
    }


def test_value_is_the_mean_over_matrices(model):
    regularizer = ReSoRA(model, penalty="linear", weight=0.3)
    randomise_up_projections(model)
    expected = [linear(z.flatten(0, 1), b) for z, b in activations(model)]
    torch.testing.assert_close(regularizer(), 0.3 * torch.stack(expected).mean())


def test_image_samples_are_means_over_tokens(model):
    regularizer = ReSoRA(model, penalty="linear", weight=1.0, sample="image")
    pooled = [linear(z.mean(1), b) for z, b in activations(model)]
    torch.testing.assert_close(regularizer(), torch.stack(pooled).mean())


@pytest.mark.parametrize("penalty", ["linear", "nonlinear", "euclidean", "cosine"])
def test_descent_lowers_each_penalty(model, penalty):
    randomise_up_projections(model)
    regularizer = ReSoRA(model, penalty=penalty, weight=1.0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    values = []
    for _ in range(15):
        model(inputs())
        value = regularizer()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.98 * values[0]


def test_linear_penalty_lowers_redundancy(model):
    regularizer = ReSoRA(model, penalty="linear", weight=1.0)

    def mean():
        with regularizer.recording(), torch.no_grad():
            model(inputs())
        return torch.stack(list(regularizer.redundancy().values())).mean()

    before = mean()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(15):
        model(inputs())
        optimizer.zero_grad()
        regularizer().backward()
        optimizer.step()
    assert mean() < before


def test_redundancy_names_matrices(model):
    regularizer = ReSoRA(model, weight=1.0)
    with regularizer.recording():
        model(inputs())
        matrices = regularizer.redundancy()
    assert list(matrices) == [f"blocks.{i}.qkv.{part}" for i in range(2) for part in "qkv"]
    assert all(m.shape == (3, 3) and not m.requires_grad for m in matrices.values())


def test_closing_stops_recording(model):
    regularizer = ReSoRA(model, weight=1.0)
    regularizer.close()
    model(inputs())
    with pytest.raises(RuntimeError, match="the regulariser is closed"):
        regularizer()


def test_errors_say_what_was_looked_for():
    with pytest.raises(ValueError, match="no low-rank layer"):
        ReSoRA(nn.Linear(2, 2), weight=1.0)
    with pytest.raises(ValueError, match=r"unknown method 'lorra-r8'; did you mean 'lora'"):
        make_method("lorra-r8")
    with pytest.raises(ValueError, match="cannot be built"):
        make_method("lora")
    with pytest.raises(ValueError, match="no attention with a fused"):
        make_method("lora-r2").adapt(nn.Sequential(nn.Linear(2, 2)), "0")
