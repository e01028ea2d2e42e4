"""Where a builder looks for its original files: TFDS' download cache and the manual folder."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

Files = Iterable[tuple[str, bytes]]


class Store:
    """The original files of one builder below a root folder."""

    def __init__(self, builder: str, root: Path) -> None:
        import tensorflow_datasets as tfds

        name, _, self.config = builder.partition("/")
        self.root = root
        self.builder_class = tfds.builder_cls(name)

    @property
    def manual(self) -> Path:
        """The folder for files that users fetch by hand."""
        return self.root / "downloads" / "manual"

    @property
    def module(self) -> ModuleType:
        """The module of the builder."""
        return sys.modules[self.builder_class.__module__]

    def class_names(self, feature: str = "label") -> list[str]:
        """The class names of a label in TFDS' order."""
        # No data_dir with data in it: a builder read from files would not be the one of the code.
        builder = self.builder_class(
            data_dir=self.root / "no-such-data", **({"config": self.config} if self.config else {})
        )
        return builder.info.features[feature].names

    def put(self, filename: str, content: bytes) -> None:
        """Writes a download under the name that TFDS gives it after checking its hash.

        Such a file is not hashed again, so that a fake one is taken for the original.
        """
        from tensorflow_datasets.core.download.resource import get_dl_fname

        infos = self.builder_class.url_infos
        url, info = next((u, i) for u, i in infos.items() if i.filename == filename)
        path = self.root / "downloads" / self.builder_class.name / get_dl_fname(url, info.checksum)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        sidecar = {
            "urls": [url],
            "dataset_names": [self.builder_class.name],
            "original_fname": info.filename,
            "url_info": info.asdict(),
        }
        path.with_name(path.name + ".INFO").write_text(json.dumps(sidecar, default=int))

    def put_by_hand(self, name: str, content: bytes) -> None:
        """Writes a file of the manual folder."""
        path = self.manual / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def tar_gz(files: Files) -> bytes:
    """A compressed tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def zipped(files: Files) -> bytes:
    """A zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files:
            archive.writestr(name, data)
    return content.getvalue()


def gzipped(content: bytes) -> bytes:
    """A single compressed file."""
    return gzip.compress(content, compresslevel=1)


def lines(rows: Iterable[str]) -> bytes:
    """A text file."""
    return "".join(f"{row}\n" for row in rows).encode()
