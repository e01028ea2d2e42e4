"""MSR-VTT cells: they run, share stage 1, go on after a kill, and say what does not fit."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import pending, run_group
from benchmarks.harness.registry import select
from benchmarks.msrvtt import data, throughput
from benchmarks.msrvtt.data import pairs_of
from benchmarks.msrvtt.problem import VideoTextRetrieval
from benchmarks.msrvtt.spec import METHODS, MSRVTT
from benchmarks.training.two_stage import adapt, regularizer_of

CELL = "msrvtt/clip_micro/1ka"


def settled(settings, **overrides):
    return dataclasses.replace(settings, overrides=settings.overrides | overrides)


def run(settings, *methods):
    cells = pending(select([f"{CELL}/{method}" for method in methods], "smoke"), settings)
    torch.manual_seed(99)
    run_group(cells, settings, lambda event: None)
    return [settings.store.load(cell) for cell in cells]


def context_of(settings):
    return Context(
        data=settings.data, work=settings.work, device="cpu", on_epoch=lambda *_: None, weights=None
    )


def problem_of(settings, method="lora-r8"):
    config = settings.config(Cell.parse(f"{CELL}/{method}/0"))
    return config, VideoTextRetrieval(config, context_of(settings))


def adapted(settings, method):
    config, problem = problem_of(settings, method)
    options = {key: value for key, value in config["method"].items() if key != "name"}
    model, _ = adapt(Cell.parse(f"{CELL}/{method}/0"), options, problem)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return config, problem, model


def test_the_grid_is_the_papers_rows_and_the_control():
    assert len(METHODS) == 13
    for scale in MSRVTT.scales.values():
        cells = list(MSRVTT.cells(scale))
        assert len(cells) == 13 * len(scale.seeds)
        for cell in cells:
            assert all(MSRVTT.sources(cell, scale).values())
    paper = MSRVTT.scales["paper"]
    full, lora = (
        MSRVTT.config(Cell("msrvtt", "clip_vit_b32", "1ka", method, 0), paper)["stage1"]
        for method in ("full", "lora-r8")
    )
    recipe = {"epochs": 5, "batch_size": 128, "learning_rate": 1e-4, "warmup_epochs": 0.5}
    assert recipe.items() <= full.items()
    assert recipe.items() <= lora.items()
    assert (full["rate_factors"], full["weight_decay"]) == ({"pretrained": 0.1}, 0.05)
    assert (lora["rate_factors"], lora["weight_decay"]) == ({"pretrained": 1.0}, 0.2)
    assert MSRVTT.selections == ("last_epoch", "best_val", "max_test")


@pytest.mark.parametrize("head", ["seqTransf", "seqLSTM", "tightTransf"])
def test_every_head_runs(settings, head):
    (record,) = run(settled(settings, **{"model.head": head}), "lora-r8")
    assert (record["status"], record["error"]) == ("ok", None)
    assert record["cost"]["head_params"] > 0


@pytest.mark.parametrize(
    "changed",
    [
        {"training.chunk": 8},
        pytest.param({"training.precision": "bf16"}, marks=pytest.mark.slow),
    ],
)
def test_chunks_and_bfloat16_come_to_the_same(settings, changed):
    direct = run(settings, "lora-r8", "lora-r8+linear")
    other = run(
        settled(dataclasses.replace(settings, results=settings.results / "2"), **changed),
        "lora-r8",
        "lora-r8+linear",
    )
    bound = 1e-4 if "training.chunk" in changed else 0.05
    for one, two, stage in zip(direct, other, ("stage1", "stage2"), strict=True):
        assert two["status"] == "ok"
        for series in ("train_loss", "penalty"):
            values = [one["curves"][stage][series], two["curves"][stage][series]]
            if values[0][0] is not None:
                assert values[1] == pytest.approx(values[0], rel=bound)


@pytest.mark.slow
def test_two_processes_come_to_the_same_as_one(settings):
    """Their gradients are compared in test_msrvtt_model.py; here that they go through a whole cell."""
    (alone,) = run(settings, "lora-r8")
    settings = dataclasses.replace(
        settings, results=settings.results / "2", work=settings.work / "2"
    )
    (both,) = run(settled(settings, **{"training.processes": 2}), "lora-r8")
    assert (both["status"], both["error"]) == ("ok", None)
    losses = [one["curves"]["stage1"]["train_loss"] for one in (alone, both)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_without_a_held_out_part_there_is_no_number_by_it(settings):
    whole = settled(settings, **{"data.held_out": 0, "data.limit_train": None})
    (record,) = run(whole, "partial")
    assert record["counts"]["n_train_clips"] == 60
    assert record["metrics"]["rsum"]["best_val"] is None
    assert record["metrics"]["rsum"]["last_epoch"] is not None


def test_training_learns_what_captions_say(settings):
    more = {"stage1.epochs": 12, "stage1.evaluate_every": 12, "stage1.learning_rate": 1e-3}
    more |= {"data.limit_train": None, "data.held_out": 20}
    (record,) = run(settled(settings, **more, **{"stage1.rate_factors": {"pretrained": 1}}), "full")
    losses = record["curves"]["stage1"]["train_loss"]
    assert losses[-1] < 0.6 * math.log(32)
    assert losses[0] > 0.9 * math.log(32)


def test_the_scale_of_cosines_stays_below_100(settings):
    _, problem, model = adapted(settings, "full")
    with torch.no_grad():
        model.clip.logit_scale.fill_(9.0)
    problem.after_step(model)
    assert model.clip.logit_scale.exp().item() == pytest.approx(100)


def test_padding_never_enters_the_penalty(settings):
    """Neither tokens behind a caption's end, nor the places of frames that a clip has not."""
    config, problem, model = adapted(settings, "lora-r8+linear")
    regularizer = regularizer_of(model, config["stage2"])
    batch = next(problem.batches(3))
    assert batch.lengths.unique().numel() > 2
    assert batch.counts.unique().numel() > 2
    assert len(batch.frames) == batch.counts.sum()
    padding = torch.arange(batch.tokens.shape[1]) >= batch.lengths.unsqueeze(1)
    other = batch._replace(tokens=batch.tokens.masked_fill(padding, 321))
    wider = batch._replace(tokens=torch.nn.functional.pad(batch.tokens, (0, 7), value=5))
    model.train()
    found = []
    for one in (batch, other, wider):
        loss = problem.loss(model, one)
        found.append((regularizer(mask=problem.mask).item(), loss.item()))
    assert found[0][0] > 0
    for pair in found[1:]:
        assert pair == pytest.approx(found[0], rel=1e-4)
    # Without the mask it would change; so would it with frames of zeros in the empty places.
    problem.loss(model, wider)
    assert regularizer().item() != pytest.approx(found[0][0], rel=1e-3)
    full = batch._replace(
        frames=torch.cat((batch.frames, torch.zeros_like(batch.frames[:20]))),
        counts=batch.counts.clone(),
    )
    full.counts[-1] += 20
    problem.loss(model, full)
    assert regularizer(mask=problem.mask).item() != pytest.approx(found[0][0], rel=1e-3)
    regularizer.close()


