"""The program that pre-trains the embedded world's CLIP."""

from __future__ import annotations

import json

import torch

from data_prep.embedded import pretrain_clip


def _run(folder, *more):
    where = ["--out", str(folder), "--work", str(folder / "work")]
    (folder / "work").mkdir(parents=True, exist_ok=True)
    settings = ["--steps", "4", "--batch", "4", *more]
    return pretrain_clip.Run(pretrain_clip.parser().parse_args([*settings, *where]))


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
