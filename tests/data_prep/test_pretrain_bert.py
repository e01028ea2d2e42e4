"""What the small BERT is pre-trained on, and the program that does it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_prep.embedded import pretrain_bert
from data_prep.embedded.flickr30k import scene, upstream
from data_prep.embedded.flickr30k.captions import Speaker, plain
from data_prep.embedded.flickr30k.lexicon import BROAD
from data_prep.flickr30k import generated
from data_prep.flickr30k.tokens import WordPieces

WORDS = WordPieces("bert_micro", generated.VOCABULARY)


def test_batches_depend_on_seed_and_step_alone():
    one, again = (upstream.batch(WORDS, 0, 7, 8) for _ in range(2))
    assert np.array_equal(one.pieces, again.pieces)
    assert np.array_equal(one.hidden, again.hidden)
    other = upstream.batch(WORDS, 0, 8, 8)
    assert other.pieces.shape != one.pieces.shape or (other.pieces != one.pieces).any()


def test_gaps_are_a_seventh_and_never_special():
    batch = upstream.batch(WORDS, 0, 0, 200)
    gaps = batch.hidden != upstream.IGNORED
    words = (batch.pieces > 3) | gaps
    assert 0.13 < gaps.sum() / words.sum() < 0.17
    assert (batch.hidden[gaps] > 4).all()
    masked = batch.pieces[gaps] == WORDS.vocabulary["[MASK]"]
    assert 0.75 < masked.mean() < 0.85


def test_a_paraphrase_says_the_same_of_twins_but_for_what_changed():
    rng = np.random.default_rng(0)
    for _ in range(50):
        made = scene.make(BROAD, rng)
        other = scene.twin(made, rng)
        assert {t.category for t in made.things} == {t.category for t in other.things}
        assert sorted(t.colour for t in made.things) == sorted(t.colour for t in other.things)
        assert made != other or len({(t.colour, t.x) for t in made.things}) < len(made.things)
        one, two = (
            plain(Speaker(BROAD, np.random.default_rng(3), np.random.default_rng(k)).caption(made))
            for k in (1, 2)
        )
        meaning = {w.replace("|", ""): name for name, ws in BROAD.nouns.items() for w in ws}
        said = [[meaning[w] for w in text.split() if w in meaning] for text in (one, two)]
        assert said[0] == said[1]


@pytest.mark.slow
def test_the_program_trains_and_goes_on_where_it_was(tmp_path):
    def run(name, *more):
        folder = tmp_path / name
        where = ["--out", str(folder), "--work", str(folder / "work")]
        settings = ["--steps", "4", "--batch", "4", *more]
        return folder, pretrain_bert.Run(pretrain_bert.parser().parse_args([*settings, *where]))

    whole, first = run("whole")
    (whole / "work").mkdir()
    first.train()
    folder, second = run("parts")
    (folder / "work").mkdir()
    second.update()
    second.update()
    second.save()
    _, third = run("parts")
    assert third.resume()
    assert third.step == 2
    third.train()
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    _, other = run("parts", "--lr", "0.1")
    assert not other.resume()
    made = json.loads((whole / "record.json").read_text())
    assert made["finished"]
    assert made["steps"] == 4
