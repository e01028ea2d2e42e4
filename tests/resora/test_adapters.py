"""Bottlenecks, SSF, BitFit and partial fine-tuning: placement, counts, and what the start computes."""

from __future__ import annotations

import copy
import importlib.util
import pickle

import pytest
import torch
from torch import nn

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402
from timm.models import ConvNeXt, SwinTransformer, VisionTransformer  # noqa: E402

from resora import merge  # noqa: E402
from resora.petl import METHODS, make_method  # noqa: E402
from resora.petl.layers.bottleneck import ParallelAdapter, SequentialAdapter  # noqa: E402
from resora.petl.ssf import ScaleShift  # noqa: E402

HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
NAMES = ("adapter", "adaptformer", "ssf", "bitfit", "partial")
HEADS = {"vit": "head", "swin": "head.fc", "convnext": "head.fc", "bert": "", "clip": ""}
PAIRS = [(n, k) for n in NAMES for k in HEADS if METHODS[n].refusal(k) is None]


def clip(vision, text, vocabulary=50, **settings):
    from transformers import CLIPConfig, CLIPModel

    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    return CLIPModel(
        CLIPConfig(
            vision_config=dict(zip(names, vision, strict=True), **settings),
            text_config=dict(zip(names, text, strict=True), vocab_size=vocabulary),
        )
    )


def tiny(kind):
    """A small backbone with random norms and biases, which are ones and zeros in a new one."""
    torch.manual_seed(0)
    if kind in ("bert", "clip") and not HAS_TRANSFORMERS:
        pytest.skip("needs transformers: the extra `peft`")
    if kind == "vit":
        model = VisionTransformer(
            img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=5
        )
    elif kind == "swin":
        model = SwinTransformer(
            img_size=32, patch_size=2, window_size=4, embed_dim=16, depths=(2, 2),
            num_heads=(2, 4), num_classes=5,
        )  # fmt: skip
    elif kind == "convnext":
        model = ConvNeXt(
            depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), patch_size=2, num_classes=5,
            ls_init_value=None,
        )  # fmt: skip
    elif kind == "bert":
        from transformers import BertConfig, BertModel

        model = BertModel(
            BertConfig(
                hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
                vocab_size=50,
            )
        )  # fmt: skip
    else:
        model = clip((24, 2, 2, 48), (16, 2, 2, 32), image_size=16, patch_size=8)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.2)
    return model.eval()


def outputs(model, kind):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(50, (2, 7), generator=generator)
    size = 32 if kind in ("swin", "convnext") else 16
    images = torch.randn(2, 3, size, size, generator=generator)
    if kind == "bert":
        return model(tokens).last_hidden_state
    if kind == "clip":
        found = model(input_ids=tokens, pixel_values=images)
        return torch.cat([found.text_embeds, found.image_embeds])
    return model(images)


def adapted(name, kind, **options):
    model = tiny(kind)
    make_method(name, **options).adapt(model, HEADS[kind])
    return model.eval()


def without_head(model, head):
    return {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and not (head and name.startswith(f"{head}."))
    }


def count(model, name, head="", **options):
    make_method(name, **options).adapt(model, head)
    return sum(p.numel() for p in without_head(model, head).values())


def on_meta(name):
    with torch.device("meta"):
        if name == "bert":
            from transformers import BertConfig, BertModel

            return BertModel(BertConfig())
        if name == "clip":
            return clip(
                (768, 12, 12, 3072), (512, 12, 8, 2048), 49408, image_size=224, patch_size=32
            )
        return timm.create_model(name, num_classes=0)


VIT, SWIN = "vit_base_patch16_224", "swin_base_patch4_window7_224"


