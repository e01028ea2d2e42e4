"""What is not finite, or says nothing, does not end as a good number."""

from __future__ import annotations

import dataclasses
import math
from itertools import permutations

import numpy as np
import pytest
import torch

from benchmarks.flickr30k.problem import ImageTextRetrieval
from benchmarks.harness.cell import Cell
from benchmarks.harness.execute import Event, run_cell
from benchmarks.harness.record import Outcome
from benchmarks.training.classification import ImageClassification
from benchmarks.training.finite import Diverged, require_usable
from benchmarks.training.retrieval import both_ways, both_ways_of
from benchmarks.training.two_stage import _selected

WAYS = ("i2t", "t2i")
NAN, INF = math.nan, math.inf


def vectors(count, width=4):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count))


def with_overrides(settings, **overrides):
    return dataclasses.replace(settings, overrides=settings.overrides | overrides)


def run(path, settings):
    """Run one cell; return its record."""
    run_cell(Cell.parse(path), settings, lambda event: None)
    return settings.store.load(Cell.parse(path))


# -- retrieval --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("rows", [[2], [0, 1, 2, 4], None])
def test_embeddings_that_are_not_finite_are_refused_with_their_rows(bad, side, rows):
    pair = [vectors(5), vectors(10)]
    pair[side][rows if rows is not None else slice(None), 1] = bad
    with pytest.raises(Diverged, match=rf"^test: .* {WAYS[side]} are not finite in") as told:
        both_ways(*pair, torch.arange(10) % 5, WAYS, place="test")
    count = len(rows) if rows else len(pair[side])
    assert f"in {count} of {len(pair[side])} rows: {rows[0] if rows else 0}" in str(told.value)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("rule", ["higher", "clip4clip"])
def test_similarities_that_are_not_finite_are_refused(bad, rule):
    scores = vectors(5, 5)
    scores[3, 1] = bad
    with pytest.raises(Diverged, match=r"val: the similarities of i2t .* 1 of 5 rows: 3$"):
        both_ways_of(scores, torch.arange(5), WAYS, rule=rule, place="val")
    with pytest.raises(Diverged, match="similarities of i2t"):  # finite, and their product is not
        both_ways(vectors(5) * 1e30, vectors(5) * 1e30, torch.arange(5), WAYS, rule=rule)


@pytest.mark.parametrize("value", [1.0, 0.0, -3.5, 1e-40])
def test_a_constant_similarity_has_the_recall_of_chance(value):
    first, second = torch.full((40, 2), value), torch.full((200, 2), value)
    found = both_ways(first, second, torch.arange(200) % 40, WAYS)
    for k in (1, 5, 10):
        assert found[f"t2i_r{k}"] == pytest.approx(k / 40)
        assert found[f"i2t_r{k}"] == pytest.approx(1 - math.comb(195, k) / math.comb(200, k))
    assert found["t2i_medr"] == 20.5
    assert found["i2t_medr"] == pytest.approx(1 + 195 / 6)
    assert (found["i2t_ties"], found["t2i_ties"]) == (40, 200)
    assert found["rsum_strictly_higher"] == 6.0


def test_equal_scores_count_as_in_all_orders_of_them():
    """Compared with each order of seven candidates, of which two are right."""
    scores = torch.randint(0, 3, (30, 7), generator=torch.Generator().manual_seed(0)).float()
    owner = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    found = both_ways_of(scores[:3], owner, WAYS)
    for k in (1, 5):
        expected = [
            np.mean(
                [
                    any(
                        owner[c] == query
                        for c in sorted(order, key=lambda c: -scores[query, c].item())[:k]
                    )
                    for order in permutations(range(7))
                ]
            )
            for query in range(3)
        ]
        assert found[f"i2t_r{k}"] == pytest.approx(np.mean(expected))


def test_without_ties_the_recalls_are_those_of_strictly_higher_to_the_last_bit():
    found = both_ways(vectors(50), vectors(250), torch.arange(250) % 50, WAYS)
    assert found["rsum"] == found["rsum_strictly_higher"]
    assert found["i2t_ties"] == found["t2i_ties"] == 0


def test_no_query_and_no_right_answer_are_errors():
    with pytest.raises(ValueError, match="no query"):
        both_ways(vectors(0), vectors(0), torch.zeros(0, dtype=torch.long), WAYS)
    with pytest.raises(ValueError, match="no right answer"):
        both_ways(vectors(3), vectors(2), torch.tensor([0, 1]), WAYS)


def test_one_huge_region_in_some_test_images_ends_diverged(settings, monkeypatch):
    plain = ImageTextRetrieval.__init__

    def damaged(self, *arguments):
        plain(self, *arguments)
        take = self.test.features.take

        def huge(rows):
            regions = take(rows)
            regions[:3, 0] = 3e38
            return regions

        object.__setattr__(self.test.features, "take", huge)

    monkeypatch.setattr(ImageTextRetrieval, "__init__", damaged)
    record = run("flickr30k/bert_micro/f30k/partial/0", settings)
    assert record["status"] == "diverged"
    assert (
        "test: the embeddings of the queries of i2t are not finite in 3 of 8 rows: 0, 1, 2"
        in (record["error"])
    )


