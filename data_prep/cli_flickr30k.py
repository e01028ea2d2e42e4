"""The commands for Flickr30K, which has no tasks and packs no images: features stay where they are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.flickr30k import check, generated, packed, precomputed, tokens
from data_prep.pack import MANIFEST, read_manifest

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3
VARIANTS = (generated.VARIANT, "folder")


def add_options(prepare: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare`` that Flickr30K has, and other data with captions share."""
    prepare.add_argument(
        "--vocab",
        type=Path,
        help="with --root: for flickr30k, BERT's vocab.txt (default: bert-base-uncased's on this machine); "
        "for msrvtt, a folder with CLIP's vocab.json and merges.txt, or bpe_simple_vocab_16e6.txt.gz "
        "(default: those of clip-vit-base-patch32 on this machine)",
    )
    prepare.add_argument(
        precomputed.OTHER_SIZES,
        action="store_true",
        help="allow other numbers of images, regions and dimensions (flickr30k with --root), or other "
        "numbers of clips and captions (msrvtt)",
    )


def line(data: Path) -> str:
    """Return what ``ls`` says, below the tasks."""
    prepared = [name for name in VARIANTS if _is_prepared(data, name)]
    return f"{packed.BENCHMARK}: image-text retrieval; prepared: {' '.join(prepared) or 'no'}"


def run(args: argparse.Namespace) -> int:
    """Run prepare, verify or show for Flickr30K; return the exit code."""
    if args.selector != packed.BENCHMARK:
        return _usage(
            f"{packed.BENCHMARK} has no tasks to select: '{packed.BENCHMARK}' is all of it"
        )
    if args.source not in (None, *VARIANTS):
        return _usage(
            f"--source {args.source} has no {packed.BENCHMARK}; {' and '.join(VARIANTS)} do"
        )
    command = {"prepare": _prepare, "verify": _verify, "show": _show}[args.command]
    try:
        return command(args)
    except DataError as error:
        print(error, file=sys.stderr)
        return FAILED


def _usage(text: str) -> int:
    print(text, file=sys.stderr)
    return USAGE


def _is_prepared(data: Path, variant: str) -> bool:
    return (packed.folder_of(data, variant) / MANIFEST).is_file()


def _prepare(args: argparse.Namespace) -> int:
    # --root says enough: there is nothing to be read for the generated scenes.
    variant = "folder" if args.root is not None else args.source
    embedded = variant == generated.VARIANT
    given = [
        f"--{name.replace('_', '-')}" for name in ("vocab", "other_sizes") if getattr(args, name)
    ]
    if args.first is not None:
        return _usage("--first is for msrvtt")
    if args.size is not None:
        return _usage(f"--size is for images, and {packed.BENCHMARK} has features")
    if embedded and given:
        return _usage(f"{given[0]} is for a folder (--root DIR); nothing is read here")
    if not embedded and args.root is None:
        return _usage(
            "--source folder needs --root: the folder with {train,dev,test}_ims.npy and so on"
        )
    folder = packed.folder_of(args.data, variant)
    source = None if embedded else _Folder(args)
    head = generated.head(args.seed) if source is None else source.head
    skip = not args.force and check.check(args.data, variant, head, whole=False).ok
    if args.dry_run:
        print(f"{'skip   ' if skip else 'prepare'}  {folder}")
    elif skip:
        print(f"{folder}: already there")
    else:
        if source is None:
            generated.prepare(args.data, args.seed)
        else:
            source.prepare(folder)
        print(f"{folder}: prepared")
    return DONE


class _Folder:
    """The files of ``--root``, looked at but not read."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.root = precomputed.find(args.root)
        self.words = tokens.published(args.data, args.vocab)
        self.files = precomputed.look(self.root, other_sizes=args.other_sizes)
        self.head: dict[str, Any] = {
            "variant": "folder",
            "root": str(self.root),
            "tokenizer": self.words.about(),
        }

    def prepare(self, folder: Path) -> None:
        """Read the features once, and write captions and manifest."""
        with _bar(sum(files.features.size for files in self.files.values())) as bar:
            splits = {}
            for name, files in self.files.items():
                bar.set_description(f"{packed.BENCHMARK}/{name}")
                splits[name] = precomputed.scan(name, files, bar.update)
        with packed.staged(folder) as staging:
            packed.write(staging, splits, self.words, self.head)


def _bar(total: int) -> Any:
    from data_prep.progress import Bar

    return Bar(total=total, unit="B", unit_scale=True)


def _chosen(args: argparse.Namespace) -> list[str]:
    """Return the variant that was named, or each that is prepared, or embedded."""
    if args.source:
        return [args.source]
    return [v for v in VARIANTS if _is_prepared(args.data, v)] or [generated.VARIANT]


def _verify(args: argparse.Namespace) -> int:
    codes = []
    for variant in _chosen(args):
        head = generated.head(None) if variant == generated.VARIANT else {"variant": variant}
        with _bar(_features_bytes(args.data, variant)) as bar:
            findings = check.check(args.data, variant, head, tick=bar.update)
        if findings.ok:
            findings.wrong += check.misfits(args.data, variant)
        for text in (*findings.wrong, *findings.missing):
            print(text)
        print(f"{variant}: {packed.BENCHMARK} is {'' if findings.ok else 'not '}whole and right")
        if not findings.ok:
            _advise(variant)
        codes.append(FAILED if findings.wrong else INCOMPLETE if findings.missing else DONE)
    return FAILED if FAILED in codes else max(codes)


def _advise(variant: str) -> None:
    option = "" if variant == generated.VARIANT else " --root DIR"
    print(f"'python -m data_prep prepare {packed.BENCHMARK}{option}' makes it", file=sys.stderr)


def _features_bytes(data: Path, variant: str) -> int:
    try:
        manifest = read_manifest(packed.folder_of(data, variant))
        return sum(int(entry["features"]["bytes"]) for entry in manifest["splits"].values())
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _show(args: argparse.Namespace) -> int:
    from data_prep.flickr30k import sheet  # imports PIL, which the other commands do without

    code = DONE
    for variant in _chosen(args):
        if not _is_prepared(args.data, variant):
            print(f"{packed.BENCHMARK} is not prepared in {args.data / variant}", file=sys.stderr)
            _advise(variant)
            code = INCOMPLETE
            continue
        ending = "" if variant == generated.VARIANT else f"-{variant}"
        out: Path = args.out or Path("work/sheets") / f"{packed.BENCHMARK}{ending}.png"
        sheet.draw(args.data, variant, out)
        print(out)
    return code