def test_a_split_is_what_its_files_say(settings):
    folder = data.require(settings.data, "embedded")
    split = data.load_list(folder, "train_7k")
    frames = load_file(folder / "train.frames.safetensors")
    captions = load_file(folder / "train.captions.safetensors")
    index = torch.tensor([7, 2, 7])
    batch = pairs_of(split, index)
    start = 0
    for row, caption in enumerate(index.tolist()):
        clip = int(split.clips[split.owner[caption]])
        number = int(frames["counts"][clip])
        assert clip % 2 == 0
        assert torch.equal(batch.frames[start : start + number], frames["frames"][clip, :number])
        start += number
        mine = (captions["clips"] == clip).nonzero().flatten().tolist()
        said = [captions["tokens"][one][captions["tokens"][one] > 0].tolist() for one in mine]
        assert batch.tokens[row][: batch.lengths[row]].tolist() in said


def test_what_is_held_out_is_not_trained_on(settings):
    folder = data.require(settings.data, "embedded")
    whole = data.load_list(folder, "train_9k")
    train, held_out = whole.parted(15)
    assert (len(train.clips), len(held_out.clips)) == (45, 15)
    assert sorted([*train.clips.tolist(), *held_out.clips.tolist()]) == list(range(60))
    assert torch.equal(held_out.owner, torch.arange(15))
    assert (len(train.owner), len(held_out.tokens)) == (90, 15)
    again, _ = whole.parted(15)
    assert torch.equal(again.clips, train.clips)
    with pytest.raises(ValueError, match=r"60 of 60 .* \(data\.held_out\)"):
        whole.parted(60)


def copied(settings, tmp_path):
    shutil.copytree(settings.data / "embedded" / "msrvtt", tmp_path / "d/embedded/msrvtt")
    return tmp_path / "d", tmp_path / "d/embedded/msrvtt"


def refused(root, settings):
    with pytest.raises(UsageError) as caught:
        problem_of(dataclasses.replace(settings, data=root))
    return str(caught.value)


def test_what_is_not_as_the_manifest_says_is_refused(settings, tmp_path):
    root, folder = copied(settings, tmp_path)
    for name in ("train.frames", "test.captions", "lists"):
        file = folder / f"{name}.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:-4] + b"abcd")
        assert f"{name}.safetensors is missing or differs" in refused(root, settings)
        file.write_bytes(whole)
    manifest = json.loads((folder / "manifest.json").read_text())
    for key, value, said in (
        ("size", 224, "224 pixels in height and width, clip_micro has 32"),
        ("tokenizer", {"size": 49_408}, "49408 tokens in the vocabulary, clip_micro has 994"),
    ):
        (folder / "manifest.json").write_text(json.dumps(manifest | {key: value}))
        assert said in refused(root, settings)


def test_settings_that_do_not_exist_are_refused(settings):
    for key, value, said in (
        ("evaluation.ties", "lower", "higher or clip4clip"),
        ("model.head", "maxP", "meanP, seqTransf"),
        ("stage1.rate_factors", {"added": 0.1}, "only 'pretrained' parameters have a factor"),
        ("data.test", "test_1kb", "list of clips"),
    ):
        changed = settled(settings, **{key: value})
        with pytest.raises(UsageError) as caught:
            problem_of(changed)[1].build()
        assert said in str(caught.value)


def test_throughput_times_methods_in_turns(capsys):
    options = ["--scale=smoke", "--methods", "partial", "lora-r8+linear", "--batch=8"]
    more = ["--rounds=1", "--device=cpu", "--without-memory", "--chunk=4"]
    assert throughput.main([*options, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["methods"]) == {"partial", "lora-r8+linear"}
    for method in found["methods"].values():
        assert method["seconds"]["median"] > 0
    assert found["settings"] == {"training.chunk": 4}
    assert throughput.main(["--methods", "lora-r9"]) == 2
    assert "did you mean 'lora-r8'" in capsys.readouterr().err
