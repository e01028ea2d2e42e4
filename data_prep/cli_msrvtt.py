"""The commands for MSR-VTT, which has no tasks: videos are decoded once into a few frames each."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.pack import MANIFEST, read_manifest

DONE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3
BENCHMARK, EMBEDDED, FOLDER = "msrvtt", "embedded", "folder"
VARIANTS = (EMBEDDED, FOLDER)
SIZE = 224
_NAMED = 5


def add_options(prepare: argparse.ArgumentParser) -> None:
    """Add the options of ``prepare`` that are for MSR-VTT alone."""
    prepare.add_argument(
        "--first",
        type=int,
        metavar="N",
        help="msrvtt, embedded: only the first N clips of each split (the scale smoke needs 80); "
        "without it, a later call goes on from there",
    )
    prepare.add_argument(
        "--videos",
        type=Path,
        help="msrvtt: folder of the videos, if it is not in --root",
    )


def line(data: Path) -> str:
    """Return what ``ls`` says, below the tasks."""
    prepared = [name for name in VARIANTS if _is_prepared(data, name)]
    return f"{BENCHMARK}: video-text retrieval; prepared: {' '.join(prepared) or 'no'}"


def run(args: argparse.Namespace) -> int:
    """Run prepare, verify or show for MSR-VTT; return the exit code."""
    if args.selector != BENCHMARK:
        return _usage(f"{BENCHMARK} has no tasks to select: '{BENCHMARK}' is all of it")
    if args.source not in (None, *VARIANTS):
        return _usage(f"--source {args.source} has no {BENCHMARK}; {' and '.join(VARIANTS)} do")
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
    return (data / variant / BENCHMARK / MANIFEST).is_file()


def _prepare(args: argparse.Namespace) -> int:
    from data_prep.msrvtt import check, packed

    # --root says enough: there is nothing to be read for the generated clips.
    variant = FOLDER if args.root is not None else args.source
    if variant == FOLDER and args.root is None:
        return _usage(
            "--source folder needs --root: the folder with MSRVTT_data.json and its lists"
        )
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("vocab", "other_sizes", "videos", "size")
        if getattr(args, name)
    ]
    if variant == EMBEDDED and given:
        return _usage(f"{given[0]} is for --source folder; the embedded clips are generated")
    if args.first is not None and (variant != EMBEDDED or args.first < 1):
        return _usage("--first takes a number of embedded clips, 1 or more")
    folder = packed.folder_of(args.data, variant)
    made = _Generated(args) if variant == EMBEDDED else _Files(args)
    skip = not args.force and check.check(args.data, variant, made.head, whole=False).ok
    clips, needed = made.clips, packed.packed_bytes(made.clips, made.size)
    free = _free_bytes(args.data)
    if skip:
        print(f"skip     {folder}" if args.dry_run else f"{folder}: already there")
        return DONE
    staged = packed.staging_of(folder).is_dir()
    if args.dry_run:
        print(f"prepare  {folder}{' (continues)' * staged}")
        print(f"needed: {_gigabytes(needed)}; free in {args.data}: {_gigabytes(free)}")
        return DONE
    if needed > free and not staged:
        print(
            f"not enough space: {clips:,} clips need {_gigabytes(needed)} in {args.data}, "
            f"{_gigabytes(free)} are free; --data DIR packs elsewhere, --size packs smaller frames",
            file=sys.stderr,
        )
        return FAILED
    if args.force:
        for former in made.former(folder):
            shutil.rmtree(former, ignore_errors=True)
    with _bar(made.steps) as bar:
        manifest = made.prepare(args, folder, bar)
    print(f"{folder}: prepared")
    return _report(manifest)


def _free_bytes(folder: Path) -> int:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _report(manifest: Mapping[str, Any]) -> int:
    """Name the clips that were left out or noted; return INCOMPLETE if any were left out."""
    code = DONE
    for split, entry in manifest["splits"].items():
        for what, kind in (("left out", "left_out"), ("kept with a fault", "noted")):
            named: dict[str, str] = entry[kind]
            if not named:
                continue
            print(
                f"{split}: {len(named):,} of {entry['n_listed']:,} clips {what}:", file=sys.stderr
            )
            for clip, why in list(named.items())[:_NAMED]:
                print(f"  {clip}: {why}", file=sys.stderr)
            if len(named) > _NAMED:
                print(f"  and {len(named) - _NAMED:,} more; {MANIFEST} has all", file=sys.stderr)
            code = INCOMPLETE if kind == "left_out" else code
    if code == INCOMPLETE:
        print(
            "when these videos are there, run the same command with --force to add them",
            file=sys.stderr,
        )
    return code


class _Files:
    """The files of ``--root``: annotations read, videos found but not opened."""

    def __init__(self, args: argparse.Namespace) -> None:
        from data_prep.msrvtt import lists, packed, tokens

        self.size = SIZE if args.size is None else args.size
        folder = lists.find(args.root)
        listing = lists.look(folder, other_sizes=args.other_sizes)
        names = [clip for captions in listing.captions.values() for clip in captions]
        videos = lists.find_videos(args.videos or args.root, names)
        words = tokens.published(args.data, args.vocab)
        self.job = packed.Job(listing, videos, words, self.size, {"variant": FOLDER})
        self.head = self.job.identity()
        self.clips = self.steps = len(names)

    def former(self, folder: Path) -> list[Path]:
        """Return what an earlier run may have left, and this one would go on with."""
        from data_prep.msrvtt import packed

        return [packed.staging_of(folder)]

    def prepare(self, args: argparse.Namespace, folder: Path, bar: Any) -> dict[str, Any]:
        """Decode and pack."""
        from data_prep.msrvtt import packed

        return packed.prepare(self.job, folder, jobs=args.jobs, tick=bar.update)


class _Generated:
    """The embedded world's clips, not generated yet."""

    def __init__(self, args: argparse.Namespace) -> None:
        from data_prep.msrvtt import generated

        self.size = generated.SIZE
        self.head = generated.head(args.seed, args.first)
        self.clips = sum(min(count, args.first or count) for count in generated.COUNTS.values())
        self.steps = 2 * self.clips

    def former(self, folder: Path) -> list[Path]:
        """Return what an earlier run may have left, and this one would go on with."""
        from data_prep.msrvtt import generated, packed

        files = generated.files_folder(folder)
        return [packed.staging_of(folder), packed.staging_of(files), files]

    def prepare(self, args: argparse.Namespace, folder: Path, bar: Any) -> dict[str, Any]:
        """Write videos and annotations, then decode and pack them."""
        from data_prep.msrvtt import generated

        return generated.prepare(
            folder, args.seed, first=args.first, jobs=args.jobs, tick=bar.update
        )


