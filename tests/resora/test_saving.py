"""What a method trained, in a file: it comes back to the same function, and to no other model."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
from torch import nn

from resora import merge
from resora.adapted import adapter_state, applied_to, load, save
from resora.petl import make_method
from resora.petl.base import Method
from tests.resora.small_vision import images, trained, unchanged, vit

METHODS = (
    "lora-r2", "moslora-r2", "ssf", "bitfit", "adapter", "adaptformer", "partial", "linear", "full",
)  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_plain_backbone_and_the_file_make_the_trained_model(name, tmp_path):
    model = trained(name)
    save(model, tmp_path / "one.safetensors")
    plain = vit()
    nn.init.zeros_(plain.head.weight)
    applied = load(plain, tmp_path / "one.safetensors")
    assert torch.equal(plain(images()), model(images()))
    assert applied == applied_to(model)
    assert adapter_state(plain).keys() == adapter_state(model).keys()


def test_options_come_back_as_they_were(tmp_path):
    model = trained("lora-r2", scale=0.3, targets=("q", "proj"))
    save(model, tmp_path / "one.safetensors")
    plain = vit()
    assert load(plain, tmp_path / "one.safetensors").method == applied_to(model).method
    assert torch.equal(plain(images()), model(images()))


def test_an_adapted_model_loads_in_place(tmp_path):
    model, other = trained(), trained()
    nn.init.zeros_(other.blocks[0].attn.qkv.lora_b)
    save(model, tmp_path / "one.safetensors")
    kept = other.blocks[0].attn.qkv.lora_b
    load(other, tmp_path / "one.safetensors")
    assert other.blocks[0].attn.qkv.lora_b is kept
    assert torch.equal(other(images()), model(images()))


def test_the_file_holds_the_trained_part_alone(tmp_path):
    model = trained()
    save(model, tmp_path / "one.safetensors")
    found = safetensors.torch.load_file(tmp_path / "one.safetensors")
    assert found.keys() == adapter_state(model).keys()
    values = sum(t.numel() for t in found.values())
    assert (tmp_path / "one.safetensors").stat().st_size < 4 * values + 2048


def test_half_precision_halves_the_file_and_keeps_the_type_of_the_model(tmp_path):
    model = trained("lora-r8")
    save(model, tmp_path / "full.safetensors")
    save(model, tmp_path / "half.safetensors", dtype=torch.float16)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    plain = vit()
    load(plain, tmp_path / "half.safetensors")
    assert plain(images()).dtype == torch.float32
    torch.testing.assert_close(plain(images()), model(images()), rtol=1e-2, atol=1e-2)


def test_what_does_not_fit_into_half_precision_is_refused(tmp_path):
    model = trained()
    nn.init.constant_(model.head.bias, 1e6)
    with pytest.raises(ValueError, match=r"'head\.bias' has values that do not fit"):
        save(model, tmp_path / "one.safetensors", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


def test_a_head_is_kept_with_its_buffers_and_its_frozen_parts(tmp_path):
    def with_norm():
        model = vit()
        model.head = nn.Sequential(nn.BatchNorm1d(24), model.head)
        return model

    model = trained(model=with_norm())
    model.train()(images())
    model.head[0].requires_grad_(False)
    save(model.eval(), tmp_path / "one.safetensors")
    plain = with_norm().eval()
    load(plain, tmp_path / "one.safetensors")
    assert torch.equal(plain(images()), model(images()))
    assert plain.head[0].num_batches_tracked == 1


def test_tied_weights_are_written_and_read(tmp_path):
    model = trained("full")
    model.blocks[2].norm1.weight = model.blocks[1].norm1.weight
    model.blocks[2].norm1.bias.data = model.blocks[1].norm1.bias.data
    save(model, tmp_path / "one.safetensors")
    found = safetensors.torch.load_file(tmp_path / "one.safetensors")
    assert "blocks.2.norm1.weight" not in found
    assert torch.equal(found["blocks.2.norm1.bias"], found["blocks.1.norm1.bias"])


class Compiled(nn.Module):
    """As `torch.compile` wraps a model, without the seconds that it takes to load."""

    def __init__(self, model):
        super().__init__()
        self._orig_mod = model


def test_a_wrapped_model_is_saved_as_the_model_in_it(tmp_path):
    model = trained()
    save(Compiled(nn.DataParallel(model)), tmp_path / "new" / "one.safetensors")
    plain = vit()
    load(Compiled(plain), tmp_path / "new" / "one.safetensors")
    assert torch.equal(plain(images()), model(images()))


@pytest.mark.parametrize("plain", [vit, lambda: merge(trained())], ids=["plain", "merged"])
def test_a_plain_model_has_nothing_to_save(plain, tmp_path):
    model = plain()
    with pytest.raises(ValueError, match="VisionTransformer is not adapted"):
        save(model, tmp_path / "one.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vit(seed=1), "trained on another backbone"),
        (lambda: vit().half(), "another data type"),
        (lambda: vit(classes=7), r"the head 'head' has bias \(5,\), weight \(5, 24\) in the"),
        (lambda: vit(classes=0), "in the file and no tensors here"),
        (lambda: nn.Linear(3, 3), "the head 'head', which Linear does not have"),
        (lambda: trained("lora-r2", model=vit(seed=1)), "trained on another backbone"),
        (lambda: trained("lora-r2", scale=2.0), r"the file is of 'lora-r2' with \{'scale': 1.0\}"),
        (lambda: trained("lora-r3"), "adapted by 'lora-r3', the file is of 'lora-r2'"),
        (lambda: trained("ssf"), "adapted by 'ssf', the file is of 'lora-r2'"),
        (lambda: trained(head=""), "the head is '' here and 'head' in the file"),
    ],
)
def test_another_model_is_refused_and_left_as_it_is(make, message, tmp_path):
    save(trained(), tmp_path / "one.safetensors")
    model = make()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        load(model, tmp_path / "one.safetensors")
    assert unchanged(model, before)


def test_a_model_without_values_is_adapted_and_saved_without_a_fingerprint(tmp_path):
    with torch.device("meta"):
        model = vit()
        make_method("lora-r2").adapt(model, "head")
    model.to_empty(device="cpu")
    model.load_state_dict(
        {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    )
    save(model, tmp_path / "one.safetensors")
    other = vit()
    load(other, tmp_path / "one.safetensors")
    assert other.blocks[1].attn.qkv.lora_b.eq(1).all()


def test_files_of_others_are_refused(tmp_path):
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        load(vit(), tmp_path / "text")
    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="not written by resora"):
        load(vit(), tmp_path / "foreign")
    about = json.dumps({"format": "resora.adapter/9"})
    safetensors.torch.save_file({"x": torch.ones(2)}, tmp_path / "newer", {"resora": about})
    with pytest.raises(ValueError, match="this version of resora reads"):
        load(vit(), tmp_path / "newer")
    with pytest.raises(FileNotFoundError):
        load(vit(), tmp_path / "absent")


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    save(trained(), tmp_path / "one")
    whole = (tmp_path / "one").read_bytes()
    (tmp_path / "one").write_bytes(whole[: len(whole) // 2])
    model = vit()
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        load(model, tmp_path / "one")
    assert applied_to(model) is None


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    save(trained(), tmp_path / "one")
    old = (tmp_path / "one").read_bytes()

    def full_disk(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(trained("ssf"), tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    model = trained()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install resora\[save\]"):
        save(model, tmp_path / "one")


@dataclass(frozen=True)
class OwnMethod(Method):
    """A user's method, which is in no file of `resora/petl`."""

    def insert(self, model, backbone):
        model.blocks[0].mlp.requires_grad_(True)


def test_a_method_of_ones_own_is_loaded_into_a_model_that_it_has_adapted(tmp_path):
    model, other = vit(), vit()
    for one in (model, other):
        OwnMethod().adapt(one, "head")
    nn.init.ones_(model.blocks[0].mlp.fc1.bias)
    save(model, tmp_path / "one")
    load(other, tmp_path / "one")
    assert torch.equal(other(images()), model(images()))
    with pytest.raises(ValueError, match="adapt the model yourself, then load"):
        load(vit(), tmp_path / "one")
