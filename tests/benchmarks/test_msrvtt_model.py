"""MSR-VTT: heads, loss, gradient caching, processes, weights, metric against independent recomputations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional

from benchmarks.harness.errors import UsageError
from benchmarks.msrvtt import clip, processes
from benchmarks.msrvtt.heads import BLOCKS, HEADS, make_head
from benchmarks.msrvtt.loss import contrastive_loss
from benchmarks.msrvtt.model import MEAN, STD, Batch, CLIP4Clip, Encoded, padded
from benchmarks.training.retrieval import both_ways, both_ways_of
from resora import ReSoRA
from resora.petl import make_method

COUNTS, LENGTHS = [3, 1, 4, 2], [9, 4, 6, 5]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_batch(counts=COUNTS, lengths=LENGTHS):
    frames = torch.randint(0, 256, (sum(counts), 3, 32, 32), dtype=torch.uint8)
    tokens = torch.randint(1, 990, (len(counts), max(lengths)))
    tokens[:, 0] = 992
    for row, length in enumerate(lengths):
        tokens[row, length - 1], tokens[row, length:] = 993, 0
    return Batch(frames, torch.tensor(counts), tokens, torch.tensor(lengths))


def many(number):
    draw = np.random.default_rng(0)
    return random_batch(draw.integers(1, 4, number).tolist(), draw.integers(3, 9, number).tolist())


def small_model(head="meanP", method=None, **options):
    towers = clip.empty("clip_micro")
    model = CLIP4Clip(towers, make_head(head, towers))
    if method:
        make_method(method, **options).adapt(model, "head")
        for name, parameter in model.named_parameters():
            if "lora_b" in name:
                nn.init.normal_(parameter, std=0.05)
    return model


# -- similarity and loss --------------------------------------------------------------------------


def test_mean_pooling_is_the_formula_and_sees_no_padding():
    model, batch = small_model().eval(), random_batch()
    logits = model(batch)
    expected = torch.zeros(4, 4)
    for i in range(4):
        start = sum(COUNTS[:i])
        pixels = batch.frames[start : start + COUNTS[i]].double() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        found = model.clip.get_image_features(pixel_values=((pixels - mean) / std).float())
        frames = found if isinstance(found, torch.Tensor) else found.pooler_output
        video = torch.stack([f / f.norm() for f in frames]).mean(0)
        for j in range(4):
            tokens = batch.tokens[j : j + 1, : LENGTHS[j]]
            text = model.clip.get_text_features(input_ids=tokens)
            text = (text if isinstance(text, torch.Tensor) else text.pooler_output)[0]
            cosine = video @ text / (video.norm() * text.norm())
            expected[i, j] = cosine * math.exp(2.6592)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_loss_is_the_mean_of_both_cross_entropies():
    logits = torch.randn(5, 5)
    total = 0.0
    for i in range(5):
        total -= math.log(math.exp(logits[i, i]) / sum(math.exp(x) for x in logits[i]))
        total -= math.log(math.exp(logits[i, i]) / sum(math.exp(x) for x in logits[:, i]))
    assert contrastive_loss(logits).item() == pytest.approx(total / 10, rel=1e-5)
    assert contrastive_loss(torch.zeros(8, 8)).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("head", list(HEADS))
def test_heads_see_no_padding_and_train_what_is_theirs(head):
    model, batch = small_model(head), random_batch()
    model.eval()
    encoded = model.encode(batch)
    frames = padded(encoded.frames, batch.counts)
    wider = functional.pad(frames, (0, 0, 0, 2), value=0.0)
    wider[torch.arange(6) >= batch.counts[:, None]] = 7.0
    scores = model.head.scores(frames, batch.counts, encoded.texts)
    assert scores.shape == (4, 4)
    torch.testing.assert_close(
        model.head.scores(wider, batch.counts, encoded.texts), scores, rtol=1e-4, atol=1e-5
    )
    part = model.head.scores(frames[2:3], batch.counts[2:3], encoded.texts)
    torch.testing.assert_close(part, scores[2:3], rtol=1e-4, atol=1e-5)
    contrastive_loss(model(batch)).backward()
    for name, parameter in model.head.named_parameters():
        assert parameter.grad is not None, name


def test_sequences_depend_on_their_order_and_means_do_not():
    frames, counts = torch.randn(1, 5, 128), torch.tensor([5])
    turned = frames.flip(1)
    for head in HEADS:
        made = small_model(head).head.eval()
        one, other = (made.scores(x, counts, torch.ones(2, 128)) for x in (frames, turned))
        assert torch.allclose(one, other, atol=1e-5) == (head == "meanP")


def test_heads_start_from_the_text_tower():
    towers = clip.empty("clip_micro")
    head = make_head("seqTransf", towers)
    text = towers.text_model
    assert torch.equal(head.positions, text.embeddings.position_embedding.weight)
    assert len(head.blocks) == BLOCKS
    for mine, its in zip(head.blocks, text.encoder.layers, strict=False):
        assert mine is not its
        assert torch.equal(mine.mlp.fc1.weight, its.mlp.fc1.weight)
    with pytest.raises(UsageError, match="did you mean 'meanP'"):
        make_head("meanp", towers)


# -- gradient caching -----------------------------------------------------------------------------


def gradients(model, batch, chunk, regularizer=None, mask=None):
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    loss = contrastive_loss(model(batch, chunk))
    if regularizer is not None:
        loss = loss + regularizer(mask=mask)
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


def assert_same(one, other, bound=1e-5):
    """The gradient as a whole; and each parameter's, unless it is nothing but rounding, less closely."""
    assert one.keys() == other.keys()
    off = {name: (gradient - other[name]).norm() for name, gradient in one.items()}
    whole = torch.stack([gradient.norm() for gradient in one.values()]).norm()
    assert torch.stack(list(off.values())).norm() <= bound * whole
    for name, gradient in one.items():
        assert off[name] <= 100 * bound * gradient.norm().clamp(min=1e-3 * whole), name