def _bar(total: int) -> Any:
    from data_prep.progress import Bar

    return Bar(total=total, unit="clip")


def _chosen(args: argparse.Namespace) -> list[str]:
    """Return the variant that was named, or each that is prepared, or embedded."""
    if args.source:
        return [args.source]
    return [v for v in VARIANTS if _is_prepared(args.data, v)] or [EMBEDDED]


def _verify(args: argparse.Namespace) -> int:
    from data_prep.msrvtt import check, generated

    codes = []
    for variant in _chosen(args):
        head = generated.head(None) if variant == EMBEDDED else {}
        findings = check.check(args.data, variant, head)
        if findings.ok:
            findings.wrong += check.misfits(args.data, variant)
        for text in (*findings.wrong, *findings.missing):
            print(text)
        print(f"{variant}: {BENCHMARK} is {'' if findings.ok else 'not '}complete and correct")
        if findings.ok:
            _say_left_out(args.data / variant / BENCHMARK)
        else:
            _advise(variant)
        codes.append(FAILED if findings.wrong else INCOMPLETE if findings.missing else DONE)
    return FAILED if FAILED in codes else max(codes)


def _say_left_out(folder: Path) -> None:
    for split, entry in read_manifest(folder)["splits"].items():
        if entry["left_out"]:
            print(f"{split}: {len(entry['left_out']):,} of {entry['n_listed']:,} clips left out")


def _advise(variant: str) -> None:
    option = "" if variant == EMBEDDED else " --root DIR"
    print(f"'python -m data_prep prepare {BENCHMARK}{option}' makes it", file=sys.stderr)


def _show(args: argparse.Namespace) -> int:
    from data_prep.msrvtt import sheet  # imports PIL, which the other commands do without

    code = DONE
    for variant in _chosen(args):
        if not _is_prepared(args.data, variant):
            print(f"{BENCHMARK} is not prepared in {args.data / variant}", file=sys.stderr)
            _advise(variant)
            code = INCOMPLETE
            continue
        ending = "" if variant == EMBEDDED else f"-{variant}"
        out: Path = args.out or Path("work/sheets") / f"{BENCHMARK}{ending}.png"
        sheet.draw(args.data, variant, out)
        print(out)
    return code
