"""LST and UniPT: their sizes, what they compute, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resora.adapted import adapter_state
from resora.petl import make_method
from resora.petl.layers.ladder import Gates, SideBlock
from resora.petl.layers.state_fusion import attended, mean_of
from resora.petl.lst import heads_for
from tests.resora.side_models import (
    BUILD,
    KINDS,
    MASK,
    METHODS,
    TEXT,
    adapted,
    bert,
    clip,
    images,
    outputs,
    swin,
    transformers,
    vit,
    vit_b16,
)


def trained(model, but="head."):
    return sum(
        p.numel() for n, p in model.named_parameters() if p.requires_grad and not n.startswith(but)
    )


def clip_b32():
    with torch.device("meta"):
        return transformers.CLIPModel(transformers.CLIPConfig())


# -- sizes ----------------------------------------------------------------------------------------


def test_lst_has_the_parameters_of_the_comparison_tables():
    model = vit_b16()
    make_method("lst").adapt(model, "head")
    h = 96
    projections = 13 * (768 * h + h) + 768 * h + 768
    assert trained(model) == 12 * (12 * h**2 + 9 * h + 4 * h) + projections + 12 == 2_376_288 + 12


def test_unipt_on_a_vit_is_about_as_large_as_lst():
    model = vit_b16()
    make_method("unipt").adapt(model, "head")
    m = 192
    assert trained(model) == 14 * (768 * m + m) + m + 1 + 768 * m + 768 == 2_215_489


@pytest.mark.parametrize(("method", "count"), [("lst", 7_457_485), ("unipt", 5_921_281)])
def test_sizes_on_bert(method, count):
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig())
    make_method(method, out_features=1024).adapt(model, "")
    assert trained(model) == count


def test_sizes_on_clip():
    model = clip_b32()
    make_method("unipt").adapt(model, "")
    assert trained(model.vision_model) == 5_644_289
    assert trained(model.text_model) == 3_940_353
    assert trained(model) == 9_584_642
    model = clip_b32()
    make_method("lst").adapt(model, "")
    assert trained(model) == 9_058_332


def test_side_heads_divide_the_side_width():
    assert heads_for(96, 12) == 12
    assert heads_for(192, 12) == 12
    assert heads_for(20, 5) == 5
    assert heads_for(20, 3) == 2
    assert heads_for(7, 4) == 1


# -- what they compute ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_trained_gets_a_gradient_and_nothing_else(method, kind):
    model = adapted(method, kind).train()
    outputs(model, kind).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert f"{method}." in name or name.startswith("head.")
            # Biases before a softmax or a normalisation may have a gradient that is zero.
            assert parameter.grad is not None, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("kind", ["vit", "bert"])
def test_lst_is_the_recurrence_that_it_says(kind):
    model = adapted("lst", kind)
    network = model.lst
    nn.init.normal_(network.gates.alpha, std=0.2)
    nn.init.normal_(network.up.weight)
    plain = BUILD[kind]().eval()
    if kind == "vit":
        states = [plain.norm_pre(plain._pos_embed(plain.patch_embed(images())))]
        for block in plain.blocks:
            states.append(block(states[-1]))
    else:
        states = plain(TEXT, attention_mask=MASK, output_hidden_states=True).hidden_states
    mu = torch.sigmoid(network.gates.alpha / 0.1)
    valid = None if kind == "vit" else MASK.bool()
    side = network.down[0](states[0])
    if kind == "bert":
        side, mu = (1 - mu[0]) * side, mu[1:]
    for i, block in enumerate(network.blocks):
        side = block(mu[i] * side + (1 - mu[i]) * network.down[i + 1](states[i + 1]), valid)
    last = network.norm(network.up(side))
    wanted = plain.head(plain.norm(last)[:, 0]) if kind == "vit" else last
    if kind == "vit":
        model.head.load_state_dict(plain.head.state_dict())
    torch.testing.assert_close(outputs(model, kind), wanted.flatten())


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_side_block_is_the_transformer_layer_of_torch(norm_first):
    torch.manual_seed(0)
    ours = SideBlock(12, 3, 24, norm_first=norm_first, dropout=0.0).double().eval()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 24, 0.0, "gelu", 1e-6, batch_first=True, norm_first=norm_first
    )
    theirs = theirs.double().train()
    pairs = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "proj.",
        "linear1.": "fc1.",
        "linear2.": "fc2.",
    }
    for name, tensor in theirs.state_dict().items():
        for theirs_name, own in pairs.items():
            name = name.replace(theirs_name, own)
        nn.init.normal_(tensor, std=0.3)
        ours.get_parameter(name).data.copy_(tensor)
    x, mask = torch.randn(2, 8, 12).double(), MASK.bool()
    torch.testing.assert_close(ours(x, mask), theirs(x, src_key_padding_mask=~mask))


def test_a_gate_mixes():
    gates = Gates(2, temperature=0.1)
    side, rung = torch.ones(3), torch.zeros(3)
    torch.testing.assert_close(gates(0, side, rung), torch.full((3,), 0.5))
    nn.init.constant_(gates.alpha, 0.1)
    torch.testing.assert_close(gates(1, side, rung), torch.sigmoid(torch.tensor(1.0)).expand(3))


def test_unipt_on_bert_is_the_formula():
    model = adapted("unipt", "bert", out_features=32)
    network = model.unipt
    states = bert().eval()(TEXT, attention_mask=MASK, output_hidden_states=True).hidden_states
    t = [n(d(x)) for n, d, x in zip(network.norms, network.down, states, strict=True)]
    kept = MASK[..., None].float()
    means = [(one * kept).sum(1) / kept.sum(1) for one in t]
    merged, confidence = [], []
    for one, mean in zip(t[:-1], means, strict=False):
        weights = torch.relu(t[-1] @ one.mT) * MASK[:, None]
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-8) + torch.eye(8)
        merged.append(weights @ one)
        confidence.append(network.confidence(means[-1] * mean))
    share = torch.cat(confidence, 1).softmax(1)
    fused = sum(share[:, k, None, None] * one for k, one in enumerate(merged))
    wanted = network.up(torch.relu(t[-1] + network.norm(network.proj(fused))))
    assert wanted.shape == (2, 8, 32)
    torch.testing.assert_close(outputs(model, "bert"), wanted.flatten())


@pytest.mark.parametrize("method", METHODS)
def test_clip_gets_what_the_formulas_say(method):
    model = adapted(method, "clip")
    plain = clip().eval()
    ours = model(input_ids=TEXT, pixel_values=images())
    for name, position, valid in (
        ("vision", torch.zeros(2, dtype=torch.long), torch.ones(2, 5)),
        ("text", torch.tensor([5, 2]), MASK),
    ):
        arguments = {"pixel_values": images()} if name == "vision" else {"input_ids": TEXT}
        tower = getattr(plain, f"{name}_model")
        with torch.no_grad():
            found = tower(**arguments, output_hidden_states=True)
        project = plain.visual_projection if name == "vision" else plain.text_projection
        embedding = project(found.pooler_output)
        network = getattr(getattr(model, f"{name}_model"), method)
        if method == "unipt":
            wanted = fused(network, found.hidden_states, embedding, position, valid)
        else:
            wanted = laddered(network, found.hidden_states, embedding, position)
        embeds = ours.image_embeds if name == "vision" else ours.text_embeds
        torch.testing.assert_close(embeds, wanted / wanted.norm(dim=-1, keepdim=True))


def fused(network, states, embedding, position, valid):
    anchor = network.anchor(embedding.relu())
    merged, confidence = [], []
    for down, state in zip(network.down, states, strict=True):
        t = down(state.relu())
        weights = torch.relu(torch.einsum("bm,btm->bt", anchor, t)) * valid
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
        merged.append(torch.einsum("bt,btm->bm", weights, t) + t[torch.arange(2), position])
        mean = (t * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)
        confidence.append(network.confidence(anchor * mean))
    share = torch.cat(confidence, 1).softmax(1)
    total = sum(share[:, k, None] * one for k, one in enumerate(merged))
    return embedding + network.up(total.relu())


def laddered(network, states, embedding, position):
    mu = torch.sigmoid(network.gates.alpha / 0.1)
    side = 0
    for i, (down, state) in enumerate(zip(network.down, states, strict=True)):
        side = mu[i] * side + (1 - mu[i]) * down(state[torch.arange(2), position])
    return network.up((mu[-1] * side + (1 - mu[-1]) * embedding).relu())


def test_unipt_on_a_vit_adds_to_the_feature_that_the_head_reads():
    model, plain = adapted("unipt", "vit"), vit().eval()
    nn.init.zeros_(model.unipt.up.weight)
    nn.init.zeros_(model.unipt.up.bias)
    torch.testing.assert_close(model(images()), plain(images()))
    nn.init.ones_(model.unipt.up.bias)
    feature = plain.forward_head(plain.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(model(images()), plain.head(feature + 1))


@pytest.mark.parametrize("method", METHODS)
def test_a_vit_without_a_class_token_is_adapted_too(method):
    model = vit(class_token=False, global_pool="avg")
    make_method(method).adapt(model, "head")
    model(images()).sum().backward()
    assert getattr(model, method).down[0].weight.grad is not None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_of_bert_changes_nothing(method, attention):
    model = bert(attn_implementation=attention)
    make_method(method).adapt(model, "")
    model.eval()
    long = model(TEXT, attention_mask=MASK).last_hidden_state[1, :3]
    short = model(TEXT[1:, :3]).last_hidden_state[0]
    torch.testing.assert_close(long, short)
    positional = model(TEXT, MASK).last_hidden_state[1, :3]
    torch.testing.assert_close(positional, short)
    with pytest.raises(ValueError, match="attention mask of shape"):
        model(TEXT, attention_mask=MASK[:, None].expand(2, 8, 8))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("eos", [40, 2])
def test_padding_of_clip_changes_nothing(method, eos):
    model = clip(eos)
    make_method(method).adapt(model, "")
    model.eval()
    long = model.get_text_features(TEXT).pooler_output
    short = model.get_text_features(TEXT[1:, :3]).pooler_output
    torch.testing.assert_close(long[1:], short)


def test_bert_with_another_width_keeps_its_pooler():
    model = adapted("lst", "bert", out_features=32)
    out = model(TEXT, attention_mask=MASK)
    assert out.last_hidden_state.shape == (2, 8, 32)
    torch.testing.assert_close(
        out.pooler_output, bert().eval()(TEXT, attention_mask=MASK).pooler_output
    )
    states, *_ = model(TEXT, attention_mask=MASK, return_dict=False)
    torch.testing.assert_close(states, out.last_hidden_state)
    # With the backbone's own width, the pooler reads what the side network gives.
    model = adapted("lst", "bert")
    out = model(TEXT, attention_mask=MASK)
    torch.testing.assert_close(out.pooler_output, model.pooler(out.last_hidden_state))


@pytest.mark.parametrize("method", METHODS)
def test_a_bert_inside_of_a_classifier(method):
    plain = bert()
    model = transformers.BertForSequenceClassification(plain.config)
    make_method(method).adapt(model, "classifier")
    model(TEXT, attention_mask=MASK, labels=torch.tensor([0, 1])).loss.backward()
    frozen = {n for n, p in model.named_parameters() if p.grad is None}
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == frozen
    assert all(n.startswith((f"bert.{method}.", "classifier.")) for n in adapter_state(model))


def test_confidences_and_similarities():
    query, target = torch.randn(2, 3, 4), torch.randn(2, 8, 4)
    nothing = attended(torch.zeros(2, 3, 4), target, MASK.bool(), eps=1e-6)
    assert torch.equal(nothing, torch.zeros(2, 3, 4))
    target[0, 6:], target[1, 3:] = 1e4, -1e4
    short = attended(query[1:], target[1:, :3], None, eps=1e-6)
    torch.testing.assert_close(attended(query, target, MASK.bool(), eps=1e-6)[1:], short)
    torch.testing.assert_close(mean_of(target, MASK.bool())[1], target[1, :3].mean(0))


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_is_refused(method):
    with pytest.raises(ValueError, match="transformer blocks of one width"):
        make_method(method).adapt(swin(), "head.fc")
    with pytest.raises(ValueError, match="out_features on BERT only"):
        make_method(method, out_features=32).adapt(vit(), "head")
    with pytest.raises(ValueError, match="CLIPModel has"):
        make_method(method).adapt(clip().text_model, "")
    with pytest.raises(ValueError, match="cannot be reduced"):
        make_method(method, reduction=25).adapt(vit(), "head")
    with pytest.raises(ValueError, match="positive integer"):
        make_method(method, reduction=0)


def test_wrong_options_of_lst():
    with pytest.raises(ValueError, match="temperature"):
        make_method("lst", temperature=0)
    with pytest.raises(ValueError, match="dropout"):
        make_method("lst", dropout=1.0)
    with pytest.raises(ValueError, match="no reduction on CLIP"):
        make_method("lst", reduction=2).adapt(clip(), "")


@pytest.mark.parametrize("method", METHODS)
def test_a_block_that_runs_twice_is_an_error(method):
    model = adapted(method, "vit")
    forward = model.blocks[1].forward
    model.blocks[1].forward = lambda x: model.blocks[2](forward(x))
    with pytest.raises(RuntimeError, match="hidden states, not 4"):
        model(images())
