"""Prompts and prefixes: the concatenation that they stand for, masks, counts, and what they refuse."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from data_prep.torchvision_guard import ensure_torchvision
from resora import ReSoRA
from resora.adapted import adapter_state, load_adapter_state
from resora.discovery import NoLowRankLayer
from resora.petl import make_method

ensure_torchvision()

from timm.models import ConvNeXt, SwinTransformer, VisionTransformer  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

P = 3


def vit(**options):
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    return VisionTransformer(num_classes=5, **sizes, **options)


def swin():
    return SwinTransformer(
        img_size=32,
        patch_size=2,
        window_size=4,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=5,
    )


def bert(attention="sdpa"):
    config = BertConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        vocab_size=50,
        attn_implementation=attention,
    )
    return BertModel(config)


def clip(attention="sdpa"):
    text = CLIPTextConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        eos_token_id=49,
        bos_token_id=48,
    )
    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    return CLIPModel(
        CLIPConfig(
            text_config=text.to_dict(),
            vision_config=vision.to_dict(),
            projection_dim=8,
            attn_implementation=attention,
        )
    )


TOKENS = torch.tensor([[48, 5, 6, 7, 49, 1, 1], [48, 8, 9, 10, 11, 12, 49]])
PADDING = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
HEADS = {vit: "head", swin: "head.fc", bert: "", clip: ""}


def run(build, model):
    """One output of each kind of network, on a fixed input."""
    generator = torch.Generator().manual_seed(1)
    if build is bert:
        return model(TOKENS, PADDING).last_hidden_state
    size = 32 if build is swin else 16
    images = torch.randn(2, 3, size, size, generator=generator)
    if build is clip:
        out = model(TOKENS, images, PADDING)
        return torch.cat((out.text_embeds, out.image_embeds))
    return model(images)


def adapted(build, name, *, spread=0.5, **options):
    """A model in evaluation mode whose prompts are large enough to matter, and the plain one."""
    torch.manual_seed(0)
    plain = build if isinstance(build, nn.Module) else build()
    model = copy.deepcopy(plain)
    make_method(name, **options).adapt(model, HEADS.get(build, "head"))
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if part.endswith(".tokens"):
                parameter.normal_(std=spread)
    return model.eval(), plain.eval()


def prompts_of(model):
    return [value for name, value in model.named_parameters() if name.endswith(".tokens")]


METHODS = [
    ("vpt-shallow", {"tokens": P}),
    ("vpt-deep", {"tokens": P}),
    ("prefix", {"length": P, "bottleneck": 6}),
    ("prefix", {"length": P, "bottleneck": 0}),
]
FITTING = [
    pytest.param(build, name, options, id=f"{build.__name__}-{name}-{len(options)}-{i}")
    for build in (vit, swin, bert, clip)
    for i, (name, options) in enumerate(METHODS)
    if not (build is swin and name == "vpt-shallow")
]


@pytest.mark.parametrize("is_deep", [True, False])
def test_vit_is_the_concatenation_after_the_class_token(is_deep):
    model, plain = adapted(vit, "vpt-deep" if is_deep else "vpt-shallow", tokens=P)
    images = torch.randn(2, 3, 16, 16)
    x = plain.norm_pre(plain._pos_embed(plain.patch_embed(images)))
    prompts = prompts_of(model)
    assert len(prompts) == (3 if is_deep else 1)
    x = torch.cat((x[:, :1], prompts[0].expand(2, -1, -1), x[:, 1:]), 1)
    for i, block in enumerate(plain.blocks):
        if is_deep and i:
            x = torch.cat((x[:, :1], prompts[i].expand(2, -1, -1), x[:, 1 + P :]), 1)
        x = block(x)
    x = plain.norm(torch.cat((x[:, :1], x[:, 1 + P :]), 1))
    torch.testing.assert_close(model.forward_features(images), x)
    torch.testing.assert_close(model(images), plain.forward_head(x))
    assert (model(images) - plain(images)).abs().max() > 1e-3


def test_swin_prompts_join_every_window():
    model, plain = adapted(swin, "vpt-deep", tokens=P)
    images = torch.randn(2, 3, 32, 32)
    out = model(images)
    blocks = [block for stage in plain.layers for block in stage.blocks]
    for block, prompts in zip(blocks, prompts_of(model), strict=True):
        literal_windows(block, prompts)
    torch.testing.assert_close(out, plain(images))
    assert any(block.attn_mask is not None for block in blocks)


def literal_windows(block, prompt):
    """Make a plain block's attention that of prompts before the tokens of each window."""
    attention = block.attn

    def forward(x, mask=None):
        windows, size, _ = x.shape
        x = torch.cat((block.norm1(prompt).expand(windows, -1, -1), x), 1)
        qkv = attention.qkv(x).reshape(windows, size + P, 3, attention.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * attention.scale
        scores = scores + functional.pad(attention._get_rel_pos_bias(), (P, 0, P, 0))
        if mask is not None:
            grouped = scores.unflatten(0, (-1, len(mask)))
            scores = (grouped + functional.pad(mask, (P, 0, P, 0))[:, None]).flatten(0, 1)
        out = scores.softmax(-1) @ v
        return attention.proj(out.transpose(1, 2).flatten(2))[:, P:]

    attention.forward = forward


def literal_text(tower, embedded, prompts, mask):
    """CLIP's text blocks with prompts in the sequence, mask (B, p + T, p + T) true where visible."""
    x = embedded
    for i, layer in enumerate(tower.encoder.layers):
        if i < len(prompts):
            x = torch.cat((prompts[i].expand(len(embedded), -1, -1), x), 1)
        bias = torch.zeros(mask.shape).masked_fill(~mask, -1e9)[:, None]
        layer.self_attn.config._attn_implementation = "eager"
        x = layer(x, bias)
        if len(prompts) > 1 or i + 1 == len(tower.encoder.layers):
            x = x[:, P:]
    return tower.final_layer_norm(x)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["vpt-deep", "vpt-shallow"])
