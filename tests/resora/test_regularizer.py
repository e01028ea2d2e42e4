"""ReSoRA on a model: what its value is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resora import ReSoRA, literal
from resora.discovery import low_rank_layers
from resora.penalties import linear
from resora.petl.layers.low_rank import LowRankLinear
from tests.resora.networks import (
    PENALTIES,
    Adapted,
    activations,
    close,
    gradients,
    inputs,
    own,
    recorded,
    trained,
    users,
    value_of,
)

QKV = ("q", "k", "v")
MODELS = pytest.mark.parametrize("make", [own, users])
BETA = 0.3
LITERAL = {
    "linear": literal.linear,
    "cosine": literal.cosine,
    "euclidean": lambda dh: literal.euclidean(dh, BETA),
    "nonlinear": lambda dh: literal.nonlinear(dh, 0.5),
}
OPTIONS = {"euclidean": {"beta": BETA}}


@pytest.fixture
def model():
    return own()


def test_lora_changes_nothing_at_its_start_and_is_the_low_rank_update_after():
    torch.manual_seed(0)
    plain = nn.Linear(6, 18)
    layer = LowRankLinear(plain, 2, 0.5, QKV)
    x = torch.randn(3, 4, 6)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    nn.init.normal_(layer.lora_b)
    parts = [0.5 * (x @ a.T) @ b for a, b in zip(layer.lora_a, layer.lora_b, strict=True)]
    torch.testing.assert_close(layer(x), plain(x) + torch.cat(parts, -1))


def test_only_adapters_and_head_are_trained(model):
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert names == {
        *(f"blocks.{i}.qkv.lora_{x}" for i in range(2) for x in "ab"),
        "head.weight",
        "head.bias",
    }


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("sample", ["token", "image", "class"])
def test_value_is_the_equation_averaged_over_matrices(make, penalty, sample):
    model = make().double()
    x = inputs(batch=9, dtype=torch.float64)
    options = OPTIONS.get(penalty, {})
    regularizer = ReSoRA(model, penalty=penalty, weight=0.3, sample=sample, **options)
    pairs = activations(model, x)
    taken = {
        "token": lambda z: z.flatten(0, 1),
        "image": lambda z: z.mean(1),
        "class": lambda z: z[:, 0],
    }[sample]
    each = [LITERAL[penalty](literal.features(taken(z), b)) for z, b in pairs]
    expected = 0.3 * torch.stack(each).mean()
    found = regularizer()
    # Over 63 samples, the nonlinear one is exact too.
    close(found, expected)
    assert found.dtype == torch.float64
    if penalty != "nonlinear":  # its width is smoothed, which the literal one is not
        close(gradients(found, model, retain_graph=True), gradients(expected, model))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_default_samples(penalty):
    model = own().double()
    x = inputs(dtype=torch.float64)
    default = ReSoRA(model, penalty=penalty, weight=1.0)
    named = ReSoRA(
        model, penalty, weight=1.0, sample="image" if penalty == "nonlinear" else "token"
    )
    model(x)
    assert default() == named()


def test_normalisation_over_pairs_and_matrices():
    model = own(rank=4)
    settings = [(p, m) for p in ("sum", "mean") for m in ("sum", "mean")]
    regularizers = [ReSoRA(model, weight=1.0, pairs=p, matrices=m) for p, m in settings]
    model(inputs())
    total, mean_matrix, mean_pair, mean = (regularizer() for regularizer in regularizers)
    close(mean_matrix, total / 6, 1e-6)  # 2 layers x (q, k, v)
    close(mean_pair, total / 6, 1e-6)  # 4 x 3 / 2 pairs
    close(mean, total / 36, 1e-6)


def test_scale_of_the_update_is_part_of_the_features():
    model = own().double()
    for block in model.blocks:
        block.qkv.scale = 2.5
    regularizer = ReSoRA(model, "euclidean", weight=1.0, beta=BETA)
    pairs = activations(model, inputs(dtype=torch.float64))
    each = [literal.euclidean(literal.features(z.flatten(0, 1), b), BETA) for z, b in pairs]
    close(regularizer(), torch.stack(each).mean())


class Mixed(nn.Module):
    """Layers of several ranks, widths and numbers of samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        sizes = [(12, 12, 2), (12, 12, 3), (12, 8, 3), (8, 12, 3), (12, 12, 3)]
        self.layers = nn.ModuleList(Adapted(nn.Linear(i, o), r) for i, o, r in sizes)
        self.pooled = Adapted(nn.Linear(12, 12), 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.pooled(x.mean(1))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_layers_of_different_shapes(penalty):
    model = Mixed().double()
    regularizer = ReSoRA(model, penalty, weight=1.0, sample="token", **OPTIONS.get(penalty, {}))
    pairs = activations(model, inputs(dtype=torch.float64))
    each = [LITERAL[penalty](literal.features(z.flatten(0, -2), b)) for z, b in pairs]
    close(regularizer(), torch.stack(each).mean())
    with pytest.raises(ValueError, match=r"'pooled' has no token dimension.* exclude it"):
        value_of(model, sample="class")


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("case", ["start", "one image", "one token", "rank 1", "few", "dead"])
def test_edge_cases_are_finite(penalty, case):
    model = own(rank={"rank 1": 1, "few": 6}.get(case, 3))
    with torch.no_grad():
        for layer in low_rank_layers(model).values():
            if case == "start":
                layer.lora_b.zero_()
            if case == "dead":
                layer.lora_a[:, 0] = 0
    x = {"one image": inputs(1), "one token": inputs(1, 1), "few": inputs(2, 2)}.get(case, inputs())
    value = value_of(model, penalty, x=x)
    assert value.isfinite()
    assert gradients(value, model).isfinite().all()
    if case == "rank 1" or (penalty == "nonlinear" and case.startswith("one")):
        assert value == 0


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
def test_descent_lowers_each_penalty(make, penalty):
    model = make()
    regularizer = ReSoRA(model, penalty=penalty, weight=1.0)
    optimizer = torch.optim.Adam(trained(model), lr=1e-2)
    values = []
    for _ in range(15):
        model(inputs())
        value = regularizer()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.995 * values[0]


@MODELS
def test_linear_penalty_lowers_redundancy(make):
    model = make()
    regularizer = ReSoRA(model, penalty="linear", weight=1.0)

    def mean():
        with regularizer.recording(), torch.no_grad():
            model(inputs())
        return torch.stack(list(regularizer.redundancy().values())).mean()

    before = mean()
    optimizer = torch.optim.Adam(trained(model), lr=1e-2)
    for _ in range(15):
        model(inputs())
        optimizer.zero_grad()
        regularizer().backward()
        optimizer.step()
    assert mean() < before


@MODELS
@pytest.mark.parametrize("penalty", PENALTIES)
def test_penalty_of_the_matrices_themselves(make, penalty):
    model = make().double()
    regularizer = ReSoRA(model, penalty, weight=1.0, space="weight", **OPTIONS.get(penalty, {}))
    each = []
    for layer in low_rank_layers(model).values():
        factors = layer.factors()
        for a, b in zip(factors.a, factors.b, strict=True):
            maps = b[:, :, None] * a[:, None, :]  # W_i = b_i a_i^T, in place of dH_i
            each.append(LITERAL[penalty](maps))
    expected = torch.stack(each).mean()
    found = regularizer()  # without a forward pass
    close(found, expected)
    if penalty != "nonlinear":
        close(gradients(found, model), gradients(expected, model))
    model(inputs(dtype=torch.float64))
    assert recorded(regularizer) == [0, 0]
    assert len(regularizer.redundancy()) == len(each)


def test_penalty_of_matrices_needs_the_rows_of_the_down_projection(model):
    class WithoutRows(Adapted):
        def factors(self):
            return super().factors()._replace(a=None)

    model.blocks[1].qkv = WithoutRows(nn.Linear(12, 36), 3)
    message = r"space='weight' needs .* 'blocks.1.qkv' has none .*exclude=\['blocks.1.qkv'\]"
    with pytest.raises(ValueError, match=message):
        ReSoRA(model, weight=1.0, space="weight")()
    assert ReSoRA(model, weight=1.0, space="weight", exclude=["blocks.1.qkv"])() > 0
    model(inputs())  # features need no rows
    assert value_of(model) > 0


def test_a_function_as_penalty():
    model = own().double()
    seen = []

    def mine(z, b, power=1):
        seen.append((z.shape, b.shape, z.dtype))
        return (z.square().mean((1, 2)) * b.square().sum((1, 2))) ** power

    regularizer = ReSoRA(model, mine, weight=0.5, power=2, pairs="mean")
    pairs = activations(model, inputs(dtype=torch.float64))
    expected = [(z.square().mean() * b.square().sum()) ** 2 / 3 for z, b in pairs]
    close(regularizer(), 0.5 * torch.stack(expected).mean())
    assert seen == [((6, 35, 3), (6, 3, 12), torch.float64)]
    model = own()
    regularizer = ReSoRA(model, mine, weight=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(inputs())
        assert regularizer().dtype == torch.float32
    assert seen[-1] == ((6, 35, 3), (6, 3, 12), torch.float32)


def test_a_function_with_and_without_masks():
    model = own().double()
    mask = torch.rand(5, 7) > 0.4

    def with_mask(z, b, *, mask=None):
        return linear(z, b, mask=mask)

    def without(z, b):
        return linear(z, b)

    regularizers = [ReSoRA(model, f, weight=1.0) for f in ("linear", with_mask, without)]
    model(inputs(dtype=torch.float64))
    expected, *found = (regularizer(mask=mask) for regularizer in regularizers)
    for value in found:
        close(value, expected)


def test_a_function_that_does_not_return_one_value_a_matrix(model):
    with pytest.raises(ValueError, match=r"returned the shape \(\); .*one value a matrix, \(6,\)"):
        value_of(model, lambda z, b: z.sum())