@pytest.mark.parametrize(
    ("method", "backbone", "options", "expected"),
    [
        ("bitfit", VIT, {}, 102_912),
        ("ssf", VIT, {}, 205_824),
        ("adaptformer", VIT, {}, 156_768),
        ("adaptformer", VIT, {"bias": False}, 147_456),
        ("adapter", VIT, {}, 313_536),
        ("adapter", VIT, {"per_block": 1}, 156_768),
        ("partial", VIT, {}, 7_087_872 + 1_536),
        ("partial", VIT, {"blocks": 0}, 0),
        ("bitfit", SWIN, {}, 137_216),
        ("bitfit", SWIN, {"position_bias": True}, 200_760),
        ("adapter", "bert", {"reduction": 16}, 1_789_056),
        ("bitfit", "bert", {}, 102_912),
        ("ssf", "bert", {}, 204_288),
        ("adapter", "clip", {"reduction": 8}, 5_146_368),
        ("bitfit", "clip", {"norms": False}, 138_240),
        ("bitfit", "clip", {}, 171_008),
        ("ssf", "clip", {}, 343_552),
        ("partial", "clip", {"blocks": 0}, 655_360),
    ],
)
def test_the_number_of_trained_parameters_is_the_published_one(method, backbone, options, expected):
    if backbone in ("bert", "clip") and not HAS_TRANSFORMERS:
        pytest.skip("needs transformers: the extra `peft`")
    assert count(on_meta(backbone), method, **options) == expected


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_the_start_is_unchanged_where_the_method_says_so(name, kind):
    expected = outputs(tiny(kind), kind)
    found = outputs(adapted(name, kind), kind)
    assert torch.equal(found, expected) == METHODS[name].starts_unchanged
    assert found.shape == expected.shape


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_what_is_trained_gets_a_gradient_and_nothing_else_does(name, kind):
    model = adapted(name, kind).train()
    for parameter_name, parameter in model.named_parameters():
        if ".up." in parameter_name:
            nn.init.normal_(parameter, std=0.1)
    outputs(model, kind).square().sum().backward()
    # BERT's pooler has no part in these outputs.
    for parameter_name, parameter in model.named_parameters():
        if "pooler" in parameter_name:
            continue
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name


def test_nothing_before_the_last_block_has_a_graph_in_partial_fine_tuning():
    model = adapted("partial", "vit")
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _i, output: seen.append(output.requires_grad))
    outputs(model, "vit")
    assert seen == [False, False, True]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_copies_compute_the_same(name, kind):
    model = adapted(name, kind)
    for parameter in without_head(model, HEADS[kind]).values():
        nn.init.normal_(parameter, std=0.1)
    expected = outputs(model, kind)
    assert torch.equal(outputs(copy.deepcopy(model), kind), expected)
    assert torch.equal(outputs(pickle.loads(pickle.dumps(model)), kind), expected)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_it_runs_with_autocast(name, kind):
    model = adapted(name, kind)
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs(model, kind)
    found.float().sum().backward()
    expected = outputs(model, kind)
    assert torch.allclose(found.float(), expected.float(), atol=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_head_the_backbone_alone_is_adapted(name):
    model = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=0
    )
    make_method(name).adapt(model, "")
    assert model(torch.randn(2, 3, 16, 16)).requires_grad


def test_an_adapter_computes_what_its_equation_says():
    model = adapted("adapter", "vit", dim=3, activation="gelu")
    layer = model.blocks[0].mlp.fc2
    assert isinstance(layer, SequentialAdapter)
    assert isinstance(model.blocks[0].attn.proj, SequentialAdapter)
    for parameter in layer.bottleneck.parameters():
        nn.init.normal_(parameter)
    x, inner = torch.randn(2, 5, 96), layer.bottleneck
    y = x @ layer.base.weight.T + layer.base.bias
    z = nn.functional.gelu(y @ inner.down.weight.T + inner.down.bias)
    torch.testing.assert_close(layer(x), y + z @ inner.up.weight.T + inner.up.bias)


def test_adaptformer_computes_what_its_equation_says():
    model = adapted("adaptformer", "vit", dim=3, scale=0.7)
    layer = model.blocks[0].mlp
    assert isinstance(layer, ParallelAdapter)
    for parameter in layer.bottleneck.parameters():
        nn.init.normal_(parameter)
    x, inner = torch.randn(2, 5, 24), layer.bottleneck
    z = torch.relu(x @ inner.down.weight.T + inner.down.bias)
    expected = layer.base(x) + 0.7 * (z @ inner.up.weight.T + inner.up.bias)
    torch.testing.assert_close(layer(x), expected)


def test_dropout_acts_in_training_alone():
    model = adapted("adaptformer", "vit", dropout=0.5)
    layer = model.blocks[0].mlp
    for parameter in layer.bottleneck.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 24)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def test_a_reduction_follows_the_width_of_the_block():
    model = adapted("adapter", "swin", reduction=8, per_block=1)
    widths = [
        module.bottleneck.down.out_features
        for module in model.modules()
        if isinstance(module, SequentialAdapter)
    ]
    assert widths == [2, 2, 4, 4]