@pytest.mark.parametrize("head", list(HEADS))
def test_gradient_caching_is_the_direct_batch(head):
    """At batch 128, in float32; with tightTransf, whose pairs are many, at 16."""
    model = small_model(head, "lora-r8", targets=["q", "v"]).train()
    batch = many(16 if head == "tightTransf" else 128)
    for module in model.head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    direct = gradients(model, batch, None)
    cached = gradients(model, batch, 5 if head == "tightTransf" else 24)
    assert cached[0] == pytest.approx(direct[0], rel=1e-5)
    assert_same(direct[1], cached[1])


def test_gradient_caching_replays_noise():
    """Each chunk is computed twice; with other noise in the second, its gradient is of another loss."""
    model = small_model("meanP", "vpt-deep", tokens=3, dropout=0.5).train()
    batch = many(12)
    _, found = gradients(model, batch, 4)
    torch.manual_seed(3)
    parts = [model.encode(part) for part in batch.chunks(4)]
    together = Encoded(
        torch.cat([p.frames for p in parts]), batch.counts, torch.cat([p.texts for p in parts])
    )
    model.zero_grad(set_to_none=True)
    contrastive_loss(model.logits(together)).backward()
    assert_same({n: model.get_parameter(n).grad for n in found}, found)


def test_gradient_caching_has_the_penalty_of_the_whole_batch():
    model = small_model("meanP", "lora-r8", targets=["q", "v"]).train()
    batch = many(20)
    valid = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    regularizer = ReSoRA(model, weight=3.0, sample="token")
    direct = gradients(model, batch, None, regularizer, {"clip.text_model.*": valid})
    mask = {"clip.text_model.*": list(valid.split(6))}
    cached = gradients(model, batch, 6, regularizer, mask)
    plain = gradients(model, batch, 6)[0]
    regularizer._forget()
    regularizer.close()
    assert direct[0] > plain + 1e-3
    assert cached[0] == pytest.approx(direct[0], rel=1e-5)
    assert_same(direct[1], cached[1], 2e-5)


def test_gradient_caching_keeps_less():
    """What the forward pass keeps for the backward pass: a quarter or less of the direct batch's."""
    model, batch = small_model("meanP", "lora-r8").train(), many(64)
    kept = {}
    for chunk in (None, 8):
        storages = {}

        def keep(tensor, storages=storages):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = contrastive_loss(model(batch, chunk))
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        kept[chunk] = sum(size for key, (size, _) in storages.items() if key not in own)
        del loss
    assert kept[8] < kept[None] / 4


# -- several processes ----------------------------------------------------------------------------


