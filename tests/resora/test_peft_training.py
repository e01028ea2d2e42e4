"""Real ``peft`` LoRA on a timm ViT and on a transformers BERT, plain and compiled."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from typing import NamedTuple

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn import functional

from data_prep.torchvision_guard import ensure_torchvision

if importlib.util.find_spec("peft") is None:
    pytest.skip("needs peft: the extra `peft`", allow_module_level=True)
ensure_torchvision()  # timm and transformers import torchvision
import timm  # noqa: E402
from peft import LoraConfig, get_peft_model, inject_adapter_in_model  # noqa: E402
from transformers import BertConfig, BertForSequenceClassification  # noqa: E402

from resora import ReSoRA  # noqa: E402

NEEDS_COMPILER = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler"
)


def vit():
    """A block of 16 dimensions on images of 8 x 8; `proj` is a convolution as well."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=8,
        patch_size=4,
        embed_dim=16,
        depth=1,
        num_heads=2,
        num_classes=3,
    )
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["qkv", "fc1", "proj"])
    model = inject_adapter_in_model(config, model)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(24, 3, 8, 8, generator=generator)
    y = torch.arange(24) % 3
    return model, lambda m: functional.cross_entropy(m(x), y), {}


def bert():
    """A layer of 16 dimensions on padded sentences; the attention mask goes to the penalty too."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    lora = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    model = get_peft_model(BertForSequenceClassification(config), lora)
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(40, (16, 9), generator=generator)
    mask = (torch.arange(9) < torch.randint(3, 10, (16, 1), generator=generator)).long()
    y = torch.arange(16) % 2
    return (
        model,
        lambda m: m(input_ids=words, attention_mask=mask, labels=y).loss,
        {"mask": mask},
    )


MODELS = {"vit": vit, "bert": bert}


class Trained(NamedTuple):
    losses: list[float]  # of the task
    value: float  # of the penalty at the first step
    gradients: dict[str, torch.Tensor]  # of task and penalty at the first step
    redundancy: float  # mean cos^2 between subspaces at the end


@functools.cache
def trained(name, weight, *, compiled=None, backend="aot_eager", steps=40):
    model, task_loss, options = MODELS[name]()
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.train()
    regularizer = ReSoRA(model, weight=weight)
    if compiled is not None:
        torch._dynamo.reset()
        model.get_submodule(compiled).compile(backend=backend)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses, gradients = [], {}
    for _ in range(steps):
        loss = task_loss(model)
        value = regularizer(**options)
        optimizer.zero_grad()
        (loss + value).backward()
        if not losses:
            first = value.item()
            gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
        optimizer.step()
        losses.append(loss.item())
    with regularizer.recording(), torch.no_grad():
        task_loss(model)
    matrices = regularizer.redundancy().values()
    redundancy = torch.cat([m[~torch.eye(len(m), dtype=torch.bool)] for m in matrices]).mean()
    return Trained(losses, first, gradients, redundancy.item())


@pytest.mark.parametrize("name", MODELS)
def test_training_with_the_penalty_lowers_redundancy(name):
    plain, penalised = trained(name, 0.0), trained(name, 1.0)
    assert plain.value == 0 < penalised.value
    assert penalised.losses[-1] < 0.95 * penalised.losses[0]
    assert penalised.redundancy < 0.5 * plain.redundancy


# The default backend writes and builds C++ kernels, which takes long: a part of a model has to do.
@pytest.mark.parametrize(
    ("name", "part", "backend"),
    [
        ("vit", "", "aot_eager"),
        pytest.param("bert", "", "aot_eager", marks=pytest.mark.slow),
        pytest.param("vit", "blocks.0.attn", "inductor", marks=[NEEDS_COMPILER, pytest.mark.slow]),
    ],
)
def test_compiled_training_is_plain_training(name, part, backend):
    plain, compiled = trained(name, 1.0), trained(name, 1.0, compiled=part, backend=backend)
    assert compiled.value == pytest.approx(plain.value, rel=1e-5)
    for parameter, gradient in plain.gradients.items():
        largest = gradient.abs().max().item()
        torch.testing.assert_close(
            compiled.gradients[parameter], gradient, rtol=1e-4, atol=1e-4 * largest
        )
    assert compiled.losses == pytest.approx(plain.losses, rel=0.01)
    assert compiled.redundancy < 0.5 * trained(name, 0.0).redundancy


@pytest.mark.parametrize("use_dora", [False, True])
def test_recording_needs_no_graph_break_and_no_second_compilation(use_dora):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 5)).double()
    config = LoraConfig(r=3, target_modules=["0", "1"], use_dora=use_dora)
    model = inject_adapter_in_model(config, model)
    regularizer = ReSoRA(model, weight=1.0)
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=not use_dora)
    x = torch.randn(6, 6, dtype=torch.float64)
    frames = set()
    for passes in (1, 3, 1, 2):
        for _ in range(passes):
            compiled(x)
        value = regularizer()
        for _ in range(passes):
            model(x)
        torch.testing.assert_close(value, regularizer())
        frames.add(counter.frame_count)
    assert len(frames) == 1


def test_a_regulariser_made_after_the_first_compiled_call_says_so():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5))
    model = inject_adapter_in_model(LoraConfig(r=3, target_modules=["0"]), model)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(7, 6)
    compiled(x)
    regularizer = ReSoRA(model, weight=1.0)
    compiled(x)
    with pytest.raises(RuntimeError, match="make ReSoRA before"):
        regularizer()
    torch._dynamo.reset()
    compiled(x)
    value = regularizer()
    model(x)
    torch.testing.assert_close(value, regularizer())


def test_padding_does_not_count():
    model, _, options = bert()
    model.train()
    mask = options["mask"].bool()
    regularizer = ReSoRA(model, weight=1.0)
    values = []
    for filler in (3, 5):
        words = torch.where(mask, torch.arange(9) * 4, filler)
        model(input_ids=words, attention_mask=mask.long())
        values.append(regularizer(mask=mask.long()))
        model(input_ids=words, attention_mask=mask.long())
        values.append(regularizer())
    torch.testing.assert_close(values[0], values[2])
    assert not torch.allclose(values[1], values[3])
