"""Whether what is prepared is whole and right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import tensors_file
from data_prep.errors import DataError
from data_prep.flickr30k import packed, precomputed
from data_prep.pack import MANIFEST, Findings, read_manifest
from data_prep.whole_files import sha256


def check(
    data: Path,
    variant: str,
    head: dict[str, Any],
    *,
    whole: bool = True,
    tick: Callable[[int], None] = lambda count: None,
) -> Findings:
    """Check what is prepared: manifest, captions, features.

    Args:
        data: The data folder.
        variant: embedded or folder.
        head: What the manifest has to say.
        whole: Whether features from elsewhere are read whole; if not, size, time of change and the first
            mebibyte tell that a file is the same.
        tick: Told of every block of features that is read.
    """
    folder, findings = packed.folder_of(data, variant), Findings()
    path = folder / MANIFEST
    try:
        manifest = read_manifest(folder)
        entries = {split: manifest["splits"][split] for split in packed.SPLITS}
        size = int(manifest["tokenizer"]["size"])
    except FileNotFoundError:
        findings.missing.append(f"{path}: not prepared")
        return findings
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.wrong.append(f"{path}: not readable as a manifest ({error!r})")
        return findings
    for key, value in ({"benchmark": packed.BENCHMARK, "variant": variant} | head).items():
        if manifest.get(key) != value:
            findings.wrong.append(f"{path}: {key} is {manifest.get(key)!r}, not {value!r}")
    features = features_folder(folder, manifest)
    for split, entry in entries.items():
        try:
            _check_captions(folder, split, entry, (size, packed.LONGEST[variant]), findings)
            _check_features(features, entry, "root" in manifest and not whole, tick, findings)
        except KeyError as error:
            findings.wrong.append(f"{path}: {split} says nothing of {error}")
    return findings


def misfits(data: Path, variant: str) -> list[str]:
    """Say what a run would refuse of data that are whole."""
    tokenizer = read_manifest(packed.folder_of(data, variant))["tokenizer"]
    if tokenizer["size"] == packed.VOCABULARY[variant]:
        return []
    return [
        f"captions are pieces of {tokenizer['name']} ({tokenizer['size']} of them), a run's text encoder has "
        f"{packed.VOCABULARY[variant]}"
    ]


def features_folder(folder: Path, manifest: dict[str, Any]) -> Path:
    """Return where the features lie: elsewhere if they were files before."""
    return Path(manifest["root"]) if "root" in manifest else folder


def _check_captions(
    folder: Path, split: str, entry: dict[str, Any], limits: tuple[int, int], findings: Findings
) -> None:
    path = folder / packed.captions_file(split)
    found = sha256(path)
    if found is None:
        findings.missing.append(f"{path}: no such file")
        return
    if found != entry["captions_sha256"]:
        findings.wrong.append(f"{path}: sha256 differs from the manifest")
        return
    try:
        arrays = tensors_file.open_arrays(path)
        wrong = _faults(arrays, entry, *limits)
    except (tensors_file.NotTensors, KeyError) as error:
        findings.wrong.append(f"{path}: not captions ({error})")
        return
    findings.wrong += [f"{path}: {fault}" for fault in wrong]


def _faults(
    arrays: tensors_file.Arrays, entry: dict[str, Any], pieces: int, longest: int
) -> list[str]:
    """Say what does not fit in arrays of captions, of so many different pieces and at most so many each."""
    wrong = []
    for name, into in (("words", arrays["pieces"]), ("captions", arrays["words"][:-1])):
        offsets = arrays[name]
        if offsets[0] != 0 or offsets[-1] != len(into) or (np.diff(offsets) < 1).any():
            wrong.append(f"{name} are not offsets that grow from 0 to {len(into)}")
    if arrays["pieces"].min() < 0 or arrays["pieces"].max() >= pieces:
        wrong.append(f"pieces outside 0 to {pieces - 1}")
    if not wrong:
        has = int(np.diff(arrays["words"][:][arrays["captions"][:]]).max()) + 2
        if has > longest:
            wrong.append(f"a caption has {has} pieces with [CLS] and [SEP], a run takes {longest}")
    image = arrays["image"]
    if not len(image) == len(arrays["captions"]) - 1 == entry["n_captions"]:
        wrong.append(f"{len(image)} captions, {entry['n_captions']} by the manifest")
    if image.min() < 0 or image.max() >= entry["images_in_file"]:
        wrong.append(f"images outside 0 to {entry['images_in_file'] - 1}")
    elif set(np.bincount(image).tolist()) - {0, packed.CAPTIONS_PER_IMAGE}:
        wrong.append(f"an image has not {packed.CAPTIONS_PER_IMAGE} captions")
    elif len(np.unique(image)) != entry["n_images"]:
        wrong.append(f"{len(np.unique(image))} images, {entry['n_images']} by the manifest")
    return wrong


def _check_features(
    folder: Path,
    entry: dict[str, Any],
    quickly: bool,
    tick: Callable[[int], None],
    findings: Findings,
) -> None:
    said = entry["features"]
    path = folder / said["file"]
    if not path.is_file():
        findings.missing.append(f"{path}: no such file")
        return
    try:
        features = precomputed.read_header(path)
    except DataError as error:
        findings.wrong.append(str(error))
        return
    if features.shape != (entry["images_in_file"], entry["regions"], entry["dim"]):
        findings.wrong.append(f"{path}: {features.shape} is not what the manifest says")
    elif quickly:
        same = features.size == said["bytes"] and path.stat().st_mtime_ns == said["mtime_ns"]
        if not same or precomputed.sha256_of_head(path) != said["sha256_of_head"]:
            findings.wrong.append(f"{path}: not the file that was prepared")
    else:
        found = sha256(path)
        tick(features.size)
        if found != said["sha256"]:
            findings.wrong.append(f"{path}: sha256 differs from the manifest")
