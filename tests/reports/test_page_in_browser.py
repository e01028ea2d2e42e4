"""The page in headless Chromium: it sorts, filters, switches; without its script it has all tables."""

from __future__ import annotations

import html as escaped
import json
import re
import shutil
import subprocess

import pytest

from reports import html
from reports.scale import load_scale

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

LISTEN = """<script>
window.said = [];
addEventListener("error", (event) => said.push(event.message));
console.error = console.warn = (...words) => said.push(words.join(" "));
</script>"""

DRIVE = """<script>
const found = {};
const table = document.querySelector("#table2 table");
const heading = (text) => [...table.tHead.rows[0].cells].find((th) => th.textContent.startsWith(text));
const shown = (root) => [...root.querySelectorAll("tr[data-name]")]
  .filter((row) => getComputedStyle(row).display !== "none").map((row) => row.dataset.name);
const type = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("input"));
};
found.before = shown(table);
heading("Average").click();
found.descending = shown(table);
heading("Average").click();
found.ascending = shown(table);
heading("method").click();
found.names = shown(table);
type("method", "lora linear");
found.filtered = shown(table);
found.points = [...document.querySelectorAll(".point:not(.out)")].map((point) => point.dataset.name);
type("method", "");
const wide = document.querySelectorAll("#table2 table")[1];
const columns = () => [...wide.rows[1].cells]
  .filter((cell) => getComputedStyle(cell).display !== "none").map((cell) => cell.textContent);
type("group", "Specialized");
found.group = columns();
type("group", "");
type("task", "Caltech101");
found.task = columns();
type("task", "");
found.all = columns();
const paper = [...document.querySelectorAll("td.paper, .beside")];
const visible = () => paper.filter((one) => one.getClientRects().length).length;
found.paper = visible();
document.getElementById("paper").click();
found.hidden = visible();
found.pointed = [...document.querySelectorAll("#pareto-params title")].map((title) => title.textContent);
found.front = document.querySelectorAll("#pareto-params .front").length;
location.hash = "vtab1k/vit_micro/eurosat/lora-r8";
found.command = document.querySelector("td.fill code").textContent;
found.said = said;
const out = document.createElement("pre");
out.id = "found";
out.textContent = JSON.stringify(found);
document.body.append(out);
</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


@pytest.fixture
def page(only_world, tmp_path):
    """The page of the small world, with a hole."""
    for seed in (0, 1):
        only_world.path("eurosat", "lora-r8+control", seed).unlink()
    scale = load_scale(only_world.results, "micro")
    folder = tmp_path / "page"
    folder.mkdir()
    pages = [(of.name, of.page) for of in scale.tables.values()]
    return folder / "index.html", html.render(scale, pages, [], folder)


def dom(path, text, *options):
    """The page as Chromium has it after its scripts ran."""
    path.write_text(text)
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--window-size=1400,1000", "--virtual-time-budget=5000", *options),
            *(f"--user-data-dir={path.parent / 'profile'}", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout


def test_it_sorts_filters_and_switches_without_an_error(page):
    path, text = page
    driven = text.replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{DRIVE}</body>")
    out = dom(path, driven)
    found = json.loads(escaped.unescape(re.search(r'<pre id="found">(.*?)</pre>', out, re.S)[1]))
    assert found["said"] == []
    assert found["before"] == ["linear", "bitfit", "lora-r8", "lora-r8+linear", "lora-r8+control"]
    # Averages: 40, none, 68.25, 70.5, a hole: what has no number stays at the end.
    assert found["descending"][:3] == ["lora-r8+linear", "lora-r8", "linear"]
    assert found["ascending"][:3] == ["linear", "lora-r8", "lora-r8+linear"]
    assert found["names"] == sorted(found["before"], key=str.lower)
    assert found["filtered"] == ["lora-r8+linear"]
    assert found["points"] == ["lora-r8+linear"]
    assert found["group"] == ["method", "Eurosat", "Specializedmean"]
    assert found["task"] == ["method", "Caltech101"]
    assert len(found["all"]) == 1 + 3 + 2
    assert found["paper"] > 20
    assert found["hidden"] == 0
    assert any(text.startswith("lora-r8+linear: 66.3 ± 1.4 at") for text in found["pointed"])
    assert found["front"] == 1
    assert found["command"] == (
        "python -m benchmarks run 'vtab1k/vit_micro/*/lora-r8+control' --scale micro"
    )


def test_without_its_script_everything_is_there(page):
    path, text = page
    plain = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    out = dom(path, plain)
    assert '<span class="scripted" hidden' in out
    assert out.count("<table") == text.count("<table")
    for number in ("66.3", "68.2", "+2.00 [-0.48, +4.48]"):
        assert number in out
