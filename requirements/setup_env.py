"""Makes the virtual environment: pinned versions, and a CPU build of torch where there is no GPU.

    python3 requirements/setup_env.py --venv .venv --extras suite,test

A second call with nothing changed returns at once. Standard library only. Which torch it takes:

* an NVIDIA GPU, or a system other than Linux: what pip's own index offers (on Linux, CUDA);
* Linux without a GPU: a `+cpu` build if pip as configured offers one, else PyTorch's CPU index.

`--torch cpu` or `--torch default` overrides that choice. Packages are installed by uv, with the indexes that
pip is configured with; by pip where uv cannot be had.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lock.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
GUARD = ROOT / "data_prep" / "torchvision_guard.py"
INPUTS = (ROOT / "pyproject.toml", LOCK, GUARD, Path(__file__).resolve())
# Bytecode is made on first import, for what is imported: over half of the installing time saved.
PIP_INSTALL = ("install", "-qq", "--no-compile", "--disable-pip-version-check")
UV = "uv>=0.5"
# pip takes the best version of all indexes; uv only that of the first one unless told otherwise.
UV_INSTALL = ("uv", "pip", "install", "-q", "--index-strategy", "unsafe-best-match")
UV_NAMES = {"index-url": "--default-index", "extra-index-url": "--index"}
"""pip's settings that uv has under another name."""


def fingerprint(torch_build: str) -> str:
    """Identity of the environment: what it is made from, with which Python, and where."""
    digest = hashlib.sha256()
    for path in INPUTS:
        digest.update(path.read_bytes())
    digest.update(f"{sys.version_info[:2]} {ROOT} {torch_build}".encode())
    return digest.hexdigest()


def installed_extras(stamp: Path, wanted_fingerprint: str) -> set[str]:
    """Extras that an earlier call finished installing from the same inputs."""
    try:
        record = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return set(record["extras"]) if record.get("fingerprint") == wanted_fingerprint else set()


def environment_python(environment: Path) -> Path:
    """The environment's interpreter."""
    windows = platform.system() == "Windows"
    return environment / ("Scripts/python.exe" if windows else "bin/python")


def environment_works(python: Path) -> bool:
    """Whether the interpreter starts, has pip, and is the version that runs this script."""
    if not python.exists():
        return False
    check = f"import pip, sys; sys.exit(sys.version_info[:2] != {tuple(sys.version_info[:2])})"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def has_nvidia_gpu() -> bool:
    """Whether a driver for an NVIDIA GPU is present."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def pinned(name: str) -> str:
    """The version that lock.txt pins for one distribution."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}=="):
            return line.split("==")[1].strip()
    raise SystemExit(f"error: requirements/lock.txt has no line for {name}; run: make lock")


