"""LST and UniPT: their sizes, what they compute, and that the frozen backbone costs nothing in training."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from data_prep.torchvision_guard import ensure_torchvision
from resora.adapted import adapter_state, load_adapter_state
from resora.petl import make_method
from resora.petl.layers.ladder import Gates
from resora.petl.layers.state_fusion import attended, mean_of
from resora.petl.lst import heads_for

ensure_torchvision()

import timm  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

transformers = pytest.importorskip("transformers")

METHODS = ("lst", "unipt")
KINDS = ("vit", "bert", "clip")


def vit(**options):
    torch.manual_seed(0)
    settings = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    return VisionTransformer(**settings, num_classes=5, **options)


def bert(**options):
    torch.manual_seed(0)
    settings = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 50,
    }
    return transformers.BertModel(transformers.BertConfig(**settings, **options))


def clip(eos=40):
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "vocab_size": 50,
        "max_position_embeddings": 12,
        "eos_token_id": eos,
        "bos_token_id": 1,
        "pad_token_id": 0,
        **layers,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "image_size": 16,
        "patch_size": 8,
        **layers,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    return transformers.CLIPModel(config)


TEXT = torch.tensor([[1, 7, 8, 9, 10, 40, 0, 0], [1, 5, 40, 0, 0, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]])
BUILD = {"vit": vit, "bert": bert, "clip": clip}
HEAD = {"vit": "head", "bert": "", "clip": ""}


def images(count=2):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def outputs(model, kind):
    """The adapted outputs, flat."""
    if kind == "vit":
        return model(images()).flatten()
    if kind == "bert":
        return model(TEXT, attention_mask=MASK).last_hidden_state.flatten()
    out = model(input_ids=TEXT, pixel_values=images())
    return torch.cat([out.image_embeds.flatten(), out.text_embeds.flatten()])


def adapted(method, kind, **options):
    model = BUILD[kind]()
    torch.manual_seed(2)
    make_method(method, **options).adapt(model, HEAD[kind])
    return model.eval()


def trained(model, but="head."):
    return sum(
        p.numel() for n, p in model.named_parameters() if p.requires_grad and not n.startswith(but)
    )


def clip_b32():
    with torch.device("meta"):
        return transformers.CLIPModel(transformers.CLIPConfig())


# -- sizes ----------------------------------------------------------------------------------------


def test_lst_has_the_parameters_of_the_comparison_tables():
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224")
    make_method("lst").adapt(model, "head")
    h = 96
    projections = 13 * (768 * h + h) + 768 * h + 768
    assert trained(model) == 12 * (12 * h**2 + 9 * h + 4 * h) + projections + 12 == 2_376_288 + 12


def test_unipt_on_a_vit_is_about_as_large_as_lst():
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224")
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
    from resora.petl.layers.ladder import SideBlock

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


# -- what they cost, and how they behave ----------------------------------------------------------


def saved_bytes(run):
    """Bytes of distinct tensors that autograd saves, without parameters; and what it saves."""
    seen = {}

    def pack(tensor):
        if not isinstance(tensor, nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(t.untyped_storage().nbytes() for t in seen.values()), list(seen.values())


@pytest.mark.parametrize("method", METHODS)
def test_no_block_of_the_backbone_is_in_the_graph(method):
    model = adapted(method, "vit").train()
    inside = []
    for block in model.blocks:
        for layer in block.modules():
            if layer is not block:
                layer.register_forward_hook(lambda _, __, out: inside.append(out.requires_grad))
    model.blocks[0].register_forward_hook(lambda _, __, out: inside.append(out.requires_grad))
    model(images()).sum().backward()
    assert len(inside) > 30
    assert not any(inside)


@pytest.mark.parametrize("method", METHODS)
def test_little_is_saved_for_the_backward_pass(method):
    def saved(name):
        torch.manual_seed(0)
        model = VisionTransformer(
            img_size=32, patch_size=8, embed_dim=96, depth=4, num_heads=4, num_classes=5
        )
        make_method(name).adapt(model, "head")
        x = torch.randn(2, 3, 32, 32)
        return saved_bytes(lambda: model.train()(x))[0]

    assert saved(method) < saved("lora-r8") / 3
    assert saved(method) < saved("full") / 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_over_after_a_pass_and_copies_are_their_own(method, kind):
    model = adapted(method, kind)
    before = outputs(model, kind)
    networks = [m for n, m in model.named_modules() if n.endswith(method)]
    assert all(not n._pass.states and n._pass.read is None for n in networks)
    copied = copy.deepcopy(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (copied, loaded):
        torch.testing.assert_close(outputs(other, kind), before)
        for parameter in other.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter)
        assert not torch.allclose(outputs(other, kind), before)
    torch.testing.assert_close(outputs(model, kind), before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_inference_mode_autocast_and_a_state_that_returns(method, kind):
    model = adapted(method, kind)
    with torch.inference_mode():
        before = outputs(model, kind).clone()
    torch.testing.assert_close(outputs(model, kind), before)
    with torch.autocast("cpu", torch.bfloat16):
        half = outputs(model.train(), kind)
        half.float().sum().backward()
    assert torch.isfinite(half).all()
    state = {name: value.clone() for name, value in adapter_state(model).items()}
    other = BUILD[kind]()
    make_method(method).adapt(other, HEAD[kind])
    load_adapter_state(other, state)
    torch.testing.assert_close(outputs(other.eval(), kind), before)


@pytest.mark.parametrize("method", METHODS)
def test_a_pass_that_failed_does_not_spoil_the_next(method):
    model = adapted(method, "vit")
    before = model(images())
    handle = model.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images())
    handle.remove()
    torch.testing.assert_close(model(images()), before)


@pytest.mark.parametrize("method", METHODS)
def test_double_precision_stays(method):
    model = vit().double()
    make_method(method).adapt(model, "head")
    assert model(images().double()).dtype == torch.float64
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_dropout_of_the_side_network_is_that_of_bert():
    assert adapted("lst", "bert").lst.blocks[0].dropout == 0.1
    assert adapted("lst", "vit").lst.blocks[0].dropout == 0.0
    model = adapted("lst", "vit", dropout=0.5).train()
    assert not torch.equal(model(images()), model(images()))
    assert torch.equal(model.eval()(images()), model(images()))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_compiled_gives_the_same(method, fresh_compiler):
    model = adapted(method, "vit")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), model(images()))
    torch.testing.assert_close(compiled(images()), model(images()))


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_is_refused(method):
    swin = SwinTransformer(
        img_size=32,
        patch_size=2,
        window_size=4,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=5,
    )
    with pytest.raises(ValueError, match="transformer blocks of one width"):
        make_method(method).adapt(swin, "head.fc")
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
