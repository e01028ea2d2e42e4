"""The rules of the house: who may import whom, sizes, packaging, pins, and portable text."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("resora", "data_prep", "benchmarks", "reports", "slurm")
MAY_IMPORT = {
    "resora": {"resora"},
    "data_prep": {"data_prep"},
    "benchmarks": {"benchmarks", "resora"},
    "reports": {"reports", "benchmarks", "resora"},
    "slurm": {"slurm", "benchmarks", "resora"},
}
# What mends the import of torchvision, progress bars, the reader of torch's files and what sets up a terminal
# are shared; the rest of data_prep stands alone.
SHARED = tuple(
    f"data_prep.{name}." for name in ("torchvision_guard", "progress", "saved_tensors", "terminal")
)
MODULE_LINES = 400
FUNCTION_LINES = 60
LARGEST_BYTES = 5_000_000


@functools.cache
def repository_files() -> tuple[Path, ...]:
    """Files that are tracked or would be: nothing that git ignores."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    names = filter(None, listing.stdout.decode().split("\0"))
    return tuple(path for path in (ROOT / name for name in names) if path.is_file())


def python_files(*folders: str) -> list[Path]:
    """Python files of the repository, of some top folders or of all."""
    found = [path for path in repository_files() if path.suffix == ".py"]
    return [p for p in found if not folders or p.relative_to(ROOT).parts[0] in folders]


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_modules(path: Path) -> set[str]:
    """Absolute names that a file imports, also inside functions and by import_module("...")."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(
            node.func, "attr", getattr(node.func, "id", "")
        ) in ("import_module", "__import__"):
            names |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@functools.cache
def pins() -> dict[str, str]:
    """Version by canonical name in the pinned file."""
    lines = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package):
    wrong = [
        f"{where(path)} imports {name}"
        for path in python_files(package)
        for name in imported_modules(path)
        if name.split(".")[0] in PACKAGES
        and name.split(".")[0] not in MAY_IMPORT[package]
        and not (package != "resora" and (name + ".").startswith(SHARED))
    ]
    assert not wrong


def test_tensorflow_is_for_preparing_alone():
    wrong = [
        f"{where(path)} imports {name}"
        for path in python_files("resora", "benchmarks", "reports", "slurm", "data_prep")
        for name in imported_modules(path)
        if name.split(".")[0].startswith("tensorflow")
        and where(path) != "data_prep/vtab1k/tfds_source.py"
    ]
    assert not wrong
    program = (
        "import sys, benchmarks.vtab1k.runner, benchmarks.training.pace, benchmarks.harness.cli\n"
        "print([name for name in sys.modules if name.startswith('tensorflow')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_the_library_needs_torch_alone():
    allowed = set(sys.stdlib_module_names) | {"torch", "resora"}
    # Saving is an extra; its module imports safetensors when it is asked to write or read a file.
    extra = {"resora/adapted/files.py": "safetensors"}
    # The figures of METHOD.md are no part of the wheel.
    wrong = [
        f"{where(path)} imports {name}"
        for path in python_files("resora")
        if not where(path).startswith("resora/figures/")
        for name in imported_modules(path)
        if name.split(".")[0] not in allowed | {extra.get(where(path), "resora")}
    ]
    assert not wrong
    assert [Requirement(text).name for text in project()["dependencies"]] == ["torch"]


def test_no_module_is_named_utils():
    assert not [where(p) for p in python_files() if p.stem in ("utils", "util", "helpers", "misc")]


def test_modules_are_short():
    lengths = {where(p): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files()}
    assert not {name: n for name, n in lengths.items() if n > MODULE_LINES}


def test_functions_are_short():
    long = [
        f"{where(path)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in python_files(*PACKAGES, "requirements")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long


def test_every_module_says_what_it_owns():
    files = [p for p in python_files(*PACKAGES) if p.stat().st_size]
    assert not [where(p) for p in files if not ast.get_docstring(parsed(p))]


def test_the_wheel_holds_resora_alone(tmp_path):
    source = tmp_path / "source"
    for path in repository_files():
        parts = path.relative_to(ROOT).parts
        if parts[0] in (*PACKAGES[1:], "tests") and path.suffix != ".py":
            continue
        if len(parts) > 1 and parts[0] not in (*PACKAGES, "tests", "requirements"):
            continue
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    build = f"import setuptools.build_meta as b; print(b.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        (metadata,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    assert {top for top in tops if not top.endswith(".dist-info")} == {"resora"}
    needs = re.findall(r"^Requires-Dist: (.+)$", text, flags=re.MULTILINE)
    assert [Requirement(n).name for n in needs if "extra ==" not in n] == ["torch"]


def installed_closure(requirements: list[str]) -> set[str]:
    """Canonical names of what the requirements bring in this environment, where installed."""
    seen: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        wanted, extra = queue.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        for inner in ("", *wanted.extras):
            key = (canonicalize_name(wanted.name), inner)
            if key in seen:
                continue
            seen.add(key)
            try:
                needs = importlib.metadata.requires(wanted.name) or []
            except importlib.metadata.PackageNotFoundError:
                seen.discard(key)
                continue
            queue += [(Requirement(text), inner) for text in needs]
    return {name for name, _ in seen}


def asked_here() -> list[str]:
    """What the project and its extras ask for on this kind of machine."""
    groups = [*project()["optional-dependencies"].values(), project()["dependencies"]]
    asked = [(text, Requirement(text).marker) for group in groups for text in group]
    return [text for text, marker in asked if marker is None or marker.evaluate({"extra": ""})]


def test_every_dependency_is_pinned():
    asked = asked_here()
    unpinned = {canonicalize_name(Requirement(text).name) for text in asked} - pins().keys()
    assert not unpinned, "run: make lock"
    # torch's CUDA packages are pinned by torch itself and exist on some machines only.
    brought = {
        n for n in installed_closure(asked) if not n.startswith(("nvidia-", "triton", "cuda-"))
    }
    assert not brought - pins().keys(), "run: make lock"


def test_pins_are_exact_and_satisfy_the_bounds():
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in pins().values())
    for wanted in map(Requirement, asked_here()):
        assert wanted.specifier.contains(pins()[canonicalize_name(wanted.name)]), str(wanted)


def test_no_file_names_a_place_on_somebodys_machine():
    place = re.compile(r"(?<![\w.:/-])/(?:home|Users|root|work)/[\w.-]+")
    binary = {".safetensors", ".png", ".npz", ".gz"}
    found = []
    for path in repository_files():
        if path.suffix in binary or path == Path(__file__).resolve():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{where(path)}: {match}" for match in place.findall(text)]
    assert not found


def test_no_file_is_large():
    sizes = {where(path): path.stat().st_size for path in repository_files()}
    assert not {name: size for name, size in sizes.items() if size > LARGEST_BYTES}


def test_generated_tasks_are_those_that_the_benchmark_declares():
    from benchmarks.vtab1k.spec import TASKS as declared
    from data_prep.embedded.vtab1k import TASKS as generated

    made = [(task.name, task.group, task.num_classes) for task in generated]
    assert made == [(task.name, task.group, task.num_classes) for task in declared]


def test_documents_name_make_targets_that_exist():
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", rules, flags=re.MULTILINE))
    for path in repository_files():
        if path.suffix == ".md" and path.parent == ROOT:
            text = path.read_text(encoding="utf-8")
            blocks = re.findall(r"`(make [^`\n]+)`|^(make .+)$", text, flags=re.MULTILINE)
            words = [w for pair in blocks for w in "".join(pair).split("#")[0].split()[1:]]
            named = {w for w in words if re.fullmatch(r"[a-z][a-z-]*", w)}
            assert named <= targets, f"{path.name} names {named - targets}"


def test_links_between_documents_resolve():
    link = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
    broken = [
        f"{where(path)} -> {target}"
        for path in repository_files()
        if path.suffix == ".md"
        for target in link.findall(path.read_text(encoding="utf-8"))
        if not (path.parent / target).exists()
    ]
    assert not broken


def test_the_citation_has_the_version_of_the_package():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project()['version']}\n" in text


def test_every_progress_bar_is_that_of_data_prep():
    users = [where(path) for path in python_files(*PACKAGES) if "tqdm" in path.read_text("utf-8")]
    assert users == ["data_prep/progress.py"]


def test_no_module_imports_itself_in_a_circle():
    """Also none for its types alone; an import inside a function is none, since nobody waits for it."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in python_files(*PACKAGES)
        if path.name != "__init__.py"
    }
    needs = {}
    for name, path in modules.items():
        inside = {
            id(node)
            for function in ast.walk(parsed(path))
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
        }
        needs[name] = {
            found
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in inside
            for found in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            if found in modules
        }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
