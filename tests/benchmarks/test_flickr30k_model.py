"""Flickr30K: pooling, loss, augmentation, encoders and metric against independent recomputations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.flickr30k.augment import Ragged, Special, changed_words, dropped_regions, padded
from benchmarks.flickr30k.loss import hinge_loss
from benchmarks.flickr30k.model import VSE, Batch, Head, RegionEncoder, unit
from benchmarks.flickr30k.pooling import GeneralisedPooling
from benchmarks.training.retrieval import both_ways, many_ranks, single_ranks
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()
transformers = pytest.importorskip("transformers")

SPECIAL = Special(pad=0, unk=1, cls=2, sep=3, mask=4)
LENGTHS = [5, 1, 3, 3, 7]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# -- pooling --------------------------------------------------------------------------------------


def weights_of_one(pool, length):
    """theta of one set, written out: no batch, no packing, no padding."""
    positions = torch.zeros(length, 32)
    for p in range(length):
        for j in range(16):
            angle = p / 10000 ** (2 * j / 32)
            positions[p, 2 * j], positions[p, 2 * j + 1] = math.sin(angle), math.cos(angle)
    states = pool.gru(positions.unsqueeze(0))[0][0]
    averaged = (states[:, :32] + states[:, 32:]) / 2
    scores = averaged @ pool.scorer.weight[0]
    exponentials = [math.exp(score / 0.1) for score in scores.tolist()]
    return torch.tensor([e / sum(exponentials) for e in exponentials])


def test_pooling_is_the_sum_over_ranks_that_it_says():
    pool = GeneralisedPooling()
    nn.init.normal_(pool.scorer.weight, std=0.5)
    features = torch.randn(5, 7, 6)
    found = pool(features, torch.tensor(LENGTHS))
    for row, length in enumerate(LENGTHS):
        theta = weights_of_one(pool, length)
        assert theta.sum().item() == pytest.approx(1)
        for dimension in range(6):
            ordered = sorted(features[row, :length, dimension].tolist(), reverse=True)
            wanted = sum(w * x for w, x in zip(theta.tolist(), ordered, strict=True))
            assert found[row, dimension].item() == pytest.approx(wanted, abs=1e-5)


def test_pooling_sees_no_padding_and_no_order():
    pool, lengths = GeneralisedPooling(), torch.tensor(LENGTHS)
    features = torch.randn(5, 7, 6)
    changed = features.clone()
    for row, length in enumerate(LENGTHS):
        changed[row, :length] = features[row, torch.randperm(length)]
        changed[row, length:] = 1e6
    wider = torch.cat([changed, torch.full((5, 3, 6), -3.0)], 1)
    torch.testing.assert_close(pool(wider, lengths), pool(features, lengths))


def test_pooling_has_a_gradient_and_the_published_size():
    pool = GeneralisedPooling()
    assert sum(p.numel() for p in pool.parameters()) == 12_704
    pool(torch.randn(5, 7, 6), torch.tensor(LENGTHS)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pool.parameters())


# -- loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hardest", [False, True])
def test_loss_is_the_sum_over_negatives(hardest):
    images, texts = unit(torch.randn(6, 4)), unit(torch.randn(6, 4))
    total = 0.0
    for i in range(6):
        positive = float(images[i] @ texts[i])
        of_image = [
            max(0.0, 0.2 + float(images[i] @ texts[j]) - positive) for j in range(6) if j != i
        ]
        of_text = [
            max(0.0, 0.2 + float(images[j] @ texts[i]) - positive) for j in range(6) if j != i
        ]
        total += max(of_image) + max(of_text) if hardest else sum(of_image) + sum(of_text)
    found = hinge_loss(images @ texts.T, margin=0.2, hardest=hardest)
    assert found.item() == pytest.approx(total, rel=1e-5)


def test_loss_of_embeddings_that_are_all_alike():
    alike = unit(torch.ones(128, 4))
    assert hinge_loss(alike @ alike.T, margin=0.2, hardest=True).item() == pytest.approx(
        51.2, rel=1e-5
    )
    far = torch.eye(8)
    assert hinge_loss(far, margin=0.2, hardest=True) == 0


# -- augmentation ---------------------------------------------------------------------------------


def test_regions_are_dropped_at_the_rate_and_kept_in_order():
    regions = torch.arange(1, 37.0).view(1, 36, 1).repeat(400, 1, 3)
    found, lengths = dropped_regions(regions, torch.Generator().manual_seed(1), rate=0.2)
    assert found.shape == (400, int(lengths.max()), 3)
    assert lengths.float().mean().item() / 36 == pytest.approx(0.8, abs=0.01)
    for row, length in zip(found[:, :, 0], lengths, strict=True):
        kept = row[:length]
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert kept.min() > 0
        assert not row[length:].any()


def test_one_region_stays():
    regions = torch.randn(300, 2, 3)
    _, lengths = dropped_regions(regions, torch.Generator().manual_seed(1), rate=0.95)
    assert lengths.min() == 1
    assert (lengths == 2).float().mean() < 0.02
    all_kept, lengths = dropped_regions(regions, torch.Generator().manual_seed(1), rate=0.0)
    assert torch.equal(all_kept, regions)
    assert set(lengths.tolist()) == {2}


def many_words(count):
    """One caption of ``count`` words; word w has the pieces 10 w + 10 and, if w is odd, one more."""
    words = torch.arange(count).repeat_interleave(torch.arange(count) % 2 + 1)
    second = torch.cat([torch.zeros(1, dtype=torch.long), (words.diff() == 0).long()])
    return Ragged(10 * words + 10 + second, words, torch.zeros_like(words), 1)


def test_words_are_masked_changed_or_deleted_as_wholes():
    count = 20_000
    before = many_words(count)
    after = changed_words(
        before, torch.Generator().manual_seed(3), rate=0.2, special=SPECIAL, size=10 * count + 20
    )
    was = torch.bincount(before.words, minlength=count)
    now = torch.bincount(after.words, minlength=count)
    deleted = now == 0
    assert torch.equal(now[~deleted], was[~deleted])
    is_mask = after.pieces == SPECIAL.mask
    masked = torch.bincount(after.words[is_mask], minlength=count)
    whole = masked > 0
    assert torch.equal(masked[whole], was[whole])
    originals = dict(zip(zip(*_keys(before), strict=True), before.pieces.tolist(), strict=True))
    same = torch.tensor(
        [
            originals[key] == p
            for key, p in zip(zip(*_keys(after), strict=True), after.pieces.tolist(), strict=True)
        ]
    )
    changed = torch.bincount(after.words[~same & ~is_mask], minlength=count) > 0
    shares = [x.float().mean().item() for x in (whole, changed, deleted)]
    assert shares == pytest.approx([0.10, 0.02, 0.08], abs=0.006)
    assert (after.pieces != SPECIAL.pad).all()


def _keys(captions):
    """The word of each piece, and its place in it."""
    words = captions.words
    place = torch.cat([torch.zeros(1, dtype=torch.long), (words.diff() == 0).long()])
    return words.tolist(), place.tolist()


def test_words_are_left_alone_at_a_rate_near_zero_and_padding_is_behind():
    captions = Ragged(
        torch.tensor([7, 8, 9], dtype=torch.int32),
        torch.tensor([0, 0, 1]),
        torch.tensor([0, 0, 2]),
        3,
    )
    after = changed_words(
        captions, torch.Generator().manual_seed(0), rate=1e-9, special=SPECIAL, size=20
    )
    pieces, lengths = padded(after, SPECIAL)
    assert pieces.tolist() == [[2, 7, 8, 3], [2, 3, 0, 0], [2, 9, 3, 0]]
    assert lengths.tolist() == [4, 2, 3]


# -- encoders -------------------------------------------------------------------------------------


def small_model():
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    head = Head(regions=10, hidden=8, text=16, width=12)
    return VSE(transformers.BertModel(config), head)


def test_region_encoder_is_the_formula_and_its_norm_sees_padding():
    encoder = RegionEncoder(10, 8, 12).train()
    regions, lengths = torch.randn(4, 5, 10), torch.tensor([5, 2, 3, 1])
    regions[torch.arange(5) >= lengths.unsqueeze(1)] = 0
    hidden = regions.reshape(20, 10) @ encoder.mlp[0].weight.T + encoder.mlp[0].bias
    normed = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, unbiased=False) + 1e-5)
    mlp = normed.relu() @ encoder.mlp[3].weight.T + encoder.mlp[3].bias
    features = (regions.reshape(20, 10) @ encoder.fc.weight.T + mlp).view(4, 5, 12)
    wanted = encoder.pool(features, lengths)
    wanted = wanted / (wanted.square().sum(1, keepdim=True).sqrt() + 1e-8)
    torch.testing.assert_close(encoder(regions, lengths), wanted, rtol=1e-4, atol=1e-5)
    bound = math.sqrt(6 / (10 + 12))
    assert encoder.fc.weight.abs().max() <= bound
    assert encoder.fc.weight.abs().max() > 0.8 * bound
    assert not encoder.fc.bias.any()


def test_captions_do_not_depend_on_their_padding():
    model = small_model().eval()
    pieces, lengths = torch.randint(5, 30, (4, 9)), torch.tensor([9, 2, 4, 6])
    other = torch.where(torch.arange(9) < lengths.unsqueeze(1), pieces, 17)
    wider = torch.nn.functional.pad(other, (0, 4), value=5)
    with torch.inference_mode():
        vectors = model.texts(pieces, lengths)
        torch.testing.assert_close(model.texts(wider, lengths), vectors, rtol=1e-4, atol=1e-5)
        one = model.texts(pieces[1:2, :2], lengths[1:2])
    torch.testing.assert_close(one, vectors[1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


def test_a_batch_gives_a_gradient_to_both_sides():
    model = small_model().train()
    batch = Batch(
        torch.randn(4, 5, 10), torch.tensor([5, 2, 3, 1]),
        torch.randint(5, 30, (4, 9)), torch.tensor([9, 2, 4, 6]),
    )  # fmt: skip
    images, texts = model(batch)
    hinge_loss(images @ texts.T, margin=0.2, hardest=False).backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    assert unused == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}


# -- metric ---------------------------------------------------------------------------------------


def test_ranks_and_recalls_against_sorting():
    first, second = unit(torch.randn(30, 8)), unit(torch.randn(90, 8))
    owner = torch.randint(0, 30, (90,))
    owner[:30] = torch.arange(30)
    scores = (first @ second.T).double().numpy()
    best = []
    for i in range(30):
        order = np.argsort(-scores[i])
        best.append(min(int(np.where(order == j)[0][0]) for j in np.where(owner.numpy() == i)[0]))
    single = [int(np.where(np.argsort(-scores[:, j]) == owner[j].item())[0][0]) for j in range(90)]
    assert many_ranks(first, second, owner, block=7).ranks.tolist() == best
    assert single_ranks(second, first, owner, block=11).ranks.tolist() == single
    found = both_ways(first, second, owner, ("i2t", "t2i"))
    wanted = {}
    for way, ranks in (("i2t", best), ("t2i", single)):
        for k in (1, 5, 10):
            wanted[f"{way}_r{k}"] = sum(rank < k for rank in ranks) / len(ranks)
        wanted[f"{way}_medr"] = float(np.median(ranks)) + 1
        wanted[f"{way}_ties"] = 0.0
    recalls = [value for name, value in wanted.items() if "_r" in name]
    assert found == pytest.approx(
        wanted | {"rsum": sum(recalls), "rsum_strictly_higher": sum(recalls)}
    )


def test_ties_are_counted_and_open_places_are_shared():
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    second = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = both_ways(first, second, torch.arange(3), ("i2t", "t2i"))
    assert found["i2t_r1"] == found["t2i_r1"] == pytest.approx(2 / 3)  # 1/2, 1, 1/2
    assert found["rsum_strictly_higher"] == 6.0
    assert (found["i2t_ties"], found["t2i_ties"]) == (2.0, 2.0)
    # Two captions of one image that score alike leave no rank open.
    found = both_ways(first[:2], second, torch.tensor([0, 1, 0]), ("i2t", "t2i"))
    assert (found["i2t_ties"], found["t2i_ties"]) == (0.0, 0.0)
