"""The table of methods in ``resora/petl/README.md`` says what the registry has."""

from __future__ import annotations

import importlib
import json
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
RECORD = README.parents[2] / "results/paper/method_cost/vit_b16/cpu-fp32/all/0.json"
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


def costs():
    """The lines of the costs on ViT-B/16, from the committed record."""
    record = json.loads(RECORD.read_text())
    base = record["cost"]["by_method"]["lora-r8"]
    lines = [
        "| method | step, % of `lora-r8` | peak memory, MiB | beyond the model, % | FLOPs, % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in record["cost"]["by_method"].items():
        beyond, beyond_base = (
            one["peak_memory_bytes"] - one["resident_bytes"] for one in (found, base)
        )
        step = record["metrics"].get(f"step_ratio/{name}")
        shown = (
            "100"
            if step is None
            else f"{100 * step['median']:.0f} [{100 * step['lower_quartile']:.0f}, "
            f"{100 * step['upper_quartile']:.0f}]"
        )
        cells = (
            f"`{name}`",
            shown,
            f"{found['peak_memory_bytes'] / 2**20:,.0f}",
            f"{100 * beyond / beyond_base:.0f}",
            f"{100 * found['step_flops'] / base['step_flops']:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def between(begin, end):
    return README.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].strip()


def table():
    return "\n".join((*HEADER, *map(row, METHODS)))


@pytest.mark.slow
def test_the_table_is_that_of_the_registry():
    assert between("<!-- methods:begin -->", "<!-- methods:end -->") == table()


def test_the_costs_are_those_of_the_record():
    assert between("<!-- cost:begin -->", "<!-- cost:end -->") == costs()


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
