"""Text from a record does nothing in a page, a CSV file, or a terminal."""

from __future__ import annotations

import re

import pytest

from benchmarks.harness.plain_text import cleaned, plain_text
from benchmarks.harness.record import InvalidRecord
from reports import render

HOSTILE = {
    "link": "[x](javascript:alert(1))",
    "image": "![x](https://example.org/seen.png)",
    "reference": "[x][y]",
    "html": "<script>alert(1)</script>",
    "terminal": "\x1b]0;owned\x07\x1b[2J",
    "c1": "\x9b31m",
    "bidirectional": "abc\u202edcba\u2066",
    "zero width": "a\u200bb\ufeff",
    "lines": "a\r\nb\u2028c\n\n[x]: javascript:alert(1)",
    "surrogate": "a\ud800b",
    "formula": "=cmd|'/c calc'!A0",
    "plus": " +1+1",
    "at": "@SUM(A1)",
    "tab": "\t=1+1",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_plain_text_is_one_printable_line_and_no_formula(text):
    shown = plain_text(text)
    assert shown.isprintable()
    assert not re.match(r"\s*[=+\-@]", shown)
    assert plain_text(shown) == shown
    assert cleaned({text: [text, {"a": text}, 1.5, None]}) == {
        shown: [shown, {"a": shown}, 1.5, None]
    }
    assert str(InvalidRecord(text)) == shown


def test_plain_text_keeps_ordinary_words():
    for text in ("81.2 ± 0.4 (n=2)", "NVIDIA H200", "naïve 図", "lora-r8+linear", "a [b] (c)"):
        assert plain_text(text) == text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_record_with_a_hostile_text_gives_harmless_reports(full_world, text):
    if "\ud800" not in text:  # the hash of a record is of UTF-8, which has no such character
        full_world.write(
            "eurosat", "lora-r8", 0, 0.8, data={"variant": text, "splits": {text: "a"}}
        )
    full_world.write("eurosat", "lora-r8", 1, 0.8, code={"commit": text, "dirty": False})
    table = full_world.report()
    markdown, latex, terminal = (
        write(table.page) for write in (render.markdown, render.latex, render.terminal)
    )
    csv = [frame.to_csv(index=False) for frame in (table.frame, table.sources)]
    for written in (markdown, latex, terminal, *csv):
        assert all(line.isprintable() for line in written.split("\n"))
    assert not re.search(r"(?<!\\)\](\(|\[)|<script", markdown)
    assert not re.search(r'(^|,)"?\s*[=@]', "\n".join(csv), re.MULTILINE)


def test_a_second_stage_of_another_checkpoint_is_refused(full_world):
    full_world.write("eurosat", "lora-r8", 0, 0.8, stage1={"checkpoint_sha256": "a" * 64})
    full_world.write("eurosat", "lora-r8+linear", 0, 0.83, stage1={"checkpoint_sha256": "b" * 64})
    full_world.write("eurosat", "lora-r8+control", 0, 0.81, stage1={"checkpoint_sha256": "a" * 64})
    grid = full_world.table().grid
    (refused, _), (taken, _) = (
        grid.at(f"lora-r8+{one}", "eurosat") for one in ("linear", "control")
    )
    assert refused.is_refused
    assert refused.reason.startswith("it started from the checkpoint bbbbbbbbbbbb")
    assert taken.record is not None
