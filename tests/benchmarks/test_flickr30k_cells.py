"""Flickr30K cells: they run, share stage 1, go on after a kill, and a collapse is known for one."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from benchmarks.flickr30k import bert, data, throughput
from benchmarks.flickr30k.problem import ImageTextRetrieval
from benchmarks.flickr30k.spec import FLICKR30K, METHODS
from benchmarks.harness.cell import Cell
from benchmarks.harness.context import Context
from benchmarks.harness.errors import UsageError
from benchmarks.harness.execute import pending, run_group
from benchmarks.harness.registry import select
from benchmarks.training.retrieval_throughput import peak_of_process
from benchmarks.training.trainer import Plan
from benchmarks.training.two_stage import adapt, regularizer_of

CELL = "flickr30k/bert_micro/f30k"


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
    return config, ImageTextRetrieval(config, context_of(settings))


def test_the_grid_is_the_papers_rows_and_the_control():
    assert len(METHODS) == 13
    for scale in FLICKR30K.scales.values():
        cells = list(FLICKR30K.cells(scale))
        assert len(cells) == 13 * len(scale.seeds)
        for cell in cells:
            sources = FLICKR30K.sources(cell, scale)
            assert all(sources.values())
    paper = FLICKR30K.config(
        Cell("flickr30k", "bert_base", "f30k", "full", 0), FLICKR30K.scales["paper"]
    )["stage1"]
    recipe = {"epochs": 25, "batch_size": 128, "learning_rate": 5e-4, "decay_epoch": 15}
    recipe |= {"clip_norm": 2.0, "weight_decay": 1e-4, "rate_factors": {"bert": 0.1}}
    assert recipe.items() <= paper.items()


def test_a_collapse_is_recorded_with_its_reason(settings, blind_pairs):
    settings = dataclasses.replace(
        settled(
            settings,
            **{"stage1.epochs": 25, "stage1.warm_epochs": 0, "stage1.decay_epoch": 40,
               "stage1.learning_rate": 0.05, "stage1.evaluate_every": 25},
        ),
        data=blind_pairs,
    )  # fmt: skip
    (record,) = run(settings, "bitfit")
    assert record["status"] == "diverged"
    assert "collapsed: the loss under the hardest negatives" in record["error"]
    assert "have 25.6 (2 x batch x margin = 2 x 64 x 0.2)" in record["error"]
    assert record["metrics"] == {}


def test_what_is_no_collapse(settings):
    config, problem = problem_of(settings)
    level = problem.chance_loss
    assert level == pytest.approx(25.6)
    problem.warm_epochs = 1
    assert problem.why_diverged([level], is_last=True) is None  # all negatives counted
    assert problem.why_diverged([900, level], is_last=False) is None
    assert problem.why_diverged([900, 0.9 * level], is_last=True) is None
    assert problem.why_diverged([900, 1.3 * level], is_last=True) is None
    assert "ended" in problem.why_diverged([900, level], is_last=True)
    assert "3 epochs" in problem.why_diverged([900, level, level, level], is_last=False)
    assert problem.why_diverged([900, level, 1.02 * level, level], is_last=False) is None
    # A run that learns comes by this loss on its way down.
    problem.spreads = [torch.tensor(0.05)]
    assert problem.why_diverged([900, level, level, level], is_last=True) is None
    problem.start_epoch(3, Plan.of(config["stage1"]))
    assert problem.spreads == []


def test_padding_does_not_enter_the_penalty(settings):
    config, problem = problem_of(settings, "lora-r8+linear")
    cell = Cell.parse(f"{CELL}/lora-r8+linear/0")
    options = {key: value for key, value in config["method"].items() if key != "name"}
    model, _ = adapt(cell, options, problem)
    for name, parameter in model.named_parameters():
        if "lora_b" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    regularizer = regularizer_of(model, config["stage2"])
    batch = next(problem.batches(3))
    assert batch.piece_lengths.unique().numel() > 2
    padding = torch.arange(batch.pieces.shape[1]) >= batch.piece_lengths.unsqueeze(1)
    other = batch._replace(pieces=batch.pieces.masked_fill(padding, 321))
    wider = batch._replace(pieces=torch.nn.functional.pad(batch.pieces, (0, 7), value=5))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    penalties = []
    for one in (batch, other, wider):
        problem.loss(model, one)
        penalties.append(regularizer(mask=problem.mask).item())
    assert penalties[0] > 0
    assert penalties[1:] == pytest.approx([penalties[0]] * 2, rel=1e-4)
    # Without the mask it would change.
    problem.loss(model, wider)
    assert regularizer().item() != pytest.approx(penalties[0], rel=1e-3)
    regularizer.close()


def test_features_stay_in_their_file(settings):
    folder = data.folder_of(settings.data, "embedded")
    train = data.load_split(folder, "train")
    whole = np.load(folder / "train_ims.npy")
    assert isinstance(train.features._rows, np.memmap)
    rows = torch.tensor([3, 0, 3, 9])
    assert torch.equal(train.features.take(rows), torch.from_numpy(whole[rows.numpy()]))


def test_captions_are_taken_in_any_order(settings):
    folder = data.folder_of(settings.data, "embedded")
    captions = data.load_split(folder, "train").captions
    index = torch.tensor([7, 2, 7])
    found = captions.take(index)
    for position, caption in enumerate(index.tolist()):
        first, last = captions.starts[caption], captions.starts[caption + 1]
        pieces = captions.pieces[captions.words[first] : captions.words[last]]
        mine = found.captions == position
        assert torch.equal(found.pieces[mine], pieces)
        assert found.words[mine].unique().numel() == last - first
    assert found.words.unique().numel() == int(found.words.max()) + 1


def copied(settings, tmp_path):
    shutil.copytree(settings.data / "embedded" / "flickr30k", tmp_path / "d/embedded/flickr30k")
    return tmp_path / "d", tmp_path / "d/embedded/flickr30k"


def refused(root, settings):
    with pytest.raises(UsageError) as caught:
        problem_of(dataclasses.replace(settings, data=root))
    return str(caught.value)


def test_what_is_not_as_the_manifest_says_is_refused(settings, tmp_path):
    root, folder = copied(settings, tmp_path)
    features = folder / "dev_ims.npy"
    whole = features.read_bytes()
    features.write_bytes(whole[:-100])
    assert "dev_ims.npy cannot be read as features" in refused(root, settings)
    features.write_bytes(whole[:-4] + b"abcd")
    assert "dev_ims.npy is not the file that was prepared" in refused(root, settings)
    features.write_bytes(whole)
    captions = folder / "test.captions.safetensors"
    captions.write_bytes(captions.read_bytes()[:-1])
    assert "test.captions.safetensors is missing or differs" in refused(root, settings)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tokenizer"]["size"] = 30_522
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "bert_micro has 475" in refused(root, settings)


def test_weights_of_the_hub_take_their_published_names(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    there, here = bert.empty("bert_micro"), bert.empty("bert_micro")
    state = {}
    for name, value in there.state_dict().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        state[f"bert.{name.replace('LayerNorm.bias', 'LayerNorm.beta')}"] = value.contiguous()
    state["cls.predictions.bias"] = torch.zeros(475)
    save_file(state, tmp_path / "model.safetensors")
    bert.load(here, tmp_path / "model.safetensors")
    for one, other in zip(there.parameters(), here.parameters(), strict=True):
        assert torch.equal(one, other)
    del state["bert.pooler.dense.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=r"1 tensors differ, such as pooler\.dense\.bias"):
        bert.load(here, tmp_path / "model.safetensors")


def test_throughput_times_methods_in_turns(capsys):
    options = ["--scale=smoke", "--methods", "partial", "lora-r8+linear", "--batch=8"]
    assert throughput.main([*options, "--rounds=1", "--device=cpu", "--without-memory"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["methods"]) == {"partial", "lora-r8+linear"}
    for method in found["methods"].values():
        assert method["seconds"]["median"] > 0
        assert method["memory_bytes"] is None
    assert found["batch"] == 8
    cell = Cell.parse(f"{CELL}/lora-r8/0")
    config = throughput.TIMED.config(cell, "smoke", 8, {})
    assert peak_of_process(throughput.TIMED.problem, cell, config) > 1e8
    assert throughput.main(["--methods", "lora-r9"]) == 2
    assert "did you mean 'lora-r8'" in capsys.readouterr().err
