"""Files of weights that bring code along: their tensors are read, their code is not run."""

from __future__ import annotations

import argparse
import io
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn

from benchmarks import backbones, hub_weights, weights
from benchmarks.harness.errors import UsageError
from benchmarks.training import checkpoint
from data_prep import saved_tensors
from data_prep.embedded import pretrain, pretrain_clip

ADVICE = ("weights_only", "Re-running", "add_safe_globals", "trust")


class Creates:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


class Scripted(nn.Module):
    """Creates a file when ``torch.jit.load`` reads it."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.weight = nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self) -> tuple[str, torch.Tensor, bool]:
        return (self.path, self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]) -> None:
        made = torch.from_file(state[0], True, 2, dtype=torch.float32)
        self.path, self.weight, self.training = state[0], state[1] + made, state[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def _scripted(module, file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some releases call torch.jit deprecated
        torch.jit.save(torch.jit.script(module), file)


def _hostile(kind, folder):
    """Return a file that creates ``folder/made`` when it is run."""
    file, made = folder / "x.pth", folder / "made"
    if kind == "zip":
        torch.save({"weight": torch.zeros(2), "more": Creates(made)}, file)
    elif kind == "legacy":
        more = {"more": Creates(made)}
        torch.save(more, file, _use_new_zipfile_serialization=False)
    elif kind.startswith("pickle"):
        file.write_bytes(pickle.dumps({"more": Creates(made)}, protocol=int(kind[-1])))
    elif kind == "torchscript":
        _scripted(Scripted(str(made)), file)
        made.unlink(
            missing_ok=True
        )  # the compiler has run nothing; this is for the release that does
    else:  # a call in place of a module of the archive
        _scripted(nn.Linear(2, 2), file)
        with zipfile.ZipFile(file) as there:
            entries = {name: there.read(name) for name in there.namelist()}
        with zipfile.ZipFile(file, "w") as other:
            for name, content in entries.items():
                other.writestr(
                    name,
                    pickle.dumps(Creates(made), 2) if name.endswith("/data.pkl") else content,
                )
    return file, made


KINDS = ["zip", "legacy", "pickle2", "pickle4", "torchscript", "call in torchscript"]


def _readers(folder):
    """Whatever reads a file of torch.save, as a person meets it: told where the file is."""
    common = ["--work", str(folder), "--out", str(folder)]
    text = pretrain_clip.Run(pretrain_clip.parser().parse_args(["--steps", "1", *common]))
    image = pretrain.Run(pretrain.parser().parse_args(common))
    linear = nn.Linear(2, 2)
    return {
        "hub": lambda file: hub_weights.load(linear, file, lambda raw: raw),
        "timm": lambda file: weights.load(
            nn.ModuleDict({"body": linear, "head": nn.Linear(1, 1)}), "head", file
        ),
        "text": lambda file: _resume(text, file),
        "image": lambda file: _resume(image, file),
    }


def _resume(run, file):
    run.checkpoint = file
    run.resume()


def test_nothing_is_run_by_any_reader_and_nobody_is_told_to_run_it(tmp_path):
    readers = _readers(tmp_path)
    for kind in KINDS:
        file, made = _hostile(kind, tmp_path)
        for name, read in readers.items():
            with pytest.raises((UsageError, saved_tensors.Refused)) as refusal:
                read(file)
            assert not made.exists(), (kind, name)
            told = str(refusal.value)
            assert "\n" not in told, (kind, name)
            assert not [word for word in ADVICE if word in told], (kind, name, told)


@pytest.mark.parametrize("kind", ["zip", "torchscript"])
def test_the_hostile_files_do_create_theirs_where_they_are_run(kind, tmp_path):
    file, made = _hostile(kind, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "zip":
            torch.load(file, weights_only=False)
        else:
            torch.jit.load(str(file))
    assert made.exists()


def test_a_last_epoch_with_code_and_the_right_hash_is_left_out_in_one_line(tmp_path):
    file, made = _hostile("zip", tmp_path)
    content = file.read_bytes()
    file.rename(tmp_path / checkpoint.LAST_EPOCH)
    with (tmp_path / checkpoint.LAST_EPOCH).open("ab") as end:
        end.write(checkpoint.hashlib.sha256(content).digest())
    with pytest.warns(UserWarning, match=r"it names _?io\.open.* begins anew") as told:
        assert checkpoint.load_epoch(tmp_path, "x", "cpu") is None
    assert not made.exists()
    assert not [word for word in ADVICE if word in str(told[0].message)]


def test_an_archive_of_torchscript_gives_its_state(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(1, 2, 3)))
    module.register_buffer("empty", torch.zeros(0, 3))
    module.register_buffer("strided", torch.arange(12.0).view(3, 4).T[1:])
    module.half()
    _scripted(module, tmp_path / "x.pt")
    found = saved_tensors.read(tmp_path / "x.pt")
    meant = module.state_dict()
    assert found.keys() == meant.keys()
    for name, value in meant.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype


def test_weights_beside_the_options_of_a_training_are_read(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1.0), "model": {"a": torch.ones(1)}}, tmp_path / "x")
    assert saved_tensors.read(tmp_path / "x")["model"]["a"].item() == 1.0


@pytest.mark.parametrize("size", [0, 1, 100, 900])
@pytest.mark.parametrize("kind", ["save", "script"])
def test_a_file_that_is_cut_off_is_one_line(size, kind, tmp_path):
    whole = io.BytesIO()
    if kind == "save":
        torch.save({"a": torch.ones(100)}, whole)
    else:
        _scripted(nn.Linear(9, 9), whole)
    (tmp_path / "x.pt").write_bytes(whole.getvalue()[:size])
    with pytest.raises(saved_tensors.Refused) as refusal:
        saved_tensors.read(tmp_path / "x.pt")
    assert "\n" not in str(refusal.value)
    assert not [word for word in ADVICE if word in str(refusal.value)]


def test_backbones_of_the_embedded_world_are_safetensors():
    assert not [path for path in backbones.EMBEDDED.rglob("*") if path.suffix in (".pt", ".bin")]