def one_process(rank, folder, batch, state):
    torch.set_num_threads(1)
    where = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    model = small_model("meanP", "lora-r8").train()
    model.load_state_dict(state)
    model.clip.logit_scale.requires_grad_(True)
    index = processes.share(torch.arange(len(batch.counts)))
    own = batch.chunks(len(index))[rank]
    regularizer = ReSoRA(model, weight=3.0, sample="token")
    loss = contrastive_loss(model.logits(processes.joined(model.encode(own, 3))))
    valid = torch.arange(own.tokens.shape[1]) < own.lengths[:, None]
    loss = loss + regularizer(mask={"clip.text_model.*": list(valid.split(3))})
    loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    processes.average_gradients(trained)
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    torch.save((loss.item(), found), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(tmp_path):
    model, batch = small_model("meanP", "lora-r8").train(), many(12)
    state = model.state_dict()
    multiprocessing.spawn(one_process, (tmp_path, batch, state), nprocs=2)
    model.clip.logit_scale.requires_grad_(True)
    valid = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    regularizer = ReSoRA(model, weight=3.0, sample="token")
    loss, expected = gradients(model, batch, None, regularizer, {"clip.text_model.*": valid})
    regularizer.close()
    for rank in (0, 1):
        its_loss, found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert its_loss == pytest.approx(loss, rel=1e-5)
        assert_same(expected, found, 2e-5)


# -- weights --------------------------------------------------------------------------------------


def as_openai(model):
    """The tensors of a CLIP under the names of OpenAI's file."""
    state, found = model.state_dict(), {}
    for theirs, ours in clip.NAMES.items():
        found[theirs] = state[ours]
    for theirs, ours in clip.NORMS.items():
        for part in ("weight", "bias"):
            found[f"{theirs}.{part}"] = state[f"{ours}.{part}"]
    found["visual.proj"] = state["visual_projection.weight"].T
    found["text_projection"] = state["text_projection.weight"].T
    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        for i in range(4):
            block = f"{tower}.encoder.layers.{i}"
            there = f"{prefix}transformer.resblocks.{i}"
            for kind in ("weight", "bias"):
                parts = [state[f"{block}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
                found[f"{there}.attn.in_proj_{kind}"] = torch.cat(parts)
                for theirs, ours in clip.INSIDE.items():
                    found[f"{there}.{theirs}.{kind}"] = state[f"{block}.{ours}.{kind}"]
    found["context_length"] = torch.tensor(77)
    return {key: value.half().contiguous() for key, value in found.items()}


def test_weights_in_openais_names_are_the_same_network(tmp_path):
    there, here = clip.empty("clip_micro"), clip.empty("clip_micro")
    torch.save(as_openai(there), tmp_path / "ViT-B-32.pt")
    clip.load(here, tmp_path / "ViT-B-32.pt")
    for (name, one), other in zip(there.named_parameters(), here.parameters(), strict=True):
        assert torch.equal(one.half().float(), other), name
    broken = as_openai(there)
    del broken["ln_final.bias"]
    torch.save(broken, tmp_path / "ViT-B-32.pt")
    with pytest.raises(UsageError, match=r"1 tensors differ, such as text_model\.final_layer_norm"):
        clip.load(here, tmp_path / "ViT-B-32.pt")


# -- metric ---------------------------------------------------------------------------------------


def test_equal_scores_by_both_rules():
    """Captions 1 and 2 are the same text: each video of theirs has both at one score."""
    scores = torch.tensor([[0.9, 0.1, 0.1], [0.2, 0.8, 0.8], [0.3, 0.7, 0.7]])
    owner, names = torch.arange(3), ("v2t", "t2v")
    found = both_ways_of(scores, owner, names)
    assert (found["v2t_ties"], found["t2v_ties"]) == (2.0, 0.0)
    assert found["v2t_r1"] == pytest.approx(2 / 3)  # 1, 1/2, 1/2
    assert found["t2v_r1"] == pytest.approx(2 / 3)
    public = both_ways_of(scores, owner, names, rule="clip4clip")
    # Five entries in place of three: ranks 0 | 0, 1 | 0, 1.
    assert public["v2t_r1"] == pytest.approx(3 / 5)
    assert public["v2t_r5"] == 1.0
    assert public["t2v_r1"] == found["t2v_r1"]


def test_the_public_rule_is_that_of_sorting():
    draw = np.random.default_rng(1)
    scores = draw.integers(0, 6, (40, 40)).astype(np.float32)
    for matrix, name in ((scores, "v2t"), (scores.T, "t2v")):
        negative = -matrix
        ranks = np.where(np.sort(negative, 1) - np.diag(negative)[:, None] == 0)[1]
        found = both_ways_of(
            torch.from_numpy(scores), torch.arange(40), ("v2t", "t2v"), rule="clip4clip"
        )
        for k in (1, 5, 10):
            assert found[f"{name}_r{k}"] == pytest.approx((ranks < k).mean())
        assert found[f"{name}_medr"] == pytest.approx(np.median(ranks) + 1)


def test_scores_and_vectors_have_the_same_recalls():
    first, second = (functional.normalize(torch.randn(n, 6), dim=1) for n in (9, 20))
    owner = torch.cat((torch.arange(9), torch.randint(0, 9, (11,))))
    for rule in ("higher", "clip4clip"):
        names = ("v2t", "t2v")
        one = both_ways(first, second, owner, names, rule=rule)
        assert one == pytest.approx(both_ways_of(first @ second.T, owner, names, rule=rule))
