"""Every README: the real parsers read its commands, its selectors choose cells, its links lead somewhere."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks.harness.registry import select

ROOT = Path(__file__).resolve().parents[1]
LISTED = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout.split()
PAGES = [
    name
    for name in LISTED or ["README.md"]
    if not name.startswith("reports/tables/") and name != "CHANGELOG.md"
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
INCOMPLETE = ("the following arguments are required", "one of the arguments")
OPTIONAL = re.compile(r"\[((?:--|SELECTOR)[^\]]*?)(?: \.\.\.)?\]")
PLACES = {"SELECTOR": "vtab1k", "CELL": "vtab1k/*/svhn/lora-r8/0", "...": "vtab1k"}


class Parsed(Exception):
    """A command line was read to its end."""


class Incomplete(Exception):
    """A command line lacks an argument."""


@pytest.fixture
def parse(monkeypatch):
    """Reads a command line as its program does and stops there; returns the options."""
    original = argparse.ArgumentParser.parse_args

    def read(self, arguments=None, namespace=None):
        raise Parsed(original(self, arguments, namespace))

    def fail(_, message):
        raise Incomplete(message) if message.startswith(INCOMPLETE) else AssertionError(message)

    def run(module, arguments):
        monkeypatch.setattr("sys.argv", [module, *arguments])
        try:
            found = importlib.import_module(module)
            if hasattr(found, "__path__"):  # its __main__ may run when it is imported
                found = importlib.import_module(f"{module}.__main__")
            found.main()
        except Parsed as stopped:
            return stopped.args[0]
        raise AssertionError(f"{module} read no arguments")

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read)
    monkeypatch.setattr(argparse.ArgumentParser, "error", fail)
    return run


def commands(text):
    """All command lines of a page, and whether each is inside of a sentence."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for line in re.findall(r"^(?: {4}|\$ |>)(?:\$ )?((?:python -m|make) .*)$", text, re.MULTILINE):
        yield line, False
    for line in re.findall(r"`((?:python -m|make) [^`]+)`", " ".join(prose.split())):
        yield line, True


def check_make(words):
    for word in words:
        name, is_variable, _ = word.partition("=")
        known = re.search(rf"\b{name}\b", MAKEFILE) if is_variable else name in TARGETS
        assert known, f"the Makefile has no {name}"


def check_selectors(options):
    for name in ("selectors", "selector", "cell"):
        if chosen := getattr(options, name, None):
            chosen = [chosen] if isinstance(chosen, str) else chosen
            for one in chosen:
                assert select([one], getattr(options, "scale", None) or "smoke"), one


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_those_of_the_programs(page, parse):
    for line, is_mentioned in commands((ROOT / page).read_text(encoding="utf-8")):
        words = OPTIONAL.sub(r"\1", line.replace("mymethod", "bitfit").split(" | ")[0])
        words = [PLACES.get(word, word) for word in shlex.split(words, comments=True)]
        if words[0] == "make":
            check_make(words[1:])
            continue
        try:
            options = parse(words[2], words[3:])
        except Incomplete:
            if not is_mentioned:
                raise
            continue
        if words[2] in ("benchmarks", "slurm"):
            check_selectors(options)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_anchor(title) for title in titles}, target


def _anchor(title):
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_first_page_is_short_and_its_snippet_trains():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 9 * 1024
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert len([line for line in snippet.splitlines() if line]) == 5
    torch = pytest.importorskip("torch")
    from data_prep.torchvision_guard import ensure_torchvision

    ensure_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    names = {
        "model": VisionTransformer(
            img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=5
        ),
        "images": torch.randn(8, 3, 16, 16),
        "labels": torch.randint(5, (8,)),
        "cross_entropy": torch.nn.functional.cross_entropy,
    }
    exec(compile(snippet, "README.md", "exec"), names)
    plain = names["cross_entropy"](names["model"](names["images"]), names["labels"])
    assert names["loss"] > plain
    names["loss"].backward()
