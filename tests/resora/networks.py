"""Small networks with low-rank layers, for the tests of the regulariser."""

from __future__ import annotations

import torch
from torch import nn

from resora import ReSoRA
from resora.discovery import low_rank_layers
from resora.petl import Factors, make_method

PENALTIES = ("linear", "cosine", "euclidean", "nonlinear")


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return x + torch.tanh(q) * torch.sigmoid(k) + v


class Model(nn.Module):
    def __init__(self, dim=12, depth=2):
        super().__init__()
        self.blocks = nn.Sequential(*(Attention(dim) for _ in range(depth)))
        self.head = nn.Linear(dim, 4)

    def forward(self, x):
        return self.head(self.blocks(x).mean(1))


class Adapted(nn.Module):
    """A low-rank layer as a user would write it."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))

    def tap(self, record):
        return self.up.register_forward_pre_hook(lambda _, inputs: record(inputs[0][None]))

    def factors(self):
        return Factors(self.up.weight.T[None], self.down.weight[None])


def own(dim=12, depth=2, rank=3):
    """A model with resora's LoRA, the up-projections not at zero."""
    torch.manual_seed(0)
    model = Model(dim, depth)
    make_method(f"lora-r{rank}").adapt(model, "head")
    for layer in low_rank_layers(model).values():
        nn.init.normal_(layer.lora_b, std=0.1)
    return model


def users(dim=12, depth=2, rank=3):
    """A model with the low-rank layer of a user; only these layers are trained."""
    torch.manual_seed(0)
    model = Model(dim, depth).requires_grad_(False)
    for block in model.blocks:
        block.qkv = Adapted(block.qkv, rank)
        block.qkv.base.requires_grad_(False)
    return model


def inputs(batch=5, tokens=7, dim=12, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, dim, generator=generator, dtype=torch.float64).to(dtype)


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def gradients(value, model, **options):
    """The gradient with respect to what is trained, as one vector."""
    found = torch.autograd.grad(value, trained(model), allow_unused=True, **options)
    parts = [
        torch.zeros_like(p) if g is None else g for g, p in zip(found, trained(model), strict=True)
    ]
    return torch.cat([part.flatten() for part in parts])


def activations(model, *args):
    """Runs the model; z (B, ..., r) and b (r, d) of each adapted matrix, with graph."""
    layers = low_rank_layers(model).values()
    found = []
    handles = [layer.tap(found.append) for layer in layers]
    model(*args)
    for handle in handles:
        handle.remove()
    pairs = []
    for z, layer in zip(found, layers, strict=True):
        factors = layer.factors()
        pairs += zip(z, factors.scale * factors.b, strict=True)
    return pairs


def recorded(regularizer):
    """How many passes of each layer the regulariser holds."""
    return [len(recorder.z) for recorder in regularizer._recorders.values()]


def value_of(model, *args, x=None, **settings):
    """The penalty of one forward pass."""
    regularizer = ReSoRA(model, *args, weight=1.0, **settings)
    model(inputs(dtype=next(model.parameters()).dtype) if x is None else x)
    try:
        return regularizer()
    finally:
        regularizer.close()


def close(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