@pytest.mark.parametrize("padding", [None, PADDING], ids=["whole", "padded"])
def test_clip_text_sees_all_prompts_and_keeps_its_order(name, attention, padding):
    torch.manual_seed(0)
    model, plain = adapted(clip(attention), name, tokens=P)
    prompts = [p for p in prompts_of(model) if p.shape[1] == 16]
    length = TOKENS.shape[1] + P
    mask = torch.ones(2, length, length, dtype=torch.bool).tril()
    if padding is not None:
        mask = mask & functional.pad(padding, (P, 0), value=1).bool()[:, None]
    tower = plain.text_model
    expected = literal_text(tower, tower.embeddings(TOKENS), prompts, mask)
    out = model.text_model(TOKENS, padding)
    torch.testing.assert_close(out.last_hidden_state, expected)
    torch.testing.assert_close(out.pooler_output, expected[[0, 1], [4, 6]])


@pytest.mark.parametrize("build", [bert, clip])
@pytest.mark.parametrize(("name", "options"), METHODS)
def test_eager_and_sdpa_agree(build, name, options):
    outputs = []
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        model = build(attention)
        make_method(name, **options).adapt(model, "")
        outputs.append(run(build, model.eval()))
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_padding_of_bert_changes_nothing(name, options):
    model, _ = adapted(bert, name, **options)
    long = model(TOKENS, PADDING).last_hidden_state
    short = model(TOKENS[:1, :5]).last_hidden_state
    torch.testing.assert_close(long[:1, :5], short)


@pytest.mark.parametrize(("build", "name", "options"), FITTING)
def test_training_reaches_every_parameter_and_nothing_frozen(build, name, options):
    torch.manual_seed(0)
    model = build()
    make_method(name, **options).adapt(model, HEADS[build])
    model.train()
    run(build, model).square().sum().backward()
    for part, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, part
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("build", "name", "options"), FITTING)
def test_copies_files_and_states(build, name, options):
    model, _ = adapted(build, name, **options)
    expected = run(build, model)
    assert torch.equal(run(build, copy.deepcopy(model)), expected)
    assert torch.equal(run(build, pickle.loads(pickle.dumps(model))), expected)
    torch.manual_seed(0)
    other = build()
    torch.manual_seed(5)
    make_method(name, **options).adapt(other, HEADS[build])
    other.eval()
    assert not torch.equal(run(build, other), expected)
    load_adapter_state(other, adapter_state(model))
    assert torch.equal(run(build, other), expected)


@pytest.mark.parametrize(("build", "name", "options"), FITTING)
def test_in_bfloat16(build, name, options):
    model, _ = adapted(build, name, spread=0.05, **options)
    with torch.autocast("cpu", torch.bfloat16):
        low = run(build, model)
    torch.testing.assert_close(low.float(), run(build, model), atol=0.15, rtol=0.1)


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def on_meta(name, build, head, **options):
    with torch.device("meta"):
        model = build()
    make_method(name, **options).adapt(model, head)
    if head:
        model.get_submodule(head).requires_grad_(False)
    return trained(model)


