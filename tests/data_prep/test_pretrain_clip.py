"""The program that pre-trains the embedded world's CLIP."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks.msrvtt import clip
from data_prep.embedded import pretrain_clip
from data_prep.msrvtt.generated import VOCABULARY
from data_prep.msrvtt.tokens import ClipTokens


def _run(folder, *more):
    where = ["--out", str(folder), "--work", str(folder / "work")]
    (folder / "work").mkdir(parents=True, exist_ok=True)
    settings = ["--steps", "4", "--batch", "4", *more]
    return pretrain_clip.Run(pretrain_clip.parser().parse_args([*settings, *where]))


@pytest.mark.slow
def test_the_program_trains_and_goes_on_where_it_was(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _run(whole).train()
    second = _run(parts)
    second.update()
    second.update()
    second.save()
    third = _run(parts)
    assert third.resume()
    assert third.step == 2
    third.train()
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not _run(parts, "--lr", "0.1").resume()
    made = json.loads((whole / "record.json").read_text())
    assert made["finished"]
    assert made["steps"] == 4
    assert made["bytes"] == (whole / "model.safetensors").stat().st_size < 4_000_000


def test_the_folder_is_read_by_transformers(tmp_path):
    from transformers import CLIPModel

    run = _run(tmp_path)
    run.export(finished=False)
    model = CLIPModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert model.config.text_config.eos_token_id == run.words.about()["special"]["end"]
    tokens = torch.from_numpy(run.words.rows(["a red star on the sand", "a disc"])).long()
    images = pretrain_clip.pixels(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8).numpy())
    with torch.no_grad():
        found, meant = (
            network(input_ids=tokens, pixel_values=images).logits_per_image
            for network in (model, run.model.eval())
        )
    torch.testing.assert_close(found, meant, rtol=2e-2, atol=2e-2)


def test_a_few_steps_on_one_batch_lower_its_loss(tmp_path):
    run = _run(tmp_path, "--batch", "8")
    batch = pretrain_clip.upstream.batch(run.words, 0, 0, 8, pretrain_clip.SIZE)
    losses = []
    optimiser = torch.optim.AdamW(run.model.parameters(), lr=1e-3)
    for _ in range(12):
        loss = pretrain_clip.loss_of(pretrain_clip.scores(run.model, batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_the_committed_weights_are_those_of_the_record():
    made = json.loads((VOCABULARY / "record.json").read_text())
    content = (VOCABULARY / "model.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == made["sha256"]
    assert len(content) == made["bytes"] <= 4_000_000
    assert (made["name"], made["finished"]) == (pretrain_clip.NAME, True)
    assert made["steps"] == made["arguments"]["steps"]
    words = ClipTokens(pretrain_clip.NAME, VOCABULARY)
    assert made["vocabulary"] == {"size": len(words.vocabulary), "sha256": words.sha256}
    state = load_file(VOCABULARY / "model.safetensors")
    assert {value.dtype for value in state.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(value).all() for value in state.values())
    assert sum(value.size for value in state.values()) == made["parameters"]


def test_the_committed_network_is_the_one_that_benchmarks_build():
    meant = pretrain_clip.network(ClipTokens(pretrain_clip.NAME, VOCABULARY)).config
    built = clip.empty("clip_micro")
    for part in ("text_config", "vision_config"):
        theirs, ours = getattr(meant, part).to_dict(), getattr(built.config, part).to_dict()
        assert theirs == ours
    assert meant.projection_dim == built.config.projection_dim
    assert clip.TOWERS["clip_micro"].tokens == meant.text_config.vocab_size
    clip.load(built, VOCABULARY / "model.safetensors")
    state = load_file(VOCABULARY / "model.safetensors")
    for name, parameter in built.named_parameters():
        assert np.array_equal(parameter.detach().numpy(), state[name].astype(np.float32))
