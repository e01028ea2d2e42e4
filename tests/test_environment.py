"""What `make` installs: all that is imported is declared, and torchvision works whatever imports it first."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


house = load(ROOT / "tests" / "test_house.py")
setup_env = load(ROOT / "requirements" / "setup_env.py")

EXTRAS = {
    "resora": ("save", "peft"),
    "data_prep": ("suite", "data"),
    "benchmarks": ("suite",),
    "reports": ("suite",),
    "slurm": ("suite", "slurm"),
    "tests": ("suite", "data", "peft", "trainers", "slurm", "test"),
    "requirements": (),
}


@cache
def distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


@pytest.mark.parametrize("folder", EXTRAS)
def test_what_is_imported_is_declared(folder):
    groups = house.project()["optional-dependencies"]
    asked = [text for extra in EXTRAS[folder] for text in groups[extra]]
    asked += house.project()["dependencies"]
    declared = {canonicalize_name(Requirement(text).name) for text in asked}
    if folder == "tests":  # which may import what another package brings
        declared |= house.installed_closure(asked)
    ours = {*house.PACKAGES, "tests", "tensorflow"}  # TensorFlow is declared under two names
    own = {path.stem for path in house.python_files(folder)}
    wrong = set()
    for path in house.python_files(folder):
        for name in {name.split(".")[0] for name in house.imported_modules(path)}:
            if name in sys.stdlib_module_names or name in ours | own:
                continue
            found = {canonicalize_name(one) for one in distributions().get(name, [name])}
            # A program that draws the figures of METHOD.md: of the suite, and not in the wheel.
            is_figures = path.is_relative_to(ROOT / "resora" / "figures")
            if not found & (declared | ({"matplotlib"} if is_figures else set())):
                wrong.add(f"{house.where(path)} imports {name}")
    assert not wrong


@pytest.mark.parametrize(
    "first",
    [
        "import timm",
        pytest.param("import peft", marks=pytest.mark.slow),
        pytest.param("from transformers import BertModel", marks=pytest.mark.slow),
    ],
)
def test_a_script_may_import_it_first(first, tmp_path):
    setup_env.write_guard(tmp_path)
    # As site does for the environment's own folder, before the script's first line.
    program = f"import site; site.addsitedir({str(tmp_path)!r})\n{first}\nprint('imported')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported\n"


def test_a_start_that_needs_no_torchvision_pays_nothing(tmp_path):
    setup_env.write_guard(tmp_path)
    program = (
        "import site, sys; before = set(sys.modules)\n"
        f"site.addsitedir({str(tmp_path)!r})\n"
        "print(sorted(set(sys.modules) - before), [f.__class__.__name__ for f in sys.meta_path])"
    )
    run = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("['__future__', '_torchvision_guard'] ['_Finder', ")


FAKE = {
    "native": "value = 1",
    "another error": "raise RuntimeError('something else')",
    "never enough": "raise RuntimeError('operator torchvision::nms does not exist')",
}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("native", "native 1 False"),
        ("another error", "RuntimeError: something else"),
        ("never enough", "torchvision still misses operators after"),
    ],
)
def test_other_torchvisions(kind, said, tmp_path):
    """One that works is left alone, torch unseen; what declaring cannot mend is said."""
    setup_env.write_guard(tmp_path)
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(FAKE[kind])
    library = "class Library:\n    def __init__(self, *a): pass\n    def define(self, text): pass"
    (tmp_path / "torch.py").write_text(
        f"import types\n__version__ = '0'\n{library}\nlibrary = types.SimpleNamespace(Library=Library)"
    )
    program = (
        f"import site, sys; site.addsitedir({str(tmp_path)!r}); sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torchvision; print('native', torchvision.value, 'torch' in sys.modules)"
    )
    run = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


def test_uv_is_given_the_indexes_of_pip():
    listing = (
        "global.extra-index-url='https://one/simple https://two/simple'\n"
        ":env:.find-links='/wheels'\nglobal.index-url='https://own/simple'\nglobal.timeout='9'\n"
    )
    assert setup_env.as_uv_options(listing) == [
        *("--index", "https://one/simple", "--index", "https://two/simple"),
        *("--find-links", "/wheels", "--default-index", "https://own/simple"),
    ]
