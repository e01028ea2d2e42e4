"""The embedded world's Flickr30K: scenes, captions, regions; packed whole, the same bytes each time."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from data_prep import cli
from data_prep.embedded import flickr30k
from data_prep.embedded.flickr30k import captions, vocabulary
from data_prep.embedded.flickr30k.lexicon import BROAD, FLICKR
from data_prep.embedded.flickr30k.scene import Thing, relations
from data_prep.flickr30k import generated, packed
from data_prep.flickr30k.tokens import WordPieces

VOCABULARY = generated.VOCABULARY
WORDS = WordPieces("bert_micro", VOCABULARY)


def _run(capsys, *argv):
    code = cli.main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    data = tmp_path_factory.mktemp("embedded")
    return generated.prepare(data).parents[1]


def test_the_embedded_world_is_prepared_whole(capsys, embedded):
    folder = embedded / "embedded" / "flickr30k"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"schema", "benchmark", "variant", "splits", "tokenizer"} <= manifest.keys()
    special = manifest["tokenizer"]["special"]
    assert special == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    for split, images in flickr30k.SPLITS.items():
        entry = manifest["splits"][split]
        features = np.load(folder / entry["features"]["file"], mmap_mode="r")
        assert features.shape == (images, entry["regions"], entry["dim"])
        assert features.dtype == np.float32
        assert (features >= 0).all()
        arrays = load_file(folder / f"{split}.captions.safetensors")
        assert {k: v.dtype.name for k, v in arrays.items()} == {
            "pieces": "int32",
            "words": "int64",
            "captions": "int64",
            "image": "int64",
        }
        assert arrays["image"].tolist() == [k // 5 for k in range(5 * images)]
        assert special["unk"] not in arrays["pieces"]
    assert _run(capsys, "verify", "flickr30k", "--data", embedded)[0] == 0
    assert "prepared: embedded" in _run(capsys, "ls", "--data", embedded)[1]


def test_word_pieces_spell_the_captions(embedded):
    folder = embedded / "embedded" / "flickr30k"
    arrays = load_file(folder / "test.captions.safetensors")
    pieces = VOCABULARY.read_text().split("\n")
    lines = (folder / "test.caps.txt").read_text().splitlines()
    longest = 0
    for number, line in enumerate(lines):
        first, last = arrays["captions"][number : number + 2]
        words = []
        for word in range(first, last):
            ids = arrays["pieces"][arrays["words"][word] : arrays["words"][word + 1]]
            longest = max(longest, len(ids))
            words.append("".join(pieces[k].removeprefix("##") for k in ids))
        assert " ".join(words) == line
    assert longest > 1


def test_a_seed_gives_the_same_bytes_and_another_gives_others(embedded, tmp_path):
    def hashes(data):
        files = sorted((data / "embedded" / "flickr30k").iterdir())
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    generated.prepare(tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(embedded)
    generated.prepare(tmp_path / "other", seed=1)
    other = hashes(tmp_path / "other")
    assert not set(other.values()) & set(hashes(embedded).values())


def test_an_image_does_not_depend_on_how_many_there_are():
    few, more = flickr30k.generate("dev", 0, 3), flickr30k.generate("dev", 0, 6)
    assert few.captions == more.captions[:15]
    assert np.array_equal(few.features, more.features[:3])


def test_captions_say_what_is_in_the_scene():
    made = flickr30k.generate("test", 0, 100)
    meaning = {
        word.replace("|", ""): name for name, words in FLICKR.nouns.items() for word in words
    }
    for number, scene in enumerate(made.scenes):
        there = {thing.category for thing in scene.things}
        assert 3 <= len(there) == len(scene.things) <= 6
        for caption in made.captions[5 * number : 5 * number + 5]:
            said = {meaning[word] for word in caption.split() if word in meaning}
            assert said
            assert said - {"lamp"} <= there  # "light" alone has no other meaning here


def test_relations_are_where_things_are():
    def thing(x, y):
        return Thing("ball", "red", "big", "plain", None, None, x, y)

    assert relations(thing(0.1, 0.5), thing(0.9, 0.5)) == ("left",)
    assert relations(thing(0.9, 0.1), thing(0.1, 0.9)) == ("right", "behind")
    assert relations(thing(0.5, 0.5), thing(0.6, 0.6)) == ("near",)


def test_regions_tell_scenes_apart_but_not_perfectly():
    """A linear map from pooled regions finds what is there far better than chance, and errs at times."""
    made = flickr30k.generate("train", 0, 900)
    pooled = np.concatenate([made.features.max(axis=1), made.features.mean(axis=1)], axis=1)
    names = list(FLICKR.nouns)
    there = np.array([[n in {t.category for t in s.things} for n in names] for s in made.scenes])
    inputs = np.concatenate([pooled, np.ones((900, 1))], axis=1)
    solution = np.linalg.lstsq(inputs[:600], there[:600].astype(float))[0]
    scores = inputs[600:] @ solution
    areas = []
    for column, present in enumerate(there[600:].T):
        if present.sum() > 10:
            inside, outside = scores[present, column], scores[~present, column]
            areas.append((inside[:, None] > outside[None]).mean())
    assert 0.7 < np.mean(areas) < 0.98


def test_every_word_has_the_pieces_that_the_lexicon_says_or_fewer():
    for word in vocabulary.words():
        ids = [piece for part in WORDS.words(word.replace("|", "")) for piece in part]
        assert WORDS.vocabulary["[UNK]"] not in ids
        assert len(ids) <= word.count("|") + 1
    assert VOCABULARY.read_text().split("\n")[:-1] == vocabulary.pieces()
    assert 300 <= len(vocabulary.pieces()) <= 600


def test_the_broader_world_is_broader_and_lacks_words_of_the_benchmark():
    def words(world):
        return {w for group in (world.nouns, world.colours) for ws in group.values() for w in ws}

    assert words(BROAD) - words(FLICKR)
    assert words(FLICKR) - words(BROAD)
    assert BROAD.places.keys() > FLICKR.places.keys()


def test_captions_of_a_scene_differ():
    made = flickr30k.generate("dev", 0, 60)
    groups = [set(made.captions[5 * k : 5 * k + 5]) for k in range(60)]
    assert all(len(group) == captions.A_SCENE for group in groups)


def test_a_family_shows_the_same_things():
    made = flickr30k.generate("test", 0, 12)
    for first in range(0, 12, flickr30k.FAMILY):
        family = made.scenes[first : first + flickr30k.FAMILY]
        assert len({tuple(t.category for t in s.things) for s in family}) == 1
        assert len(set(family)) > 1


def test_show_draws_a_sheet(capsys, embedded, tmp_path):
    out = tmp_path / "sheet.png"
    assert _run(capsys, "show", "flickr30k", "--data", embedded, "--out", out)[0] == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert _run(capsys, "show", "flickr30k", "--data", tmp_path / "nothing")[0] == 3


def test_verify_finds_what_was_changed(capsys, embedded, tmp_path):
    data = tmp_path / "data"
    folder = generated.prepare(data)
    path = folder / "dev_ims.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, out, _ = _run(capsys, "verify", "flickr30k", "--data", data)
    assert code == 1
    assert "dev_ims.npy: sha256 differs" in out
    path.unlink()
    assert _run(capsys, "verify", "flickr30k", "--data", data)[0] == 3
    assert "prepared" in _run(capsys, "prepare", "flickr30k", "--data", data)[1]
    assert path.read_bytes() == content


def test_verify_looks_into_captions_whose_hash_is_right(capsys, tmp_path):
    folder = generated.prepare(tmp_path)
    path = folder / packed.captions_file("dev")
    arrays = np.memmap(path, mode="r+")
    arrays[-4:] = 255  # the last piece
    arrays.flush()
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["splits"]["dev"]["captions_sha256"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    code, out, _ = _run(capsys, "verify", "flickr30k", "--data", tmp_path)
    assert code == 1
    assert "pieces outside 0 to" in out