def pairs_of(model):
    return {n for n, module in model.named_modules() if isinstance(module, ScaleShift)}


def test_ssf_has_its_pairs_where_its_code_has_them():
    found = pairs_of(adapted("ssf", "swin"))
    assert "layers.1.downsample.norm" in found
    assert "layers.1.downsample.reduction" not in found
    assert {"patch_embed.proj", "patch_embed.norm", "norm"} <= found
    found = pairs_of(adapted("ssf", "convnext"))
    block = {f"stages.2.blocks.1.{n}" for n in ("conv_dw", "norm", "mlp.fc1", "mlp.fc2")}
    between = {"stages.1.downsample.0", "stages.1.downsample.1"}
    assert {"stem.0", "stem.1", "head.norm"} | block | between <= found


def test_a_pair_scales_and_shifts_each_channel():
    model = adapted("ssf", "convnext")
    for x, path in (
        (torch.randn(2, 8, 4, 4), "stem.1"),
        (torch.randn(2, 4, 8), "stages.0.blocks.0.norm"),
    ):
        layer = model.get_submodule(path)
        shape = (8, 1, 1) if x.dim() == 4 else (8,)
        expected = layer.base(x) * layer.gamma.view(shape) + layer.beta.view(shape)
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("kind", HEADS)
def test_ssf_folds_into_the_frozen_layers(kind):
    plain = dict(tiny(kind).named_modules())
    model = adapted("ssf", kind)
    expected = outputs(model, kind)
    merge(model)
    torch.testing.assert_close(outputs(model, kind), expected, rtol=1e-4, atol=1e-5)
    assert dict(model.named_modules()).keys() == plain.keys()


def test_ssf_does_not_fold_into_a_norm_without_bias():
    with pytest.raises(ValueError, match="no bias"):
        ScaleShift(nn.RMSNorm(4), 0.1).merged()


def test_ssf_without_spread_starts_unchanged():
    assert torch.equal(
        outputs(adapted("ssf", "vit", init_std=0.0), "vit"), outputs(tiny("vit"), "vit")
    )


def test_bitfit_frees_biases_by_their_last_name():
    model = nn.ModuleDict(
        {"attention": nn.MultiheadAttention(8, 2), "norm": nn.LayerNorm(8), "bias": nn.Linear(8, 8)}
    )
    make_method("bitfit", norms=False).adapt(model, "")
    assert set(without_head(model, "")) == {
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "bias.bias",
    }
    with pytest.raises(ValueError, match="no bias"):
        make_method("bitfit").adapt(nn.Linear(3, 3, bias=False), "")


@pytest.mark.parametrize("kind", HEADS)
def test_partial_trains_the_last_block_of_each_tower_and_the_last_norm(kind):
    names = set(without_head(adapted("partial", kind), HEADS[kind]))
    starts = {
        "vit": ("blocks.2.", "norm."),
        "swin": ("layers.1.blocks.1.", "norm."),
        "convnext": ("stages.3.blocks.0.", "head.norm."),
        "bert": ("encoder.layer.1.",),
        "clip": (
            "vision_model.encoder.layers.1.", "vision_model.post_layernorm.",
            "text_model.encoder.layers.1.", "text_model.final_layer_norm.",
            "visual_projection.", "text_projection.",
        ),
    }  # fmt: skip
    assert {n for n in names if not n.startswith(starts[kind])} == set()
    assert all(any(n.startswith(start) for n in names) for start in starts[kind])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adapter", {"dim": 0}, "positive number of dimensions"),
        ("adapter", {"reduction": 0}, "at least 1"),
        ("adapter", {"per_block": 3}, "1 or 2 adapters"),
        ("adapter", {"activation": "tanh"}, "known: relu"),
        ("adaptformer", {"dropout": 1.0}, "dropout"),
        ("ssf", {"init_std": -1.0}, "standard deviation"),
        ("partial", {"blocks": -1}, "0 or more"),
    ],
)
def test_options_without_sense_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_method(name, **options)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="needs an MLP that is one module"):
        make_method("adaptformer").adapt(tiny("bert"), "")
    with pytest.raises(ValueError, match="7 blocks"):
        make_method("partial", blocks=7).adapt(tiny("vit"), "head")
