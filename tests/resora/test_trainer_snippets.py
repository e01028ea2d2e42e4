"""The snippets of the page on trainers run, one after the other, as a reader would paste them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from data_prep.torchvision_guard import ensure_torchvision

PAGE = Path(__file__).resolve().parents[2] / "resora" / "integrations" / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(find_spec, ("peft", "transformers", "accelerate", "lightning"))),
    reason="needs the extra `trainers`",
)
def test_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ensure_torchvision()
    torch.manual_seed(0)
    names = {"__name__": "page"}
    before: dict[str, torch.Tensor] = {}
    for number, snippet in enumerate(SNIPPETS):
        exec(compile(snippet, str(PAGE), "exec"), names)
        now = {n: p.detach().clone() for n, p in names["model"].named_parameters() if "lora" in n}
        if number:
            assert any(not torch.equal(now[name], value) for name, value in before.items())
        before = now
    assert len(SNIPPETS) == 4
    assert "penalty" in names["trainer"].state.log_history[0]
