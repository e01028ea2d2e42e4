"""Writes lock.txt: what pip resolves for all extras together. Needs the network, installs nothing.

Run it by `make lock`, read the difference, run the tests, commit. Standard library only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lock.txt"
# These two must match each other and the cap in pyproject.toml; everything else follows from them.
PINNED = ("torch==2.13.0", "torchvision==0.28.0")
HEADER = """\
# Exact versions of all that the extras install: pip install -c requirements/lock.txt -e '.[suite]'
# Made by `make lock` on Python {python}; do not edit by hand. torch and torchvision carry no build
# suffix, so that a CPU and a CUDA build satisfy the same line.
"""


def extras() -> list[str]:
    """Names of the extras that pyproject.toml declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(project["optional-dependencies"])


def resolve() -> dict[str, str]:
    """Version of each distribution that a fresh environment would get, by name."""
    target = f"{ROOT}[{','.join(extras())}]"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    done = subprocess.run(
        [*command, "--report", "-", *PINNED, target], check=True, stdout=subprocess.PIPE, text=True
    )
    report = json.loads(done.stdout)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    return {name: version.split("+")[0] for name, version in found.items() if name != "resora"}


def main() -> int:
    """Resolves, writes the file, says how many lines it has."""
    found = resolve()
    # The CUDA build's own packages are pinned by torch itself and absent from a CPU environment.
    kept = {n: v for n, v in found.items() if not n.lower().startswith(("nvidia-", "triton"))}
    lines = [f"{name}=={kept[name]}" for name in sorted(kept, key=str.lower)]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    LOCK.write_text(HEADER.format(python=python) + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{LOCK.relative_to(ROOT)}: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
