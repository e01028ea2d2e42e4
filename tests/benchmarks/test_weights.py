"""Files of weights in every published format load to the function that they came from."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks import backbones, weights
from benchmarks.backbones import Files, Published
from benchmarks.harness.errors import UsageError

timm = backbones.timm
CLASSES = 5


def published(architecture, head):
    """A small network of the same kind as the paper's, and a state that is known."""
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=CLASSES).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # no norm or bias at its neutral value
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Published(architecture, head), model


VIT = ("vit_tiny_patch16_224", "head")
SWIN = ("swin_tiny_patch4_window7_224", "head.fc")
CONVNEXT = ("convnext_tiny", "head.fc")


def built(network, file, classes=CLASSES):
    """The network as a cell builds it from a file that a person gives."""
    config = {"name": "x", "weights": weights.given_id(file), "drop_path": 0.0}
    torch.manual_seed(1)
    return network.build(config, classes, Files(given=file))


def features(model, images):
    with torch.inference_mode():
        return model.eval().forward_head(model.forward_features(images), pre_logits=True)


def same_function(network, model, file, images=None):
    """Everything but the head is the file's; the head is fresh, though it would fit."""
    loaded, found = built(network, file)
    images = torch.randn(2, 3, 224, 224) if images is None else images
    assert torch.equal(features(loaded, images), features(model, images))
    head, of_file = (m.get_submodule(network.head).weight for m in (loaded, model))
    assert not torch.equal(head, of_file)
    torch.manual_seed(1)
    fresh = timm.create_model(network.architecture, num_classes=CLASSES).get_submodule(network.head)
    assert torch.equal(head, fresh.weight)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (found.id, found.file) == (file.name, file.name)


def as_npz(model):
    """A vision transformer's state in the layout of the original JAX checkpoints."""
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    width = state["cls_token"].shape[-1]
    heads = model.blocks[0].attn.num_heads
    out = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for index in range(len(model.blocks)):
        block, there = f"blocks.{index}.", f"Transformer/encoderblock_{index}/"
        for number, norm in ((0, "norm1"), (2, "norm2")):
            out[f"{there}LayerNorm_{number}/scale"] = state[f"{block}{norm}.weight"]
            out[f"{there}LayerNorm_{number}/bias"] = state[f"{block}{norm}.bias"]
        attention = f"{there}MultiHeadDotProductAttention_1/"
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * width, (part + 1) * width)
            weight = state[f"{block}attn.qkv.weight"][rows]
            out[f"{attention}{name}/kernel"] = weight.T.reshape(width, heads, -1)
            out[f"{attention}{name}/bias"] = state[f"{block}attn.qkv.bias"][rows].reshape(heads, -1)
        out[f"{attention}out/kernel"] = state[f"{block}attn.proj.weight"].T.reshape(
            heads, -1, width
        )
        out[f"{attention}out/bias"] = state[f"{block}attn.proj.bias"]
        for number, name in ((0, "fc1"), (1, "fc2")):
            out[f"{there}MlpBlock_3/Dense_{number}/kernel"] = state[f"{block}mlp.{name}.weight"].T
            out[f"{there}MlpBlock_3/Dense_{number}/bias"] = state[f"{block}mlp.{name}.bias"]
    return out


def test_the_original_npz_loads_to_the_same_function(tmp_path):
    network, model = published(*VIT)
    file = tmp_path / "ViT.npz"
    np.savez(
        file, **as_npz(model), **{"pre_logits/kernel": np.zeros((3, 3)), "pre_logits/bias": [0.0]}
    )
    same_function(network, model, file)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        *((kind, suffix) for kind in (VIT, SWIN, CONVNEXT) for suffix in (".safetensors", ".pth")),
        (VIT, ".bin"),
    ],
)
def test_timms_own_format_loads_to_the_same_function(tmp_path, kind, suffix):
    network, model = published(*kind)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(model.state_dict(), file)
    else:
        torch.save({"state_dict": model.state_dict()}, file)
    same_function(network, model, file, torch.randn(1, 3, 224, 224))


def test_the_published_swin_loads_to_the_same_function(tmp_path):
    network, model = published(*SWIN)
    state = {}
    for key, value in model.state_dict().items():
        parts = key.replace("head.fc.", "head.").split(".")
        if (
            parts[0] == "layers" and parts[2] == "downsample"
        ):  # there at the end of the stage before
            parts[1] = str(int(parts[1]) - 1)
        state[".".join(parts)] = value
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    file = tmp_path / "swin.pth"
    torch.save({"model": state}, file)
    same_function(network, model, file, torch.randn(1, 3, 224, 224))


