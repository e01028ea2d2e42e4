"""Captions as CLIP's tokens: cleaned, cut, between start and end."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.msrvtt import generated, tokens
from data_prep.msrvtt.tokens import ClipTokens

WORDS = ClipTokens("clip_micro", generated.VOCABULARY)
START, END = WORDS.vocabulary[tokens.START], WORDS.vocabulary[tokens.END]


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("  A Man \t is\nCOOKING ", "a man is cooking"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("schÃ¶n", "schön"),
        ("a man\u2019s car", "a man's car"),
    ],
)
def test_captions_are_cleaned_as_clip_does(caption, cleaned):
    assert tokens.clean(caption) == cleaned


def _spelled(caption):
    names = {number: token for token, number in WORDS.vocabulary.items()}
    return [names[number] for number in WORDS.pieces(caption)]


def test_words_digits_and_signs_are_cut_apart():
    assert _spelled("The red star") == ["the</w>", "red</w>", "star</w>"]
    assert _spelled("x12!!") == ["x</w>", "1</w>", "2</w>", "!", "!</w>"]
    assert _spelled("é") == ["Ã", "©</w>"]
    assert _spelled("") == []


def test_rows_have_start_and_end_and_are_padded_or_cut():
    short, empty, long = WORDS.rows(["a red star", "", "star " * 40])
    red = [WORDS.vocabulary[f"{word}</w>"] for word in ("a", "red", "star")]
    assert short.tolist() == [START, *red, END] + [0] * 27
    assert empty.tolist() == [START, END] + [0] * 30
    assert long.tolist() == [START, *[red[2]] * 30, END]
    assert all(row.argmax() == row.tolist().index(END) for row in (short, empty, long))
    assert short.dtype == np.int32


def test_the_same_tokens_as_transformers_reads_from_the_folder():
    from transformers import CLIPTokenizer

    theirs = CLIPTokenizer.from_pretrained(generated.VOCABULARY)
    for caption in ("a banded crimson crucifix falls", "don't, 3 zebras & x_y", "naïve"):
        assert theirs(caption)["input_ids"] == [START, *WORDS.pieces(caption), END]


def test_openais_file_is_read_too(tmp_path):
    folder = tmp_path / "folder"
    lines = (generated.VOCABULARY / "merges.txt").read_text().splitlines()
    released = tmp_path / tokens.RELEASED
    with gzip.open(released, "wt", encoding="utf-8") as file:
        file.write("\n".join(['"bpe_simple_vocab_16e6.txt#version: 0.2', *lines[1:]]) + "\n")
    same = ClipTokens("released", released)
    assert same.sha256 == WORDS.sha256
    assert same.pieces("a huge golden honeycomb") == WORDS.pieces("a huge golden honeycomb")
    folder.mkdir()
    (folder / "merges.txt").write_text("\n".join(lines))
    numbers = dict(WORDS.vocabulary)
    numbers["a</w>"], numbers[tokens.END] = numbers[tokens.END], numbers["a</w>"]
    (folder / "vocab.json").write_text(json.dumps(numbers))
    with pytest.raises(DataError, match="is not its last token"):
        ClipTokens("x", folder)


def test_a_vocabulary_that_is_not_there_or_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    with pytest.raises(DataError, match=r"put vocab.json and merges.txt, or OpenAI's bpe_simple"):
        tokens.published(tmp_path)
    with pytest.raises(DataError, match="no such vocabulary"):
        tokens.published(tmp_path, tmp_path / "nowhere.gz")
    (tmp_path / "x.gz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.gz: "):
        tokens.published(tmp_path, tmp_path / "x.gz")
    local = tmp_path / "weights" / tokens.PUBLISHED
    local.mkdir(parents=True)
    for name in (tokens.VOCABULARY, tokens.MERGES):
        (local / name).write_bytes((generated.VOCABULARY / name).read_bytes())
    found = tokens.published(tmp_path)
    assert (found.sha256, found.name) == (WORDS.sha256, "vocab.json")  # CLIP's own has other tokens
