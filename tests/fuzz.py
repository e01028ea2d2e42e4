"""Damages files at random and has the suite read them: nothing may become another number, or run.

    make fuzz FUZZ_ARGS='--seconds 60 --seed 0'

A small world is trained once: a base and its control. Then one of its files is damaged (bits, bytes and
digits changed, cut off, lengthened, overwritten, replaced by a pickle that creates a file) and the command
that reads it is given again. It may refuse the file in one line, or train what it lacks again and end with
the numbers of the undamaged world. Exit code 1: it ended with other numbers or with a traceback, or the
pickle was run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tabulate import tabulate

from benchmarks import backbones
from benchmarks.harness import cli
from benchmarks.harness.cell import Cell
from benchmarks.harness.store import InvalidRecord, Store
from benchmarks.training import checkpoint
from benchmarks.training.trainer import Stage
from data_prep.progress import Bar
from resora.adapted import load, save
from tests.benchmarks.packed import pack_task
from tests.resora.small_vision import images, trained, vit

BASE = Cell.parse("vtab1k/vit_micro/eurosat/lora-r4/0")
SECOND = Cell.parse("vtab1k/vit_micro/eurosat/lora-r4+control/0")
COMPARED = ("status", "metrics", "curves", "redundancy", "counts", "config", "config_hash")
REFUSED, SAME = "refused", "same numbers"
WRONG = OTHER, TRACEBACK, EXECUTED = "OTHER NUMBERS", "TRACEBACK", "EXECUTED"


class Creates:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return (open, (str(self.path), "w"))


def damaged(content: bytes, rng: random.Random, hostile: bytes) -> tuple[str, bytes]:
    """Return what was done to a file's bytes, and they."""
    kind = rng.choice(
        ("bit", "bit", "byte", "bytes", "digit", "digit", "cut", "longer", "zeros", "hostile")
    )
    changed = bytearray(content)
    # Half of the places are in the header, where few bytes say much.
    at = rng.randrange(len(changed) if rng.random() < 0.5 else min(len(changed), 2_000))
    if kind == "bit":
        changed[at] ^= 1 << rng.randrange(8)
    elif kind in ("byte", "bytes"):
        for place in range(at, min(at + (1 if kind == "byte" else 8), len(changed))):
            changed[place] = rng.randrange(256)
    elif kind == "digit":
        places = [i for i, byte in enumerate(changed[:200_000]) if chr(byte).isdigit()]
        if places:
            changed[rng.choice(places)] = ord(rng.choice("0123456789"))
    elif kind == "cut":
        del changed[at:]
    elif kind == "longer":
        changed += rng.choice((b"\n", b"\0" * 64, rng.randbytes(64)))
    elif kind == "zeros":
        changed[at : at + 4_096] = bytes(len(changed[at : at + 4_096]))
    else:
        changed = bytearray(hostile)
    return kind, bytes(changed)


