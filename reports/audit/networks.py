"""The networks of the paper without weights, and how many parameters a method trains on them.

Everything is built on the meta device: shapes, no values, nothing downloaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import nn

from benchmarks import backbones
from reports.audit.counting import Count, Counting
from reports.audit.per_task import CLASSES
from resora.petl import make_method

# VSE infinity: width of the joint space, and of its pooling operator's positions and hidden state.
JOINT, POOLING = 1024, 32

PROJECTIONS = ("visual_projection", "text_projection")


def count(network: str, counting: Counting) -> tuple[Count | None, str]:
    """Count what the method trains, the head apart; the mean over datasets where these differ.

    Returns:
        The count, or None and the reason why there is none.
    """
    if counting.method is None:
        return None, f"the suite has no such method on {network}"
    per_task: Iterable[Mapping[str, Any]] = counting.per_task.values() or [{}]
    settings = [{**counting.options, **options} for options in per_task]
    try:
        counts = [
            _trainable(network, counting.method, tuple(sorted(options.items())))
            for options in settings
        ]
    except ValueError as error:
        return None, str(error)
    return Count(Fraction(sum(counts), len(counts)), _head(network, counting.head or network)), ""


@cache
def _trainable(network: str, name: str, options: tuple[tuple[str, Any], ...]) -> int:
    model = copy.deepcopy(_template(network))
    head = _classifier(network)
    with torch.device("meta"):
        make_method(name, **dict(options)).adapt(model, head)
    apart = (head,) if head else PROJECTIONS
    return sum(
        parameter.numel()
        for path, parameter in model.named_parameters()
        if parameter.requires_grad and not path.startswith(tuple(f"{prefix}." for prefix in apart))
    )


@cache
def _template(network: str) -> nn.Module:
    with torch.device("meta"):
        if network in OTHERS:
            return OTHERS[network]()
        config = {"name": network, "weights": "random", "drop_path": 0.0}
        return backbones.build(config, num_classes=1000)[0]


def _classifier(network: str) -> str:
    return "" if network in OTHERS else backbones.head_of(network)


@cache
def _head(network: str, name: str) -> Fraction:
    with torch.device("meta"):
        if name not in HEADS:
            return _mean_classifier(network)
        return Fraction(sum(p.numel() for module in HEADS[name]() for p in module.parameters()))


def _mean_classifier(network: str) -> Fraction:
    """Parameters of the classifier, the mean over the 19 tasks."""
    model: Any = copy.deepcopy(_template(network))
    sizes = []
    for classes in CLASSES.values():
        model.reset_classifier(classes)
        head = model.get_submodule(_classifier(network))
        sizes.append(sum(parameter.numel() for parameter in head.parameters()))
    return Fraction(sum(sizes), len(sizes))


# transformers imports torchvision, which ``benchmarks.backbones`` has to mend first.
def _bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig())


def _clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    return CLIPModel(CLIPConfig())


def _pooling() -> list[nn.Module]:
    """The generalised pooling operator of VSE infinity: a recurrent scorer of positions."""
    recurrent = nn.GRU(POOLING, POOLING, bidirectional=True)
    return [recurrent, nn.Linear(POOLING, 1, bias=False)]


def _projections() -> list[nn.Module]:
    return [_template("clip_vit_b32").get_submodule(name) for name in PROJECTIONS]


HEADS: dict[str, Callable[[], list[nn.Module]]] = {
    "bert_base": lambda: [nn.Linear(768, JOINT), *_pooling()],
    "pooling": _pooling,
    "clip_vit_b32": _projections,
}
"""Modules behind the adapted network that are trained with it, by the names in ``heads``."""

OTHERS: dict[str, Callable[[], nn.Module]] = {"bert_base": _bert, "clip_vit_b32": _clip}
"""Networks that are not timm's, by name."""
