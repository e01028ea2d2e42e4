"""Whether what is prepared is whole and right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import tensors_file
from data_prep.msrvtt import decoding, packed, sampling
from data_prep.pack import MANIFEST, Findings, read_manifest
from data_prep.whole_files import sha256


def check(data: Path, variant: str, head: Mapping[str, Any], *, whole: bool = True) -> Findings:
    """Check what is prepared: manifest, frames, captions, lists.

    Args:
        data: The data folder.
        variant: embedded or folder.
        head: What the manifest has to say.
        whole: Whether the files of frames are read whole, for their hash; if not, sizes have to do.
    """
    folder, findings = packed.folder_of(data, variant), Findings()
    path = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
        entries = {split: manifest["splits"][split] for split in packed.SPLITS}
        size, special = int(manifest["size"]), manifest["tokenizer"]["special"]
    except FileNotFoundError:
        findings.missing.append(f"{path}: not prepared")
        return findings
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.wrong.append(f"{path}: not readable as a manifest ({error!r})")
        return findings
    wanted = {"benchmark": packed.BENCHMARK, "variant": variant} | dict(head)
    first, enough = manifest.get("first"), wanted.pop("first", None)
    if first is not None and (enough is None or enough > first):
        findings.missing.append(f"{path}: only the first {first} clips of each split are prepared")
    for key, value in wanted.items():
        if manifest.get(key) != value:
            findings.wrong.append(
                f"{path}: {key} is {_short(manifest.get(key))}, not {_short(value)}"
            )
    for split, entry in entries.items():
        try:
            counts = _check_frames(
                folder / decoding.frames_file(split), entry, size, whole, findings
            )
            _check_captions(folder / packed.captions_file(split), entry, special, counts, findings)
        except KeyError as error:
            findings.wrong.append(f"{path}: {split} says nothing of {error}")
    _check_lists(folder / packed.LISTS, manifest, findings)
    return findings


def misfits(data: Path, variant: str) -> list[str]:
    """Say what a run would refuse of data that are whole."""
    manifest = read_manifest(packed.folder_of(data, variant))
    found = (manifest["tokenizer"]["size"], manifest["size"])
    return [
        f"the data have {here} {what}, a run's backbone has {meant}"
        for here, (what, meant) in zip(found, packed.FITS[variant].items(), strict=True)
        if here != meant
    ]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _opened(
    path: Path, said: str | None, hashed: bool, findings: Findings
) -> tensors_file.Arrays | None:
    """Open a file if it is there and, where its hash is taken, the one that the manifest says."""
    if not path.is_file():
        findings.missing.append(f"{path}: no such file")
        return None
    if hashed and sha256(path) != said:
        findings.wrong.append(f"{path}: sha256 differs from the manifest")
        return None
    try:
        return tensors_file.open_arrays(path)
    except tensors_file.NotTensors as error:
        findings.wrong.append(f"{path}: not whole ({error})")
        return None


def _check_frames(
    path: Path, entry: Mapping[str, Any], size: int, whole: bool, findings: Findings
) -> Any:
    """Check a file of frames; return its counts, or None."""
    arrays = _opened(path, entry["frames_sha256"], whole, findings)
    if arrays is None:
        return None
    frames, counts = arrays["frames"], np.asarray(arrays["counts"])
    rows = entry["n_listed"]
    wanted = (rows, sampling.MAX_FRAMES, 3, size, size)
    if frames.shape != wanted or frames.dtype != np.uint8 or counts.shape != (rows,):
        findings.wrong.append(f"{path}: {frames.dtype} {frames.shape}, and not uint8 {wanted}")
        return None
    if counts.min() < 0 or counts.max() > sampling.MAX_FRAMES:
        findings.wrong.append(f"{path}: a count is outside 0 to {sampling.MAX_FRAMES}")
    if (int((counts > 0).sum()), int(counts.sum())) != (entry["n_clips"], entry["frames"]):
        findings.wrong.append(f"{path}: counts differ from the manifest")
    if len(entry["left_out"]) != int((counts == 0).sum()):
        findings.wrong.append(f"{path}: a clip without frames is not named in the manifest")
    return counts


def _check_captions(
    path: Path,
    entry: Mapping[str, Any],
    special: Mapping[str, int],
    counts: Any,
    findings: Findings,
) -> None:
    arrays = _opened(path, entry["captions_sha256"], True, findings)
    if arrays is None:
        return
    tokens, clips = np.asarray(arrays["tokens"]), np.asarray(arrays["clips"])
    if not len(tokens) == len(clips) == entry["n_captions"]:
        findings.wrong.append(
            f"{path}: {len(tokens)} captions, {entry['n_captions']} by the manifest"
        )
        return
    wrong = packed.faults_of_tokens(tokens, special)
    if counts is not None:
        if clips.min() < 0 or clips.max() >= len(counts):
            wrong.append(f"clips outside 0 to {len(counts) - 1}")
        elif not (counts[clips] > 0).all():
            wrong.append("a caption is of a clip that was left out")
        elif len(np.unique(clips)) != entry["n_clips"]:
            wrong.append("a clip has no caption")
    findings.wrong += [f"{path}: {fault}" for fault in wrong]


def _check_lists(path: Path, manifest: Mapping[str, Any], findings: Findings) -> None:
    arrays = _opened(path, manifest.get("lists_sha256"), True, findings)
    if arrays is not None:
        found = {name: len(rows) for name, rows in arrays.items()}
        if found != manifest.get("lists"):
            findings.wrong.append(f"{path}: lists differ from the manifest")
