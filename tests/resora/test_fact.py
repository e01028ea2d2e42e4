"""FacT: counts of its parameters, its formula, and that its shared factors are stored once."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from data_prep.torchvision_guard import ensure_torchvision
from resora import ReSoRA, merge
from resora.adapted import adapter_state, load_adapter_state
from resora.discovery import low_rank_layers
from resora.petl import make_method

ensure_torchvision()

import timm  # noqa: E402
from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
)

HEADS = {"vit": "head", "swin": "head.fc", "convnext": "head.fc", "bert": "", "clip": ""}
NAMES = ("fact-tk", "fact-tt")


def tiny(kind):
    torch.manual_seed(0)
    if kind == "vit":
        return VisionTransformer(
            img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=5
        )
    if kind == "swin":
        return SwinTransformer(
            img_size=32,
            patch_size=2,
            window_size=4,
            embed_dim=16,
            depths=(2, 2),
            num_heads=(2, 4),
            num_classes=5,
        )
    if kind == "convnext":
        return ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), patch_size=2, num_classes=5)
    small = {"num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "bert":
        return BertModel(BertConfig(hidden_size=24, intermediate_size=96, vocab_size=50, **small))
    # Pooled at the end of the text: at its start, which sees itself alone, q and k would be idle.
    text = {
        "hidden_size": 16,
        "intermediate_size": 64,
        "vocab_size": 50,
        "eos_token_id": 49,
        **small,
    }
    vision = {"hidden_size": 24, "intermediate_size": 96, "image_size": 16, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config={**vision, **small}))


def outputs(model, kind):
    torch.manual_seed(1)
    tokens = torch.randint(3, 49, (2, 7))
    tokens[:, -1] = 49
    if kind == "bert":
        return model(tokens).last_hidden_state
    if kind == "clip":
        found = model(input_ids=tokens, pixel_values=torch.randn(2, 3, 16, 16))
        return torch.cat([found.text_embeds, found.image_embeds], dim=-1)
    return model(torch.randn(2, 3, 16 if kind == "vit" else 32, 16 if kind == "vit" else 32))


def adapted(kind, name, is_moved=True, **options):
    """A tiny model with FacT; with ``is_moved``, its V no longer zero."""
    model = tiny(kind).eval()
    make_method(name, **options).adapt(model, HEADS[kind])
    if is_moved:
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("outer.v"):
                nn.init.normal_(parameter, std=0.1)
    return model


def trained(model, head=""):
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not (head and name.startswith(head))
    )


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("fact-tk-r32", 86_528),
        ("fact-tk-r16", 30_976),
        ("fact-tt-r16", 61_440),
        ("fact-tt-r8", 21_504),
        ("fact-tt-r4", 8_448),
    ],
)
def test_parameters_on_vit_b(name, number):
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=10)
        make_method(name).adapt(model, "head")
    assert trained(model, "head.") == number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("fact-tk-r32", 2 * 1920 * 32 + 32**3 + 288 * 32),
        ("fact-tk-r16", 2 * 1920 * 16 + 16**3 + 288 * 16),
        ("fact-tt-r16", 135_168),
    ],
)
def test_parameters_on_swin_b(name, number):
    with torch.device("meta"):
        model = timm.create_model("swin_base_patch4_window7_224", num_classes=10)
        make_method(name).adapt(model, "head.fc")
    assert trained(model, "head.") == number


def test_parameters_on_bert_and_clip():
    # BERT-base and CLIP's ViT-B/32 with its text tower of width 512.
    with torch.device("meta"):
        bert, bert_tt = BertModel(BertConfig()), BertModel(BertConfig())
        clip, clip_tt = CLIPModel(CLIPConfig()), CLIPModel(CLIPConfig())
        make_method("fact-tk-r32").adapt(bert, "")
        make_method("fact-tt-r16").adapt(bert_tt, "")
        make_method("fact-tk-r32").adapt(clip, "")
        make_method("fact-tt-r16").adapt(clip_tt, "")
    assert trained(bert) == 86_528
    assert trained(bert_tt) == 61_440
    assert trained(clip) == 156_672
    assert trained(clip_tt) == 770_048 - 655_360


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_starts_unchanged_and_trains_every_parameter(kind, name):
    expected = outputs(tiny(kind).eval(), kind)
    model = adapted(kind, f"{name}-r3", is_moved=False)
    assert torch.equal(outputs(model, kind), expected)
    model = adapted(kind, f"{name}-r3")
    outputs(model, kind).square().sum().backward()
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
def test_merged_model_has_the_outputs_and_the_tree_of_a_plain_one(kind, name):
    model = adapted(kind, f"{name}-r3", scale=2.0)
    expected = outputs(model, kind)
    plain = tiny(kind)
    found = merge(model)
    assert found.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(outputs(plain.eval(), kind), expected)
    torch.testing.assert_close(outputs(found, kind), expected, rtol=1e-4, atol=1e-5)


def test_update_is_that_of_the_definition():
    model = adapted("vit", "fact-tk-r3", scale=0.5)
    plain = tiny("vit")
    first = model.blocks[0].attn.qkv
    u, v = first.outer.u.T, first.outer.v
    inner = torch.einsum("ijk,km->mij", first.core.core, first.core.mixing)
    assert len(inner) == 3 * 12
    updates = 0.5 * (u @ inner @ v)  # (M, d, d), for row vectors
    for i, block in enumerate(merge(model).blocks):
        old, mine = plain.blocks[i], updates[12 * i : 12 * (i + 1)]
        changes = [
            block.attn.qkv.weight - old.attn.qkv.weight,
            block.attn.proj.weight - old.attn.proj.weight,
            block.mlp.fc1.weight - old.mlp.fc1.weight,
        ]
        torch.testing.assert_close(torch.cat(changes), mine[:8].mT.flatten(0, 1))
        change = block.mlp.fc2.weight - old.mlp.fc2.weight
        torch.testing.assert_close(change.T, mine[8:].flatten(0, 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["vit", "swin", "clip"])
def test_shared_factors_are_stored_once_in_copies_too(kind, name):
    model = adapted(kind, f"{name}-r3")
    towers = {"vit": 1, "swin": 2, "clip": 2}[kind]
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        state = adapter_state(one)
        assert sum(n.endswith("outer.u") for n in state) == towers
        assert sum(n.endswith("outer.v") for n in one.state_dict()) == towers
        assert sum(n.endswith("core.core") for n in one.state_dict()) == (
            0 if name == "fact-tt" else {"vit": 1, "swin": 1, "clip": 2}[kind]
        )
        own = {id(p) for p in one.parameters()}
        for layer in low_rank_layers(one).values():
            assert id(layer.outer.u) in own
            assert id(layer.outer.v) in own
        torch.testing.assert_close(outputs(one, kind), outputs(model, kind))


@pytest.mark.parametrize("name", NAMES)
def test_trained_part_carries_over(name):
    model, fresh = adapted("swin", f"{name}-r3"), adapted("swin", f"{name}-r3", is_moved=False)
    assert not torch.equal(outputs(fresh, "swin"), outputs(model, "swin"))
    load_adapter_state(fresh, adapter_state(model))
    assert torch.equal(outputs(fresh, "swin"), outputs(model, "swin"))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_low_rank_terms_add_up_to_the_update(kind, name):
    model = adapted(kind, f"{name}-r3", scale=0.5)
    seen, handles = {}, []
    for path, layer in low_rank_layers(model).items():
        keep = lambda z, path=path: seen.__setitem__(path, z)  # noqa: E731
        into = lambda m, args, out, path=path: seen.__setitem__(  # noqa: E731
            f"{path} io", (args[0], out - m.base(args[0]))
        )
        handles += [layer.tap(keep), layer.register_forward_hook(into)]
    outputs(model, kind)
    for path, layer in low_rank_layers(model).items():
        factors, (x, change) = layer.factors(), seen[f"{path} io"]
        z = seen[path]
        update = torch.einsum("m...r,mrd->...md", z, factors.b).flatten(-2) * factors.scale
        torch.testing.assert_close(update, change, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            z, torch.einsum("...i,mri->m...r", x, factors.a), rtol=1e-4, atol=1e-5
        )


def test_penalty_names_the_matrices_and_trains_the_inner_factors():
    model = adapted("vit", "fact-tk-r3").train()
    regularizer = ReSoRA(model, weight=1.0)
    outputs(model, "vit")
    regularizer().backward()
    names = list(regularizer.redundancy())
    assert names[:4] == [f"blocks.0.attn.qkv.{part}" for part in "qkv"] + ["blocks.0.attn.proj"]
    assert names[4:9] == [f"blocks.0.mlp.fc1.{chunk}" for chunk in range(4)] + ["blocks.0.mlp.fc2"]
    layer = model.blocks[0].attn.qkv
    assert layer.core.core.grad.any()
    assert layer.outer.u.grad.any()


def test_dropout_acts_in_training_alone():
    model = adapted("vit", "fact-tt-r3", dropout=0.5)
    expected = outputs(adapted("vit", "fact-tt-r3"), "vit")
    assert torch.equal(outputs(model, "vit"), expected)
    model.train()
    assert not torch.equal(outputs(model, "vit"), expected)


def test_runs_under_autocast_and_compiled(fresh_compiler):
    model = adapted("vit", "fact-tk-r3")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs(model, "vit").float().sum().backward()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(outputs(compiled, "vit"), outputs(model, "vit"))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rank": 0}, "positive integer"), ({"dropout": 1.0}, "below 1")],
)
@pytest.mark.parametrize("name", NAMES)
def test_wrong_options_are_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        make_method(name, **options)


def test_refuses_layers_that_are_no_square_matrices():
    model = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=1, num_heads=2, mlp_ratio=1.5, num_classes=5
    )
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.fc1.*24 x 24"):
        make_method("fact-tk").adapt(model, "head")