# -- training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "batch"),
    [
        ("vtab1k/vit_micro/eurosat/lora-r2/0", 8),
        ("vtab1k/vit_micro/eurosat/ssf/0", 8),
        ("vtab1k/vit_micro/eurosat/linear/0", 8),
        ("vtab1k/vit_micro/eurosat/full/0", 8),
        ("fewshot/vit_micro/cars-1shot/lora-r8/0", 8),
        ("flickr30k/bert_micro/f30k/lora-r8/0", 8),
        ("msrvtt/clip_micro/1ka/lora-r8/0", 8),
        ("msrvtt/clip_micro/1ka/partial/0", 8),
    ],
)
@pytest.mark.parametrize("caching", [True, False])
def test_the_last_step_is_looked_at(settings, path, batch, caching):
    """One step an epoch, one epoch: the only loss is from before the step."""
    settings = with_overrides(
        dataclasses.replace(settings, caching=caching),
        **{
            "stage1.learning_rate": 1e38,
            "stage1.warmup_epochs": 0,
            "stage1.epochs": 1,
            "stage1.batch_size": batch,
            "data.limit_train": batch,
        },
    )
    if path.startswith("msrvtt"):  # some clips are held out
        settings = with_overrides(settings, **{"data.limit_train": None, "stage1.batch_size": 80})
    record = run(path, settings)
    assert record["status"] == "diverged", record["error"]
    assert "epoch 1 of 1: parameters are not finite, or beyond 1e+06 in size" in record["error"]


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e7, -1e30])
def test_parameters_that_no_model_is_usable_with(bad):
    good = {"a": torch.ones(3), "empty": torch.ones(0), "tiny": torch.tensor([1e-42])}
    require_usable(good)
    require_usable({})
    with pytest.raises(Diverged, match=r"in size: b \("):
        require_usable(good | {"b": torch.tensor([[0.0, bad]])})


@pytest.mark.parametrize("bad", [NAN, INF])
def test_logits_that_are_not_finite_are_no_accuracy(settings, monkeypatch, bad):
    plain = ImageClassification.build

    def build(self):
        model = plain(self)
        model.register_forward_hook(
            lambda module, args, out: out if module.training else out.index_fill(0, ROW, bad)
        )
        return model

    ROW = torch.tensor([1])
    monkeypatch.setattr(ImageClassification, "build", build)
    record = run("vtab1k/vit_micro/eurosat/full/0", dataclasses.replace(settings, caching=False))
    assert record["status"] == "diverged"
    assert "the logits are not finite in" in record["error"]


@pytest.mark.parametrize("bad", [NAN, INF, None])
def test_no_rule_prefers_what_is_not_finite(bad):
    curves = {"val_x": [bad, 0.2, 0.3, bad], "test_x": [0.9, 0.5, 0.4, 0.1]}
    assert _selected(curves, "x") == {"last_epoch": 0.1, "best_val": 0.4, "max_test": 0.9}
    nothing = _selected({"val_x": [bad] * 4, "test_x": [0.9, 0.5, 0.4, 0.1]}, "x")
    assert nothing["best_val"] is None


# -- records ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "place"),
    [
        ({"redundancy": {"start": {"mean": NAN}}}, "redundancy.start.mean is nan"),
        ({"redundancy": {"end": {"by_matrix": {"a": INF}}}}, "redundancy.end.by_matrix.a is inf"),
        ({"curves": {"stage1": {"penalty": [0.1, -INF]}}}, "curves.stage1.penalty.1 is -inf"),
        ({"cost": {"total_seconds": NAN}}, "cost.total_seconds is nan"),
    ],
)
def test_a_number_that_is_not_finite_ends_one_cell_and_not_the_run(
    settings, monkeypatch, outcome, place
):
    from benchmarks.harness import execute
    from benchmarks.training import two_stage

    metrics = {"top1_accuracy": {"last_epoch": 0.5, "best_val": None, "max_test": 0.5}}
    plain = two_stage.run
    found = Outcome(**({"metrics": metrics} | outcome))
    monkeypatch.setattr(two_stage, "run", lambda *_: found)
    events: list[Event] = []
    first, second = (Cell.parse(f"vtab1k/vit_micro/eurosat/linear/{n}") for n in (0, 1))
    assert execute.run_cell(first, settings, events.append) == "diverged"
    assert settings.store.load(first)["error"] == f"not finite: {place}"
    monkeypatch.setattr(two_stage, "run", plain)
    assert execute.run_cell(second, settings, events.append) == "ok"


def test_an_outcome_that_no_record_holds_is_a_failed_cell(settings, monkeypatch):
    from benchmarks.training import two_stage

    found = Outcome(metrics={"top1_accuracy": {"last_epoch": "0.5"}})
    monkeypatch.setattr(two_stage, "run", lambda *_: found)
    record = run("vtab1k/vit_micro/eurosat/linear/0", settings)
    assert record["status"] == "failed"
    assert record["error"].startswith("InvalidRecord: ")


@pytest.mark.parametrize("bad", [NAN, INF])
def test_redundancy_that_is_not_finite_is_a_diverged_cell(settings, monkeypatch, bad):
    from resora import ReSoRA

    plain = ReSoRA.redundancy

    def redundancy(self, **options):
        return {name: one * bad for name, one in plain(self, **options).items()}

    monkeypatch.setattr(ReSoRA, "redundancy", redundancy)
    record = run("vtab1k/vit_micro/eurosat/lora-r2/0", settings)
    assert (record["status"], record["metrics"]) == ("diverged", {})
    assert "redundancy.start" in record["error"]
