"""The table of methods in ``resora/petl/README.md`` says what the registry has."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402

from resora.backbones import KINDS  # noqa: E402
from resora.discovery import NoLowRankLayer, low_rank_layers  # noqa: E402
from resora.petl import METHODS, make_method  # noqa: E402

README = Path(__file__).resolve().parents[2] / "resora" / "petl" / "README.md"
BEGIN, END = "<!-- methods:begin -->", "<!-- methods:end -->"
HEADER = (
    "| method | what it is | ViT-B/16 | fits | start unchanged | merges | penalties |",
    "| --- | --- | ---: | --- | :---: | :---: | :---: |",
)


def row(name):
    """One line of the table: the defaults, and rank 8 where there is no default."""
    cls = METHODS[name]
    rank = cls.__dataclass_fields__.get("rank")
    has_default = rank is None or isinstance(rank.default, int)
    shown = name if has_default else f"{name}-r8"
    method = make_method(shown)
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=10)
        method.adapt(model, "head")
    head = {id(p) for p in model.head.parameters()}
    count = sum(p.numel() for p in model.parameters() if p.requires_grad and id(p) not in head)
    try:
        is_low_rank = bool(low_rank_layers(model))
    except NoLowRankLayer:
        is_low_rank = False
    text = importlib.import_module(cls.__module__).__doc__.partition("\n")[0].rstrip(".")
    fits = "any" if not cls.fits else "all five" if set(KINDS) <= set(cls.fits) else None
    cells = (
        f"`{shown}`",
        text,
        f"{count:,}",
        fits or ", ".join(cls.fits),
        "yes" if cls.starts_unchanged else "no",
        "yes" if cls.is_mergeable else "no",
        "yes" if is_low_rank else "no",
    )
    return f"| {' | '.join(cells)} |"


def table():
    return "\n".join((*HEADER, *map(row, METHODS)))


@pytest.mark.slow
def test_the_table_is_that_of_the_registry():
    text = README.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == table()


def test_its_snippets_run():
    names = {"__name__": "readme"}
    torch.manual_seed(0)
    for snippet in re.findall(
        r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE
    ):
        exec(compile(snippet, str(README), "exec"), names)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=5
    )
    names["METHOD"]().adapt(model, "head")
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == ["blocks.0.mlp.gain", "blocks.1.mlp.gain", "head.weight", "head.bias"]
