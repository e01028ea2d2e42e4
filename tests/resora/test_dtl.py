"""DTL and DTL+: counts, positions, the formula, and that the backward pass leaves the first half alone."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from data_prep.torchvision_guard import ensure_torchvision
from resora import ReSoRA, merge
from resora.adapted import adapter_state, load_adapter_state
from resora.backbones import describe
from resora.discovery import low_rank_layers
from resora.petl import make_method

ensure_torchvision()

import timm  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from transformers import BertConfig, BertModel  # noqa: E402

HEADS = {"vit": "head", "swin": "head.fc"}
NAMES = ("dtl", "dtl-plus")


def tiny(kind, depth=4, depths=(2, 2, 4)):
    torch.manual_seed(0)
    if kind == "vit":
        return VisionTransformer(
            img_size=16, patch_size=4, embed_dim=24, depth=depth, num_heads=2, num_classes=5
        )
    return SwinTransformer(
        img_size=32,
        patch_size=2,
        window_size=4,
        embed_dim=8,
        depths=depths,
        num_heads=(2, 4, 8)[: len(depths)],
        num_classes=5,
        drop_path_rate=0.0,
    )


def images(kind):
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, 16) if kind == "vit" else torch.randn(2, 3, 32, 32)


def adapted(kind, name, is_moved=True, **options):
    """A tiny model with DTL; with ``is_moved``, its B no longer zero."""
    model = tiny(kind).eval()
    make_method(name, **options).adapt(model, HEADS[kind])
    if is_moved:
        for layer in low_rank_layers(model).values():
            nn.init.normal_(layer.lora_b, std=0.3)
    return model


def trained(model):
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith("head.")
    )


@pytest.mark.parametrize(
    ("backbone", "name", "kernel", "number"),
    [
        ("vit_base_patch16_224", "dtl-r2", None, 36_864),
        ("vit_base_patch16_224", "dtl-plus", 3, 43_776),
        ("vit_base_patch16_224", "dtl-plus", 4, 49_152),
        ("vit_base_patch16_224", "dtl-plus", 5, 56_064),
        ("swin_base_patch4_window7_224", "dtl-r4", None, 90_112),
        ("swin_base_patch4_window7_224", "dtl-plus-r4", 5, 128_512),
    ],
)
def test_parameters(backbone, name, kernel, number):
    with torch.device("meta"):
        model = timm.create_model(backbone, num_classes=10)
        options = {} if kernel is None else {"kernel": kernel}
        make_method(name, **options).adapt(model, "head" if "vit" in backbone else "head.fc")
    assert trained(model) == number


@pytest.mark.parametrize(
    ("depths", "mapped", "first"),
    [
        ((2, 2, 18, 2), range(4, 24), 14),
        ((2, 2, 4), range(4, 8), 6),
        ((2, 2), range(2, 4), 3),
        # The sum of stage 2 would never be used: it has no maps.
        ((2, 2, 2, 2), range(6, 8), 6),
    ],
)
def test_positions_on_swin(depths, mapped, first):
    with torch.device("meta"):
        model = SwinTransformer(
            img_size=64, patch_size=2, window_size=4, embed_dim=8, depths=depths,
            num_heads=(2,) * len(depths), num_classes=5,
        )  # fmt: skip
        make_method("dtl").adapt(model, "head.fc")
    assert list(model.side.maps) == [str(index) for index in mapped]
    assert model.side.first == first


def test_positions_on_a_vit():
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=10)
        make_method("dtl").adapt(model, "head")
    assert list(model.side.maps) == [str(index) for index in range(12)]
    assert model.side.first == 6


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_starts_unchanged_and_trains_every_parameter(kind, name):
    x = images(kind)
    expected = tiny(kind).eval()(x)
    model = adapted(kind, name, is_moved=False)
    assert torch.equal(model(x), expected)
    # At the start, all maps get a gradient: B is zero, and A has to wait for it.
    model(x).square().sum().backward()
    assert all(layer.lora_b.grad.any() for layer in low_rank_layers(model).values())
    model = adapted(kind, name)
    model(x).square().sum().backward()
    silent = [
        n
        for n, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not silent
    assert not [
        n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None
    ]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_formula(kind, name):
    model, x = adapted(kind, name, beta=3.0), images(kind)
    plain = tiny(kind).eval()
    blocks = [plain.get_submodule(block.path) for block in describe(plain).blocks]
    stages = [block.stage for block in describe(plain).blocks]
    maps = model.side.maps
    if kind == "vit":
        t = plain.norm_pre(plain.patch_drop(plain._pos_embed(plain.patch_embed(x))))
    else:
        t = plain.patch_embed(x)
    h = 0
    for i, block in enumerate(blocks):
        if i and stages[i] != stages[i - 1]:
            t, h = plain.layers[stages[i]].downsample(t), 0
        if str(i) in maps:
            h = h + t @ maps[str(i)].lora_a[0].T @ maps[str(i)].lora_b[0]
        t = block(t)
        if i >= model.side.first:
            g = h * torch.sigmoid(3.0 * h)
            if name == "dtl-plus":
                g = mixed(model.side.convolutions[str(stages[i])].convolution, g, kind)
            t = t + g
    expected = plain.forward_head(plain.norm(t))
    torch.testing.assert_close(model(x), expected)


def mixed(convolution, g, kind):
    if kind == "swin":
        grid = g.permute(0, 3, 1, 2)
        return nn.functional.conv2d(
            grid, convolution.weight, padding="same", groups=grid.shape[1]
        ).permute(0, 2, 3, 1)
    grid = g[:, 1:].transpose(1, 2).reshape(g.shape[0], -1, 4, 4)
    out = nn.functional.conv2d(grid, convolution.weight, padding="same", groups=grid.shape[1])
    return torch.cat([g[:, :1], out.flatten(2).transpose(1, 2)], dim=1)


def test_even_kernels_pad_as_torch_does():
    model, grid = adapted("vit", "dtl-plus", kernel=4), torch.randn(2, 17, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mixed(model.side.convolutions["0"].convolution, grid, "vit")
    torch.testing.assert_close(model.side.convolutions["0"](grid), expected)


@pytest.mark.parametrize("kind", HEADS)
def test_backward_pass_leaves_the_first_half_alone(kind):
    model, x = adapted(kind, "dtl-plus").train(), images(kind)
    blocks = [model.get_submodule(block.path) for block in describe(model).blocks]
    kept, current = dict.fromkeys(range(len(blocks)), 0), []

    def keep(tensor):
        if current:
            kept[current[-1]] += tensor.numel()
        return tensor

    def leave(*_):
        current.pop()

    for index, block in enumerate(blocks):
        # Only what lies inside the blocks: the side network's hooks run before and after.
        for part in (block.norm1, block.attn, block.norm2, block.mlp):
            part.register_forward_pre_hook(lambda *_, index=index: current.append(index))
            part.register_forward_hook(leave)
    inputs = {}
    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(
            lambda _, args, index=index: inputs.__setitem__(index, args[0].requires_grad)
        )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(x)
    first = model.side.first
    assert [inputs[index] for index in range(len(blocks))] == [
        index > first for index in range(len(blocks))
    ]
    assert all(kept[index] == 0 for index in range(first + 1))
    assert all(kept[index] > 0 for index in range(first + 1, len(blocks)))


@pytest.mark.parametrize("kind", HEADS)
def test_copies_work_alone_and_nothing_is_left_over(kind):
    model, x = adapted(kind, "dtl-plus"), images(kind)
    expected = model(x)
    assert model.side.carried is None
    for one in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(one(x), expected)
        for layer in low_rank_layers(one).values():
            nn.init.zeros_(layer.lora_b)
        assert torch.equal(one(x), tiny(kind).eval()(x))
    assert torch.equal(model(x), expected)


def test_a_forward_pass_that_failed_leaves_no_trace():
    model, x = adapted("vit", "dtl"), images("vit")
    expected = model(x)
    handle = model.blocks[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(x)
    handle.remove()
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_trained_part_carries_over(kind, name):
    model, fresh, x = adapted(kind, name), adapted(kind, name, is_moved=False), images(kind)
    load_adapter_state(fresh, adapter_state(model))
    assert torch.equal(fresh(x), model(x))


@pytest.mark.parametrize("kind", HEADS)
def test_penalty_sees_every_map(kind):
    model = adapted(kind, "dtl-plus").train()
    regularizer = ReSoRA(model, weight=1.0, sample="image")
    model(images(kind))
    regularizer().backward()
    assert list(regularizer.redundancy()) == [f"side.maps.{index}" for index in model.side.maps]
    assert all(layer.lora_a.grad.any() for layer in low_rank_layers(model).values())


def test_head_may_read_the_mean_of_the_patches():
    x = images("vit")
    model = adapted("vit", "dtl", is_moved=False, pool="patches")
    plain = tiny("vit").eval()
    tokens = plain.blocks(plain._pos_embed(plain.patch_embed(x)))
    torch.testing.assert_close(model(x), plain.head(plain.norm(tokens[:, 1:].mean(1))))
    with pytest.raises(ValueError, match="timm's vision transformer"):
        make_method("dtl", pool="patches").adapt(tiny("swin"), "head.fc")


def test_is_part_of_a_larger_model():
    whole = nn.Sequential(tiny("vit").eval(), nn.Linear(5, 3))
    expected = whole(images("vit"))
    make_method("dtl-plus").adapt(whole, "1")
    assert torch.equal(whole(images("vit")), expected)
    assert {n.split(".")[0] for n, p in whole.named_parameters() if p.requires_grad} == {"0", "1"}


def test_refuses_checkpointing_of_the_backbone():
    model = adapted("vit", "dtl").train()
    model.set_grad_checkpointing()
    with pytest.raises(RuntimeError, match="checkpointing"):
        model(images("vit")).sum().backward()


def test_whole_model_may_be_checkpointed():
    model, x = adapted("vit", "dtl").train(), images("vit")
    model(x).square().sum().backward()
    expected = model.side.maps["0"].lora_a.grad.clone()
    model.zero_grad()
    checkpoint(model, x, use_reentrant=False).square().sum().backward()
    assert torch.equal(model.side.maps["0"].lora_a.grad, expected)


def test_runs_under_autocast_and_compiled(fresh_compiler):
    model, x = adapted("vit", "dtl-plus"), images("vit")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x).float().sum().backward()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


def test_is_not_merged():
    model = adapted("vit", "dtl")
    assert not make_method("dtl").is_mergeable
    with pytest.raises(ValueError, match="cannot be merged"):
        merge(model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 0}, "positive integer"),
        ({"beta": 0.0}, "beta"),
        ({"given_back": 0.0}, "share"),
        ({"pool": "mean"}, "unknown pool"),
        ({"kernel": 0}, "kernel"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        make_method("dtl-plus", **options)


def test_refuses_other_backbones():
    bert = BertModel(
        BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
    )
    with pytest.raises(ValueError, match="does not fit bert"):
        make_method("dtl").adapt(bert, "")
