"""VTAB-1K through `tensorflow-datasets`: the data sets' own files, no JPEG encoding added.

Downloading and preparing needs TensorFlow; reading what is prepared does not. Prepared data are kept
in the array_record format, whose order of examples is that of TFRecords, so the slices are the same.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from data_prep.contents import Contents, Example, Split, encoding
from data_prep.errors import DataError
from data_prep.pictures import decode
from data_prep.vtab1k.source import SIZE, RealData
from data_prep.vtab1k.tasks import AGAIN, STORED_AS, Task

FORMAT = "array_record"
INSTALL = "pip install -e '.[data]'"
DOWNLOADS, MANUAL = "downloads", "downloads/manual"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "OPENCV_LOG_LEVEL": "ERROR"}


def default_root() -> Path:
    """Return the folder that TFDS itself would use."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


class Builder(Protocol):
    """What names a data set of TFDS."""

    @property
    def builder(self) -> str:
        """Name of the builder, with its configuration."""

    @property
    def version(self) -> str:
        """The builder's version that is asked for."""

    @property
    def by_hand(self) -> str | None:
        """What TFDS cannot download, and where it has to be put below the manual folder."""


class Tfds(RealData):
    """The 19 tasks through TFDS."""

    variant = "tfds"

    def __init__(self, root: Path | None = None, size: int | None = None) -> None:
        """Take TFDS' data folder; downloads go below it."""
        super().__init__(size)
        self.root = root or default_root()

    def channels(self, task: Task) -> int:
        """Return 1 for a grey data set, which VTAB-1K shows as three equal channels."""
        return task.channels

    def open(self, task: Task) -> Contents:
        """Prepare a task's data set if it is not prepared yet, and open it.

        Raises:
            DataError: It cannot be downloaded, or has other numbers of examples than VTAB-1K's.
        """
        builder = self.prepared(task)
        found = {name: builder.info.splits[name].num_examples for name in builder.info.splits}
        for name, size in task.sizes.items():
            if found.get(name) != size:
                raise DataError(
                    f"{task.builder}:{task.version} in {self.root}: its split {name} has "
                    f"{found.get(name, 0):,} examples; VTAB-1K's slices are defined on {size:,}"
                )
        features = builder.info.features
        names = features["label"].names if "label" in features else None
        about = self.about(
            task,
            class_names=list(task.class_names or names or []) or None,
            source=self._origin(task),
            notes=[] if task.drift is None else [task.drift],
        )
        splits = {name: self._opener(builder, task, where) for name, where in task.slices.items()}
        return Contents(about, splits, jpeg=lambda kinds: jpeg_of(task, kinds))

    def prepared(self, task: Builder) -> Any:
        """Return TFDS' builder of a data set, prepared; ``task`` names it.

        Raises:
            DataError: It cannot be downloaded or prepared.
        """
        builder = self._builder(task)
        if not builder.info.splits:
            self._prepare(builder, task)
        return builder

    def _builder(self, task: Builder) -> Any:
        """Return TFDS' builder; nothing is read but what it is prepared as."""
        tfds = _library()
        name = f"{task.builder}:{task.version}"
        try:
            builder = tfds.builder(name, data_dir=str(self.root))
        except (AssertionError, ValueError, tfds.core.registered.DatasetNotFoundError) as error:
            raise DataError(
                f"TFDS {tfds.__version__} has no {name} ({_line(error)}); "
                f"the pinned version of TFDS has it: {INSTALL} -c requirements/lock.txt"
            ) from error
        if builder.info.splits:
            stored = builder.info.file_format.value
            if stored != FORMAT:
                raise DataError(
                    f"{name} is prepared in {self.root} as {stored}, which only TensorFlow reads; give "
                    f"another --root, with a link to {self.root / DOWNLOADS} in it to download nothing again"
                )
            return builder
        return tfds.builder(name, data_dir=str(self.root), file_format=FORMAT)

    def _prepare(self, builder: Any, task: Builder) -> None:
        """Let TFDS download and prepare; what it has downloaded is there for the next try."""
        tfds = _library()
        manual = self.root / MANUAL
        options = tfds.download.DownloadConfig(manual_dir=str(manual), try_download_gcs=False)
        try:
            builder.download_and_prepare(
                download_dir=str(self.root / DOWNLOADS), download_config=options
            )
        except ImportError as error:
            raise DataError(
                f"preparing {task.builder} needs TensorFlow and more ({_line(error)}): {INSTALL}"
            ) from error
        except Exception as error:
            # A builder can raise any error; it is only this task's failure.
            raise DataError(self._what_helps(builder, task, error)) from error

    def _what_helps(self, builder: Any, task: Builder, error: Exception) -> str:
        manual = self.root / MANUAL
        text = f"{task.builder}:{task.version} could not be prepared: {type(error).__name__}: {_line(error)}"
        if task.by_hand is not None:
            return f"{text}. It has to be fetched by hand: {task.by_hand}, all below {manual}"
        urls = [url for url in builder.url_infos if "://" in url] if _is_download(error) else []
        if urls:
            text += (
                f". Where an address is dead, a file that you have from elsewhere is taken from {manual} "
                f"under its registered name, and its checksum is compared: "
                f"{', '.join(sorted({_filename(builder, url) for url in urls})[:4])}"
            )
        return f"{text}. The same command continues and uses the finished downloads"

    def _origin(self, task: Task) -> dict[str, Any]:
        return {
            "kind": "tensorflow-datasets",
            "builder": task.builder,
            "version": task.version,
            "classic_version": task.classic or task.version,
            "library": f"tensorflow-datasets {importlib.metadata.version('tensorflow-datasets')}",
        }

    def _opener(self, builder: Any, task: Task, where: str) -> Callable[[], Split]:
        def open_split() -> Split:
            examples = stored(builder, where)
            return Split(
                len(examples),
                lambda i: self._example(examples[i], task, where, i),
                {"slice": where},
            )

        return open_split

    def _example(self, example: Mapping[str, Any], task: Task, where: str, index: int) -> Example:
        try:
            picture = decode(
                bytes(example["image"]),
                size=self.size or SIZE,
                channels=task.channels,
                brightest=task.brightest,
            )
            return Example(picture.pixels, task.rule(example), picture.kind)
        except (DataError, ValueError) as error:
            raise DataError(f"{task.builder}, {where}, example {index}: {error}") from error


