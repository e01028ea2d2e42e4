"""NOAH's supernet: subnets share its weights and compute what they compute alone."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402
from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

from resora import ReSoRA  # noqa: E402
from resora.adapted import adapter_state, load_adapter_state  # noqa: E402
from resora.petl import METHODS, make_method  # noqa: E402
from resora.petl.layers.elastic import ElasticAdapter, ElasticLoRA, ElasticPrompts  # noqa: E402
from resora.petl.noah import Evolution, Subnet  # noqa: E402

# The sizes of the released subnet for SVHN (experiments/NOAH/subnet/VTAB), the largest of the 19.
SVHN = (
    (10, 5, 5, 10, 5, 5, 5, 5, 5, 5, 5, 5),
    (5, 5, 5, 10, 5, 5, 5, 10, 10, 10, 10, 5),
    (5, 5, 5, 5, 5, 10, 5, 10, 5, 5, 5, 5),
)


def vit(**options):
    torch.manual_seed(0)
    return VisionTransformer(
        img_size=16,
        patch_size=8,
        embed_dim=24,
        depth=3,
        num_heads=2,
        **{"num_classes": 5} | options,
    ).eval()


def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def supernet(**options):
    """An adapted tiny ViT whose LoRA and adapters are not at zero."""
    model, method = vit(), make_method("noah", **{"choices": (1, 2, 4)} | options)
    method.adapt(model, "head")
    shake(model)
    return model, method


def shake(model):
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith("head"):
            parameter.data.normal_(std=0.3, generator=generator)


def layers(model):
    kinds = (ElasticPrompts, ElasticLoRA, ElasticAdapter)
    return [[m for m in model.modules() if isinstance(m, kind)] for kind in kinds]


def alone(model, subnet, **options):
    """A subnet built by itself, with the weights that it has in the supernet."""
    own = vit(**options)
    make_method("noah", subnet=subnet).adapt(own, "head")
    whole, theirs = model.state_dict(), own.state_dict()

    def plain(name):  # a module of the size 0 does not wrap anything
        return name.replace(".block.", ".").replace(".base.", ".")

    names = {plain(name): name for name in theirs}
    for name, value in whole.items():
        if (target := names.get(plain(name))) is not None:
            part = tuple(slice(size) for size in theirs[target].shape)
            theirs[target].copy_(value[part])
    return own.eval()


def trained(model):
    return [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("head")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("subnet", "count"), [(SVHN, 431_686), (None, 654_456), (((0,) * 12,) * 3, 0)]
)
def test_parameters_on_vit_b16(subnet, count):
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=10)
        method = make_method("noah", subnet=subnet)
        method.adapt(model, "head")
    assert sum(p.numel() for p in trained(model)) == count
    sizes = method.space(model).largest() if subnet is None else method.subnet
    assert sizes.parameters(768) == count


def test_a_sampled_subnet_computes_what_it_computes_alone():
    model, method = supernet(depths=(1, 2, 3))
    space, draw = method.space(model), generator()
    for subnet in [*(space.random(draw) for _ in range(12)), space.largest(), space.smallest()]:
        method.select(model, subnet)
        own = alone(model, subnet)
        torch.testing.assert_close(model(images()), own(images()))
        assert sum(p.numel() for p in trained(own)) == subnet.parameters(24)


def test_prompts_leave_the_sequence_before_pooling():
    model, method = supernet()
    plain = vit()
    assert model.forward_features(images()).shape == plain.forward_features(images()).shape
    # Prompts of the last block alone; none afterwards; none but in the first block.
    for prompts in [(0, 0, 4), (4, 0, 0), (2, 0, 4), (0, 2, 0)]:
        own = alone(model, (prompts, (1, 1, 1), (0, 0, 0)))
        assert own.forward_features(images()).shape == plain.forward_features(images()).shape
        method.select(model, Subnet(prompts, (1, 1, 1), (0, 0, 0)))
        torch.testing.assert_close(model(images()), own(images()))


def test_the_start_is_that_of_the_backbone_but_for_the_prompts():
    before = vit()(images())
    for subnet, is_same in [
        (((0, 0, 0), (4, 4, 4), (4, 4, 4)), True),
        (((4, 4, 4), (0, 0, 0), (0, 0, 0)), False),
    ]:
        model = vit()
        make_method("noah", subnet=subnet).adapt(model, "head")
        assert torch.equal(model(images()), before) == is_same
    assert not METHODS["noah"].starts_unchanged


def test_each_step_trains_another_subnet_and_leaves_the_whole():
    model, method = supernet()
    torch.manual_seed(3)
    seen = []
    for step in range(5):
        method.before_forward(model, step, 5)
        seen.append([[layer.size for layer in row] for row in layers(model)])
        method.after_step(model, step, 5, torch.optim.SGD(trained(model)))
        assert {layer.size for row in layers(model) for layer in row} == {4}
    assert len({str(sizes) for sizes in seen}) == 5
    torch.manual_seed(3)
    method.before_forward(model, 0, 5)
    assert [[layer.size for layer in row] for row in layers(model)] == seen[0]


def test_only_what_was_sampled_gets_a_gradient():
    model, method = supernet()
    method.select(model, Subnet((1, 2, 4), (2, 4, 1), (4, 1, 2)))
    model.train()
    model(images()).sum().backward()
    prompts, lora, adapters = layers(model)
    found = [
        [int(layer.prompts.grad.abs().sum((0, 2)).count_nonzero()) for layer in prompts],
        [int(layer.lora_a.grad.abs().sum((0, 2)).count_nonzero()) for layer in lora],
        [int(layer.up.weight.grad.abs().sum(0).count_nonzero()) for layer in adapters],
    ]
    assert found == [[1, 2, 4], [2, 4, 1], [4, 1, 2]]
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_a_subnet_stays_as_it_is():
    model, method = vit(), make_method("noah", subnet=((2, 2, 2),) * 3)
    method.adapt(model, "head")
    method.before_forward(model, 0, 1)
    assert {layer.size for row in layers(model) for layer in row} == {2}
    with pytest.raises(ValueError, match="only a supernet has subnets"):
        method.space(model)


def test_copies_files_and_low_precision():
    model, method = supernet()
    method.select(model, Subnet((1, 2, 4), (2, 4, 1), (4, 1, 2)))
    expected = model(images())
    assert torch.equal(copy.deepcopy(model)(images()), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(images()), expected)
    fresh = vit()
    make_method("noah", **method.options()).adapt(fresh, "head")
    load_adapter_state(fresh, adapter_state(model))
    method.select(fresh, Subnet((1, 2, 4), (2, 4, 1), (4, 1, 2)))
    assert torch.equal(fresh(images()), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(images()).float(), expected, rtol=0.1, atol=0.1)


def test_pooling_over_patches_and_stochastic_depth():
    model = vit(global_pool="avg", drop_path_rate=0.5)
    make_method("noah", subnet=((4, 2, 1),) * 3).adapt(model, "head")
    assert model.train()(images()).shape == (4, 5)
    assert type(model.blocks[1].block.drop_path2.base).__name__ == "DropPath"


def test_the_regulariser_sees_the_lora_of_a_subnet():
    model, _ = supernet(subnet=((1, 1, 1), (4, 2, 0), (1, 1, 1)))
    regularizer = ReSoRA(model, weight=1.0)
    model.train()(images())
    regularizer().backward()
    regularizer.close()
    rows = layers(model)[1]
    assert len(rows) == 2
    assert all(layer.lora_a.grad.abs().sum() > 0 for layer in rows)


def test_options_are_json_and_checked():
    method = make_method("noah", subnet=[[1, 2], [0, 1], [5, 5]], choices=[10, 1, 5])
    assert method.choices == (1, 5, 10)
    assert make_method("noah", **json.loads(json.dumps(method.options()))) == method
    hash(method)
    for wrong in (
        {"subnet": [[1], [1]]},
        {"subnet": [[1, 1], [1], [1, 1]]},
        {"subnet": [[-1], [1], [1]]},
        {"subnet": [[True], [1], [1]]},
        {"choices": ()},
        {"choices": (0, 1)},
        {"depths": (0,)},
        {"dropout": 1.0},
    ):
        with pytest.raises(ValueError, match=r"noah|subnet"):
            make_method("noah", **wrong)
    with pytest.raises(ValueError, match="sizes for 2 blocks; the backbone has 3"):
        method.adapt(vit(), "head")
    model, whole = supernet()
    with pytest.raises(ValueError, match="no subnet of this supernet"):
        whole.select(model, Subnet((5, 1, 1), (1, 1, 1), (1, 1, 1)))


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        (
            lambda: SwinTransformer(
                img_size=32, patch_size=2, window_size=4, embed_dim=16, depths=(2,), num_heads=(2,)
            ),
            "swin",
        ),
        (lambda: ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), patch_size=2), "convnext"),
    ],
)
def test_other_backbones_are_refused_in_one_line(backbone, kind):
    with pytest.raises(ValueError, match=f"does not fit {kind}") as caught:
        make_method("noah").adapt(backbone(), "head.fc")
    assert "\n" not in str(caught.value)


def test_searching_a_model_evaluates_it_at_each_subnet():
    model, method = supernet()
    target = Subnet((4, 1, 2), (2, 2, 4), (1, 4, 4))
    method.select(model, target)
    wanted, x = model(images()).detach(), images()
    evaluations, quick = [], Evolution(generations=4, population=12, parents=4)

    def evaluate():
        with torch.inference_mode():
            evaluations.append(-nn.functional.mse_loss(model(x), wanted).item())
        return evaluations[-1]

    found = method.search(
        model, evaluate, budget=target.parameters(24), evolution=quick, generator=generator()
    )
    assert found.score == max(evaluations)
    assert found.evaluated == len(evaluations)
    assert found.parameters <= target.parameters(24)
    assert {layer.size for row in layers(model) for layer in row} == {4}
    method.select(model, found.subnet)
    assert evaluate() == pytest.approx(found.score)