def test_the_published_convnext_loads_to_the_same_function(tmp_path):
    network, model = published(*CONVNEXT)
    state = {}
    for key, value in model.state_dict().items():
        name = key.replace("stem.", "downsample_layers.0.").replace("conv_dw", "dwconv")
        name = name.replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")
        name = name.replace("head.norm.", "norm.").replace("head.fc.", "head.")
        if ".downsample." in name:
            stage, rest = name.removeprefix("stages.").split(".downsample.")
            name = f"downsample_layers.{stage}.{rest}"
        state[name.replace(".blocks.", ".")] = value
    file = tmp_path / "convnext.pth"
    torch.save({"model": state}, file)
    same_function(network, model, file, torch.randn(1, 3, 224, 224))


def test_a_file_of_another_network_is_refused(tmp_path):
    _, model = published(*SWIN)
    file = tmp_path / "swin.safetensors"
    save_file(model.state_dict(), file)
    network = Published(*VIT)
    with pytest.raises(
        UsageError, match=r"swin\.safetensors does not fit VisionTransformer: \d+ tensors"
    ):
        built(network, file)


@pytest.mark.parametrize("suffix", [".npz", ".pth", ".safetensors"])
def test_a_damaged_file_is_refused(tmp_path, suffix):
    file = tmp_path / f"half{suffix}"
    file.write_bytes(b"PK\x03\x04 not the whole of it")
    with pytest.raises(UsageError, match=f"half{suffix}"):
        built(Published(*VIT), file)


def test_npz_is_for_vision_transformers(tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, a=np.zeros(1))
    with pytest.raises(UsageError, match=r"ConvNeXt has no weights in the format \.npz"):
        built(Published(*CONVNEXT), file)
    with pytest.raises(UsageError, match=r"x\.npz does not fit VisionTransformer"):
        built(Published(*VIT), file)


def test_a_given_file_is_known_by_name_and_hash(tmp_path):
    file = tmp_path / "a.npz"
    file.write_bytes(b"one")
    name = weights.given_id(file)
    assert name == f"a.npz@{hashlib.sha256(b'one').hexdigest()[:12]}"
    assert weights.find(name, None, file) == file
    other = tmp_path / "b" / "a.npz"
    other.parent.mkdir()
    other.write_bytes(b"two")
    for given in (None, other):
        with pytest.raises(UsageError, match="give that file by --weights"):
            weights.find(name, None, given)


DEFAULT = "vit_base_patch16_224.orig_in21k"


def test_the_folder_of_weights_is_looked_through_first(tmp_path, monkeypatch):
    file = tmp_path / f"{DEFAULT}.safetensors"
    file.write_bytes(b"")
    assert weights.find(DEFAULT, tmp_path, None) == file
    file.unlink()
    original = tmp_path / "ViT-B_16.npz"
    original.write_bytes(b"an error page")
    with pytest.raises(
        UsageError, match=r"is not the published file: its md5 is .* begins with d9715d"
    ):
        weights.find(DEFAULT, tmp_path, None)


def test_without_a_network_the_error_says_which_file_to_put_where(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    place = tmp_path / "ViT-B_16.npz"
    for find in (
        lambda: weights.find(DEFAULT, tmp_path, None),
        lambda: backbones.build(
            {"name": "vit_b16", "weights": DEFAULT, "drop_path": 0.0}, 2, Files(tmp_path)
        ),
        lambda: backbones.find_weights(
            {"name": "vit_b16", "weights": DEFAULT}, Files(tmp_path), fetch=False
        ),
    ):
        with pytest.raises(UsageError) as raised:
            find()
        assert (
            f"imagenet21k/ViT-B_16.npz and put it as {place}, or name a file by --weights"
            in str(raised.value)
        )


def test_what_the_hub_gives_is_hashed_too(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"from the hub")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(file))
    assert weights.find(DEFAULT, None, None, fetch=False) == file
    found = weights.weights_of(DEFAULT, file)
    assert found == weights.Weights(DEFAULT, hashlib.sha256(b"from the hub").hexdigest(), file.name)


def test_names_that_mean_other_weights_are_refused():
    for name, says in (
        ("vit_base_patch16_224_in21k", "timm means the augreg weights by it"),
        ("vit_large_patch16_224.orig_in21k", "not those of vit_b16"),
    ):
        config = {"name": "vit_b16", "weights": name, "drop_path": 0.0}
        with pytest.raises(UsageError, match=says):
            backbones.build(config, 2)


def test_the_paper_starts_from_the_original_checkpoint():
    from benchmarks.vtab1k.spec import VTAB1K

    choices = VTAB1K.scales["paper"].choices
    assert choices["weights.vit_b16"].value == DEFAULT
    for name in ("vit_b16", "swin_b", "convnext_b"):
        assert choices[f"weights.{name}"].value in weights.ORIGINALS
