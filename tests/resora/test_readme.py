"""The library's README: its snippets run, one after the other, as a reader would paste them."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from data_prep.torchvision_guard import ensure_torchvision
from resora import ReSoRA
from resora.penalties import PENALTIES
from resora.petl import make_method
from resora.regularizer import DEFAULT_SAMPLE

README = Path(__file__).resolve().parents[2] / "resora" / "README.md"
TEXT = README.read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def names():
    """What the snippets defined, by the heading above each."""
    if not all(map(find_spec, ("peft", "transformers"))):
        pytest.skip("peft and transformers are not installed: make test does it")
    ensure_torchvision()  # timm and transformers import it, which fails beside a CPU build of torch
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "readme"}
    after = []
    for snippet in SNIPPETS:
        exec(compile(snippet, str(README), "exec"), names)
        after.append(dict(names))
    return after


def test_snippets_run(names):
    timm, peft, own, measuring, saving = names
    assert not any("lora" in name for name, _ in timm["model"].named_modules())
    assert len(timm["regularizer"].layers) == 12
    assert len(peft["regularizer"].layers) == 4
    assert saving["applied"].method == make_method("lora-r8")
    for snippet in (timm, peft, own):
        assert torch.isfinite(snippet["loss"])
    assert {name: m.shape for name, m in measuring["matrices"].items()} == {"1": (4, 4)}


def test_snippets_are_short():
    for snippet in SNIPPETS[:2]:
        lines = [line for line in snippet.splitlines() if line and "import" not in line]
        assert len(lines) <= 10


def test_every_penalty_and_choice_is_named():
    choices = {"sample", "pairs", "matrices", "space", "warmup_steps", "exclude"}
    assert choices <= set(ReSoRA.__init__.__annotations__)
    for name in (*PENALTIES, *choices):
        assert f"`{name}`" in TEXT
    pooled = [name for name, sample in DEFAULT_SAMPLE.items() if sample == "image"]
    assert pooled == ["nonlinear"]


def test_costs_are_those_of_the_record():
    path = README.parents[1] / "results/paper/cost/vit_b16/cpu-fp32/lora-r8/0.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    names = {
        "`linear`": "linear",
        "`cosine`": "cosine",
        "`euclidean`": "euclidean",
        "`nonlinear`, images": "nonlinear",
        "`nonlinear`, tokens": "nonlinear-token",
    }
    block = TEXT.split("<!-- cost:begin -->")[1].split("<!-- cost:end -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
    rows = {row[0]: row[1:] for row in rows if row}
    memory = {n: v["peak_memory_bytes"] for n, v in record["cost"]["by_variant"].items()}
    for label, name in names.items():
        own, step, more, printed, maps = rows[label]
        share = record["metrics"][f"own_share/closed-{name}"]["median"]
        assert own == f"{100 * share:.2f} %"
        assert step == spread(record["metrics"][f"step_ratio/closed-{name}"])
        assert more == f"{100 * (memory[f'closed-{name}'] / memory['baseline'] - 1):.2f} %"
        for shown, form in ((printed, "literal"), (maps, "maps")):
            slow = record["metrics"].get(f"step_ratio/{form}-{name}")
            assert shown == ("" if slow is None else f"{slow['median']:.2f}")
    assert rows["none, again (A/A)"][1] == spread(record["metrics"]["step_ratio/baseline-again"])


def spread(summary):
    lower, upper = summary["lower_quartile"], summary["upper_quartile"]
    return f"{summary['median']:.3f} [{lower:.3f}, {upper:.3f}]"