def offers_cpu_torch(python: Path) -> bool:
    """Whether pip, as configured here, offers a CPU build of the pinned torch (no download)."""
    command = [python, "-m", "pip", "index", "versions", "torch", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    offered = done.stdout.replace(",", " ").split()
    return done.returncode == 0 and f"{pinned('torch')}+cpu" in offered


def has_torch(python: Path, torch_build: str) -> bool:
    """Whether the environment has the pinned torch, and its CPU build where that was asked for."""
    ask = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    version, _, build = done.stdout.strip().partition("+")
    return version == pinned("torch") and (torch_build != "cpu" or build == "cpu")


def pip(python: Path, *arguments: str) -> None:
    """Runs pip in the environment; its own message says what went wrong."""
    done = subprocess.run([python, "-m", "pip", *arguments], cwd=ROOT, check=False)
    if done.returncode:
        hint = " (make TORCH=default setup takes torch from pip's own index instead)"
        raise SystemExit(
            f"error: pip {arguments[0]} failed in {python.parent.parent}; its message is above"
            f"{hint if CPU_INDEX in arguments else ''}"
        )


def as_uv_options(listing: str) -> list[str]:
    """The options of uv that say what `pip config list` says; uv does not read pip's settings."""
    options = []
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in ("index-url", "extra-index-url", "find-links", "constraint"):
            option = UV_NAMES.get(key, f"--{key}")
            options += [part for one in ast.literal_eval(value).split() for part in (option, one)]
    return options


def install(python: Path, *arguments: str) -> None:
    """Installs with uv, which takes a fifth of pip's time; with pip where uv cannot be had or fails."""
    listing = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    command = [python, "-m", "pip", *PIP_INSTALL, UV]
    if subprocess.run(command, capture_output=True, cwd=ROOT, check=False).returncode == 0:
        command = [
            python,
            "-m",
            *UV_INSTALL,
            "--python",
            python,
            *as_uv_options(listing),
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode == 0:
            return
        print(f"setup: uv could not install, pip tries; uv said:\n{done.stderr}", flush=True)
    pip(python, *PIP_INSTALL, *arguments)


def install_cpu_torch(python: Path) -> None:
    """Installs the CPU builds alone from PyTorch's index; their dependencies come with the rest."""
    names = [f"{name}=={pinned(name)}" for name in ("torch", "torchvision")]
    print(f"setup: no GPU found, torch and torchvision from {CPU_INDEX}", flush=True)
    pip(python, *PIP_INSTALL, "--no-deps", "--force-reinstall", "--index-url", CPU_INDEX, *names)


def write_guard(site_packages: Path) -> None:
    """Has each start of Python in the environment mend torchvision, whichever script imports it first.

    Where torchvision belongs to torch this changes nothing; GUARD's first lines say what it is about.
    """
    shutil.copyfile(GUARD, site_packages / "_torchvision_guard.py")
    line = "import _torchvision_guard; _torchvision_guard.install()\n"
    (site_packages / "_torchvision_guard.pth").write_text(line, encoding="utf-8")


def site_packages_of(python: Path) -> Path:
    """The folder of the environment's packages."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", ask], text=True).strip())


def needs_cpu_index(python: Path, torch_build: str) -> bool:
    """Whether torch must come from PyTorch's CPU index: the rules are in the module's docstring."""
    if torch_build == "default" or platform.system() != "Linux":
        return False
    if torch_build == "auto" and has_nvidia_gpu():
        return False
    return not has_torch(python, torch_build) and not offers_cpu_torch(python)


def set_up(environment: Path, extras: set[str], torch_build: str) -> None:
    """Creates the environment where needed and installs the extras that it lacks."""
    stamp = environment / "setup.json"
    mark = fingerprint(torch_build)
    python = environment_python(environment)
    present = installed_extras(stamp, mark)
    if extras <= present and environment_works(python):
        return
    started = time.monotonic()
    if not environment_works(python):
        print(f"setup: creating {environment}", flush=True)
        venv.create(environment, clear=True, with_pip=True, symlinks=os.name != "nt")
        present = set()
    stamp.unlink(missing_ok=True)
    wanted = sorted(extras | present)
    if needs_cpu_index(python, torch_build):
        install_cpu_torch(python)
    print(f"setup: installing resora[{','.join(wanted)}] at pinned versions", flush=True)
    install(python, "-c", str(LOCK), "-e", f".[{','.join(wanted)}]")
    write_guard(site_packages_of(python))
    stamp.write_text(json.dumps({"fingerprint": mark, "extras": wanted}), encoding="utf-8")
    print(f"setup: done in {time.monotonic() - started:.0f} s", flush=True)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the project's virtual environment.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--extras", default="suite,test", help="comma-separated, of pyproject.toml")
    parser.add_argument("--torch", choices=("auto", "cpu", "default"), default="auto")
    arguments = parser.parse_args()
    set_up(arguments.venv, set(filter(None, arguments.extras.split(","))), arguments.torch)
    return 0


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - the script is run by whichever Python a person has
        raise SystemExit("error: Python 3.11 or newer is needed; try: make PYTHON=python3.12 setup")
    raise SystemExit(main())
