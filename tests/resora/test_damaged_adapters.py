"""Files of adapters that are damaged or senseless: a one-line `ValueError`, and the model is what it was."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
from torch import nn

from resora.adapted import adapter_state, applied_to, load, load_adapter_state, save
from resora.adapted.peft_format import export_peft, import_peft
from resora.petl import make_method
from resora.petl.base import Method
from tests.resora.small_vision import images, trained, vit


def picture(model):
    """All that a failed load might change."""
    values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    modules = [
        (name, id(m), m.training, sorted(vars(m)), [id(h) for h in m._forward_hooks.values()])
        for name, m in model.named_modules()
    ]
    return modules, [
        (name, id(v), v.requires_grad, v.detach().numpy().tobytes()) for name, v in values.items()
    ]


def backbone():
    """A plain model with a hook, in both modes, with one frozen parameter."""
    model = vit().train()
    model.blocks[1].eval()
    model.norm.weight.requires_grad_(False)
    model.blocks[0].register_forward_hook(lambda *_: None)
    return model


def refused(model, call, message):
    before = picture(model)
    with pytest.raises(ValueError, match=message) as error:
        call(model)
    assert "\n" not in str(error.value)
    assert picture(model) == before


@pytest.fixture
def file(tmp_path):
    save(trained(), tmp_path / "one")
    return tmp_path / "one"


def rewritten(file, about=None, *, checksum=False, **tensors):
    """Write the file anew as an older version did, without a checksum, with other metadata or tensors."""
    with safetensors.safe_open(file, "pt") as old:
        metadata = old.metadata()
    found = {**safetensors.torch.load_file(file), **tensors}
    if not checksum:
        del metadata["sha256"]
    if about is not None:
        text = (
            about if isinstance(about, str) else json.dumps(json.loads(metadata["resora"]) | about)
        )
        metadata["resora"] = text
    kept = {name: tensor for name, tensor in found.items() if tensor is not None}
    safetensors.torch.save_file(kept, file, metadata)


def test_no_flipped_bit_gives_other_outputs(file):
    whole, expected = file.read_bytes(), trained()(images())
    tensors_at = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = random.Random(0)
    header = [(rng.randrange(tensors_at), rng.randrange(8)) for _ in range(60)]
    values = [(rng.randrange(tensors_at, len(whole)), rng.randrange(8)) for _ in range(30)]
    refusals = 0
    for place, bit in [(0, 0), (7, 7), *header, *values]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        model = vit()
        before = picture(model)
        try:
            load(model, file)
        except ValueError:
            refusals += 1
            assert picture(model) == before
        else:
            assert place < tensors_at, "a flip in a tensor was not seen"
            assert torch.equal(model(images()), expected)
    assert refusals > 80


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.999])
def test_a_file_that_is_cut_off_leaves_the_model(share, file):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    refused(backbone(), lambda model: load(model, file), "no whole safetensors file")


@pytest.mark.parametrize("changes", [{"options": {"rank": 2, "scale": 2.0}}, {"head": ""}])
def test_the_metadata_are_in_the_checksum(changes, file):
    rewritten(file, changes, checksum=True)
    refused(backbone(), lambda model: load(model, file), "does not have the checksum in it")


def test_a_file_without_a_checksum_loads(file):
    rewritten(file)
    model = vit()
    load(model, file)
    assert torch.equal(model(images()), trained()(images()))


LORA_B = "blocks.1.attn.qkv.lora_b"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.full((3, 2, 24), float("inf")), rf"'{LORA_B}' is inf at \[0, 0, 0\]"),
        (torch.ones(3, 2, 24).index_fill(2, torch.tensor(5), float("nan")), r"nan at \[0, 0, 5\]"),
        (torch.ones(3, 2, 24, dtype=torch.int8), f"'{LORA_B}' as torch.int8, not as torch.float32"),
        (torch.ones(3, 2, 24, dtype=torch.complex64), "as torch.complex64"),
        (torch.full((3, 2, 24), 1e300, dtype=torch.float64), r"as torch.float32: .* is inf at"),
        (torch.ones(3, 2, 25), r"in the shape \(3, 2, 25\), not \(3, 2, 24\)"),
        (None, f"holds other tensors than the model: '{LORA_B}'"),
    ],
    ids=["inf", "nan", "int8", "complex", "too large for the type", "shape", "missing"],
)
@pytest.mark.parametrize("make", [backbone, trained], ids=["plain", "adapted"])
def test_a_tensor_of_an_older_file_is_looked_at(tensor, message, make, file):
    rewritten(file, **{LORA_B: tensor})
    refused(make(), lambda model: load(model, file), message)


def test_what_is_not_finite_is_not_saved(tmp_path):
    model = trained()
    model.head.bias.data[3] = float("nan")
    for write in (save, export_peft):
        with pytest.raises(ValueError, match=r"not saved: '.*head\.bias' is nan at \[3\]"):
            write(model, tmp_path / "one")
    assert not list(tmp_path.iterdir())


NESTED = '{"options": ' + "[" * 100_000
ABOUT = {"format": "resora.adapter/1", "method": "lora-r2", "options": {}, "head": "head"}


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("", "is not JSON"),
        ("no JSON", "is not JSON"),
        (NESTED, "is not JSON: maximum recursion depth"),
        ('{"format": NaN}', "NaN is no number of JSON"),
        ('{"rank": ' + "9" * 5000 + "}", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "has the format None"),
        (json.dumps(ABOUT), "'backbone' in its metadata is None"),
        ({"method": 3}, "'method' in its metadata is 3"),
        ({"options": []}, r"'options' in its metadata is \[\]"),
        ({"head": None}, "'head' in its metadata is None"),
        ({"backbone": 1.5}, "'backbone' in its metadata is 1.5"),
        ({"more": "x" * 1000}, "'more' in its metadata"),
        ({"format": "x\ny"}, r"has the format 'x\\ny'"),
        ({"method": "os.system"}, "the file's method cannot be made here .unknown method"),
        ({"method": "base"}, "unknown method 'base'"),
        ({"method": "lora-r-2", "options": {}}, "unknown method"),
        ({"options": {"rank": -2}}, r"'lora-r2' has no \{'rank': -2\}"),
        ({"method": "lora", "options": {"rank": -2}}, "positive integer; got -2"),
        ({"method": "lora", "options": {"rank": 10**12}}, "option rank .* is 1000000000000"),
        ({"method": "lora-r4000000", "options": {}}, "option rank .* is 4000000"),
        ({"method": "lora", "options": {"rank": 10**4000}}, "is 1000000"),
        (
            {"method": "lora", "options": {"rank": True}},
            "'rank' of lora is of the type int; got True",
        ),
        ({"method": "lora", "options": {"rank": "2"}}, "of the type int; got '2'"),
        ({"method": "lora", "options": {"rank": None}}, "of the type int; got None"),
        ({"method": "lora-r3", "options": {}}, r"in the shape \(3, 2, 24\)"),
        ({"options": {"scale": "1"}}, "'scale' of lora is of the type float; got '1'"),
        ({"options": {"scale": [1.0]}}, "'scale' of lora is of the type float"),
        ({"options": {"targets": 5}}, "cannot be made here"),
        ({"options": {"targets": [["q"]]}}, "unknown target"),
        ({"options": {"targets": ["v"]}}, "in the shape"),
        ({"options": {"more": 1}}, "no option 'more'"),
        ({"method": "adapter", "options": {"dim": 10**9}}, "option dim .* is 1000000000"),
        ({"method": "ssf", "options": {}}, "other tensors than the model"),
        ({"method": "srlora-r2", "options": {"recompositions": 2}}, "other tensors than the model"),
        ({"head": "blocks..0"}, "which VisionTransformer does not have"),
        ({"head": "norm"}, "has no tensors in the file"),
        ({"backbone": "x\n"}, r"fingerprint 'x\\n'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_senseless_metadata_are_one_line(about, message, file):
    rewritten(file, about)
    refused(backbone(), lambda model: load(model, file), message)


def test_a_scale_that_json_reads_as_infinite_is_refused(file):
    text = json.dumps({**ABOUT, "backbone": "", "options": {"scale": 7}}).replace("7", "1e999")
    rewritten(file, text)
    refused(
        backbone(), lambda model: load(model, file), "'scale' of lora is of the type float; got inf"
    )


class Fussy(nn.Module):
    """A layer that refuses what was loaded after it has changed itself."""

    state_buffers = ("seen",)

    def __init__(self, base, derived):
        super().__init__()
        self.base, self.derived = base, derived
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        return self.base(x)

    @torch.no_grad()
    def state_loaded(self):
        self.base.weight.add_(1)
        if self.seen.item() == 3:
            raise ArithmeticError("three")


@dataclass(frozen=True)
class Changing(Method):
    """Inserts the layer; fails at the second one if it is to."""

    changes_backbone = True
    fails: bool = False

    def insert(self, model, backbone):
        for block in model.blocks[:2]:
            with torch.no_grad():
                block.mlp.fc1.weight.mul_(2)
            if self.fails and block is model.blocks[1]:
                raise KeyError("second")
            block.mlp.fc1 = Fussy(block.mlp.fc1, None)


def test_values_of_the_backbone_come_back_when_inserting_fails():
    refused(backbone(), lambda model: Changing(fails=True).adapt(model, "head"), "does not fit")


def test_values_come_back_when_a_layer_refuses_them():
    model = backbone()
    Changing().adapt(model, "head")
    state = {name: torch.full_like(value, 3) for name, value in adapter_state(model).items()}
    before = picture(model)
    with pytest.raises(ArithmeticError):
        load_adapter_state(model, state)
    assert picture(model) == before


def test_a_failed_load_of_srlora_leaves_the_frozen_weights(tmp_path):
    save(trained("srlora-r2"), tmp_path / "one")
    rewritten(tmp_path / "one", **{"blocks.2.attn.qkv.importance": torch.ones(3, 3)})
    refused(backbone(), lambda model: load(model, tmp_path / "one"), "in the shape")


@pytest.fixture
def folder(tmp_path):
    export_peft(trained(), tmp_path)
    return tmp_path


def imported(folder, message):
    refused(backbone(), lambda model: import_peft(model, folder), message)
    assert applied_to(backbone()) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("no JSON", "adapter_config.json is not JSON"),
        ("[1]", "is not a JSON object"),
        ("[" * 100_000, "is not JSON: maximum recursion"),
        ('{"peft_type": "LORA", "r": NaN}', "NaN is no number of JSON"),
        (b"\xff\xfe\xfa", "is not JSON"),
        ({"peft_type": None}, "peft's None, not LORA"),
        ({"r": "6"}, "r is '6'; it has to be a whole number from 1"),
        ({"r": -6}, "r is -6"),
        ({"r": 5}, "has the rank 6 in adapter_model.safetensors and 5 in adapter_config.json"),
        ({"r": None}, "r is None"),
        ({"lora_alpha": None}, "lora_alpha is None; it has to be a number"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
        ({"rank_pattern": ["qkv"]}, "rank_pattern is"),
        ({"rank_pattern": {"qkv": 2.5}}, "rank_pattern is"),
        ({"rank_pattern": {"(": 6}}, "is no expression"),
        ({"alpha_pattern": {"qkv": "6"}}, "alpha_pattern is"),
        ({"modules_to_save": "head"}, "modules_to_save is 'head'"),
        ({"modules_to_save": [3]}, "modules_to_save is"),
        ({"use_rslora": "no"}, "use_rslora is 'no'"),
        ({"bias": 3}, "bias is 3"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_senseless_settings_of_peft_are_one_line(changes, message, folder):
    config = folder / "adapter_config.json"
    if isinstance(changes, dict):
        changes = json.dumps(json.loads(config.read_text()) | changes)
    config.write_bytes(changes.encode() if isinstance(changes, str) else changes)
    imported(folder, message)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (torch.full((6, 24), float("nan")), r"lora_A.weight' is nan at \[0, 0\]"),
        (torch.ones(6, 24, dtype=torch.int8), "as torch.int8, not as torch.float32"),
        (torch.ones(0, 24), "no linear layer with a lora_A and a lora_B"),
        (torch.ones(3, 24), "no linear layer with a lora_A and a lora_B"),
    ],
)
def test_tensors_of_peft_are_looked_at(factor, message, folder):
    path = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["base_model.model.blocks.1.attn.qkv.lora_A.weight"] = factor
    safetensors.torch.save_file(tensors, path)
    imported(folder, message)


def test_a_flip_in_what_was_exported_is_seen(folder):
    path = folder / "adapter_model.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(whole)
    imported(folder, "does not have the checksum in it")
    path.write_bytes(whole[:-100])
    imported(folder, "no whole safetensors file")


@pytest.mark.parametrize(
    "options",
    [{"scale": "1"}, {"scale": float("nan")}, {"scale": True}, {"fused": 1}, {"rank": 2.0}],
)
def test_options_of_another_type_are_refused_wherever_a_method_is_made(options):
    with pytest.raises(ValueError, match=f"'{next(iter(options))}' of lora is of the type"):
        make_method("lora", **{"rank": 2, **options})