def vit_base():
    return VisionTransformer(num_classes=100)


def swin_base():
    return SwinTransformer(
        embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), num_classes=100
    )


def test_counts_are_those_of_the_papers():
    assert on_meta("vpt-deep", vit_base, "head", tokens=10) == 92_160
    assert on_meta("vpt-deep", vit_base, "head") == 460_800
    assert on_meta("vpt-shallow", vit_base, "head", tokens=100) == 76_800
    assert on_meta("vpt-deep", swin_base, "head.fc", tokens=1) == 12_032
    assert on_meta("vpt-deep", lambda: CLIPModel(CLIPConfig()), "", tokens=10) == 153_600
    assert on_meta("prefix", lambda: BertModel(BertConfig()), "") == 9_872_384
    assert on_meta("prefix", lambda: BertModel(BertConfig()), "", bottleneck=0) == 552_960


def test_prompts_start_in_the_bound_of_the_patch_embedding():
    bound = (6 / (3 * 8 * 8 + 24)) ** 0.5
    model = vit()
    make_method("vpt-deep").adapt(model, "head")
    for prompts in prompts_of(model):
        assert prompts.shape == (50, 24)
        assert 0.95 * bound < prompts.abs().max() <= bound


def test_dropout_differs_from_input_to_input():
    torch.manual_seed(0)
    model = vit()
    make_method("vpt-deep", tokens=P, dropout=0.5).adapt(model, "head")
    images = torch.randn(1, 3, 16, 16).expand(2, -1, -1, -1)
    one, two = model(images)
    assert not torch.allclose(one, two)
    one, two = model.eval()(images)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("name", ["vpt-deep", "vpt-shallow", "prefix"])
def test_intermediates_pooling_and_masks_of_timm(name):
    torch.manual_seed(0)
    model, _ = adapted(vit(global_pool="avg", qk_norm=True), name)
    images = torch.randn(2, 3, 16, 16)
    assert model(images).shape == (2, 5)
    assert model.forward_features(images).shape == (2, 5, 24)
    mask = torch.ones(5, 5, dtype=torch.bool)
    torch.testing.assert_close(
        model.forward_features(images, attn_mask=mask[None, None]), model.forward_features(images)
    )


@pytest.mark.parametrize(("name", "options"), METHODS[:3])
def test_compiled(name, options, fresh_compiler):
    model, _ = adapted(vit, name, **options)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.parametrize("name", ["vpt-deep", "vpt-shallow", "prefix"])
def test_convnext_is_refused_in_one_line(name):
    model = ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), patch_size=2, num_classes=5)
    needs = "attention with keys and values" if name == "prefix" else "attend to each other"
    with pytest.raises(ValueError, match=f"^{name}: it needs .*{needs}.*convnext") as caught:
        make_method(name).adapt(model, "head.fc")
    assert "\n" not in str(caught.value)
    assert not any(type(module).__module__.startswith("resora") for module in model.modules())
    with pytest.raises(ValueError, match="vpt-shallow: it needs one sequence of tokens"):
        make_method("vpt-shallow").adapt(swin(), "head.fc")


def test_attention_of_an_unknown_signature_is_refused():
    class Rotary(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.qkv, self.proj, self.num_heads = base.qkv, base.proj, base.num_heads

        def forward(self, x, rope):
            return x + rope

    model = vit()
    for block in model.blocks:
        block.attn = Rotary(block.attn)
    with pytest.raises(ValueError, match="do not know Rotary, whose forward takes rope"):
        make_method("vpt-deep").adapt(model, "head")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vpt-deep", {"tokens": 0}, "vpt-deep has one token or more; got 0"),
        ("vpt-shallow", {"dropout": 1.0}, "dropout of vpt-shallow lies in"),
        ("prefix", {"length": 0}, "prefix has one token or more"),
        ("prefix", {"bottleneck": -1}, "bottleneck of prefix"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_method(name, **options)


@pytest.mark.parametrize("name", ["vpt-deep", "vpt-shallow", "prefix"])
def test_the_regulariser_finds_nothing_to_regularise(name):
    model, _ = adapted(vit, name)
    with pytest.raises(NoLowRankLayer):
        ReSoRA(model, weight=1.0)