@dataclass
class World:
    """A trained world in a folder, and what is run in it."""

    folder: Path

    @property
    def made(self) -> Path:
        """What a pickle that is run creates."""
        return self.folder / "made"

    @property
    def weights(self) -> Path:
        return self.folder / "backbones" / "vit_micro.safetensors"

    def place(self, name: str) -> Path:
        """Return the one file of a name."""
        (found,) = (path for path in self.folder.rglob(name) if "tmp" not in path.name)
        return found

    def call(self, command: str, *cells: Cell) -> int:
        """Run a command in this process."""
        places = [f"--results={self.folder / 'results'}"]
        if command == "run":
            places += [f"--{name}={self.folder / name}" for name in ("work", "data")]
            places += ["--device=cpu", "--jobs=1", "--set=data.limit_train=32"]
            places += ["--set=data.limit_test=16", "--set=stage1.epochs=2"]
            places += ["--set=stage2.epochs=1"] if SECOND in cells else []
        there = {"ROOT": self.folder, "EMBEDDED": self.folder / "backbones"}
        with mock.patch.multiple(backbones, **there):
            return cli.main([command, *map(str, cells), *places])

    def numbers(self, cell: Cell) -> dict[str, object] | None:
        """Return what a record says, if it is valid and ok."""
        try:
            record = Store(self.folder / "results", "smoke").load(cell)
        except InvalidRecord:
            return None
        if record is None or record["status"] != "ok":
            return None
        return {key: record[key] for key in COMPARED}

    def copy(self, to: Path) -> World:
        """Return a world with the same files and times."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.folder, to)
        return World(to)


def build(folder: Path) -> tuple[World, World]:
    """Return a trained world, and one that was killed after its first epoch."""
    whole, killed = World(folder / "whole"), World(folder / "killed")
    pack_task(whole.folder / "data", "eurosat", 10, n=32)
    shutil.copytree(backbones.EMBEDDED, whole.folder / "backbones")
    shutil.copytree(whole.folder, killed.folder)
    plain = Stage.train_epoch

    def train_epoch(stage: Stage, epoch: int, *rest: object) -> object:
        if epoch:
            raise KeyboardInterrupt
        return plain(stage, epoch, *rest)

    with mock.patch.object(Stage, "train_epoch", train_epoch):
        killed.call("run", BASE)
    shutil.rmtree(killed.folder / "results")
    assert whole.call("run", BASE) == 0
    assert whole.call("run", SECOND) == 0
    return whole, killed


class Fuzz:
    """The kinds of files, each with its check: it returns what became of a damaged one."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng, self.folder = random.Random(seed), folder
        self.whole, self.killed = build(folder)
        self.meant = {cell: self.whole.numbers(cell) for cell in (BASE, SECOND)}
        assert all(self.meant.values())
        model = trained("lora-r2")
        save(model, folder / "adapter.safetensors")
        self.outputs = model(images())
        self.kinds: dict[str, Callable[[], tuple[str, str]]] = {
            "record": lambda: self.cell(self.whole, "0.json", BASE, keeps=(SECOND,)),
            "manifest": lambda: self.cell(self.whole, "manifest.json", BASE),
            "split": lambda: self.cell(
                self.whole, self.rng.choice(("train800", "val200", "test")) + ".safetensors", BASE
            ),
            "stage 1": lambda: self.cell(self.whole, checkpoint.STAGE1, SECOND, keeps=(BASE,)),
            "last epoch": lambda: self.cell(self.killed, checkpoint.LAST_EPOCH, BASE),
            "weights": lambda: self.cell(self.whole, "vit_micro.safetensors", BASE),
            "adapter": self.adapter,
        }

    def cell(
        self, world: World, name: str, cell: Cell, keeps: tuple[Cell, ...] = ()
    ) -> tuple[str, str]:
        """Damage a file of a world, and run a cell that reads it."""
        world = world.copy(self.folder / "now")
        path = (
            world.folder / "results" / "smoke" / cell.path
            if name == "0.json"
            else world.place(name)
        )
        for other in {BASE, SECOND} - {*keeps}:
            if name != "0.json":
                (world.folder / "results" / "smoke" / other.path).unlink(missing_ok=True)
        if name in ("manifest.json", "vit_micro.safetensors") or path.parent.name == "eurosat":
            shutil.rmtree(world.folder / "work", ignore_errors=True)
        how = self.damage(path, world.made, has_digest=name == checkpoint.LAST_EPOCH)
        if name == "0.json":
            world.call("verify")
            world.call("status", cell)
            if world.numbers(cell) not in (None, self.meant[cell]):
                return how, OTHER
        world.call("run", cell)
        found = world.numbers(cell)
        if world.made.exists():
            return how, EXECUTED
        return how, REFUSED if found is None else SAME if found == self.meant[cell] else OTHER

    def adapter(self) -> tuple[str, str]:
        """Damage the file of an adapter, and load it."""
        path, made = self.folder / "now.safetensors", self.folder / "made"
        shutil.copy(self.folder / "adapter.safetensors", path)
        how = self.damage(path, made)
        plain = vit()
        before = plain(images())
        try:
            load(plain, path)
        except ValueError as error:
            is_whole = torch.equal(plain(images()), before) and "\n" not in str(error)
            return how, REFUSED if is_whole else OTHER
        finally:
            if made.exists():
                raise RuntimeError("executed")
        return how, SAME if torch.equal(plain(images()), self.outputs) else OTHER

    def damage(self, path: Path, made: Path, *, has_digest: bool = False) -> str:
        """Damage a file; return how. A hostile one has the right checksum."""
        hostile = pickle.dumps({"x": Creates(made)}, protocol=2)
        hostile += hashlib.sha256(hostile).digest() if has_digest else b""
        before = path.read_bytes()
        how, content = damaged(before, self.rng, hostile)
        path.write_bytes(content)
        (self.folder / "damaged").write_bytes(content)
        return how

    def one(self, kind: str) -> tuple[str, str, str]:
        """Try an input of a kind; return how it was damaged, what became of it, and what was printed."""
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            try:
                how, outcome = self.kinds[kind]()
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                how, outcome = "?", TRACEBACK
                traceback.print_exc(file=told)
        if outcome not in WRONG and "Traceback (most recent" in told.getvalue():
            outcome = TRACEBACK
        return how, outcome, told.getvalue()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000, help="inputs (default: 1,000)")
    parser.add_argument("--seconds", type=float, help="stop after so many, whatever the count is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", help="of these files alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.environ["TQDM_DISABLE"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    counts: Counter[tuple[str, str]] = Counter()
    started = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            fuzz = Fuzz(folder, options.seed)
        kinds = options.kinds or list(fuzz.kinds)
        for number in Bar(range(options.count), unit="input", file=sys.stderr, disable=False):
            if options.seconds and time.monotonic() - started > options.seconds:
                break
            kind = kinds[number % len(kinds)]
            how, outcome, told = fuzz.one(kind)
            counts[kind, outcome] += 1
            if outcome in WRONG:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{options.seed}-{number}"
                shutil.copy(folder / "damaged", kept)
                print(f"\n{outcome}: input {number}, {kind}, {how}: {kept}\n{told[-1500:]}")
        outcomes = (REFUSED, SAME, *WRONG)
        rows = [[kind, *(counts[kind, name] for name in outcomes)] for kind in kinds]
        rows.append(["all", *(sum(row[i] for row in rows) for i in range(1, len(outcomes) + 1))])
        print(tabulate(rows, headers=["damaged", *outcomes]))
        print(f"{sum(counts.values())} inputs, seed {options.seed}")
        return int(any(counts[kind, name] for kind in kinds for name in WRONG))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