def jpeg_of(task: Task, kinds: Mapping[str, int]) -> str:
    """Return what TFDS does to a task's images, unless the files that it has stored say otherwise."""
    if not all(kind.startswith(STORED_AS.get(task.jpeg, "")) for kind in kinds):
        return f"{encoding(kinds)}; not as expected of TFDS: {task.jpeg}"
    qualities = {kind.partition(", ")[2] for kind in kinds}
    is_told = task.jpeg == AGAIN and len(qualities) == 1 and "" not in qualities
    return f"{task.jpeg} ({qualities.pop()})" if is_told else task.jpeg


def stored(builder: Any, where: str) -> Any:
    """Return the examples of a slice, their images as they are stored and not decoded."""
    tfds = _library()
    # A second image, as SmallNORB has, is not decoded either.
    decoders = {
        name: tfds.decode.SkipDecoding()
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    return builder.as_data_source(split=where, decoders=decoders)


def _library() -> Any:
    """Import TFDS, quietly; the first call takes a second."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"--source tfds needs tensorflow-datasets ({error}): {INSTALL}") from error
    return tfds


def _is_download(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        names & {"ConnectionError", "DownloadError", "NonMatchingChecksumError", "HTTPError"}
    )


def _filename(builder: Any, url: str) -> str:
    """Return the name that TFDS has registered for a download."""
    return builder.url_infos[url].filename or url.rpartition("/")[2]


def _line(error: Exception) -> str:
    """Return an error's first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
