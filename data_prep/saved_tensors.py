"""Reads files of ``torch.save``, and archives of TorchScript, without running what they bring along."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STORAGES = {
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
}


class Refused(ValueError):
    """A file holds more than tensors and plain values, or is damaged."""


def read(path: Path, device: str = "cpu") -> Any:
    """Return the tensors and plain values of a file.

    Args:
        path: A file of ``torch.save``, or an archive of ``torch.jit.save``, of which the result is the state
            dictionary. The code in the archive is not read.
        device: Where the tensors go.

    Raises:
        Refused: The file names a class or function that is not one of tensors or plain values, or is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any("/code/" in name for name in archive.namelist()):
                    return _scripted(archive)
        # timm and others save the options of a training beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        # torch explains at length how to run what the file brings along.
        named = re.search(r"(?:GLOBAL|names) ([\w.]+)", str(error))
        if named is None and "Weights only" not in str(error):
            raise Refused(str(error).partition("\n")[0]) from error
        what = (
            f"it names {named[1]}" if named else "its pickle is damaged, or not one of torch.save"
        )
        raise Refused(
            f"{what}, and only tensors and plain values are read; nothing in it was run. Ask its author for "
            "safetensors, or for torch.save(model.state_dict(), file)"
        ) from None
    except OSError:
        raise
    except Exception as error:  # damage shows in many ways
        raise Refused(f"it is damaged ({type(error).__name__}: {error})") from error


class _Part:
    """A module of an archive of TorchScript: its parameters, buffers and parts are its attributes."""


def _rebuilt(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset).clone()


def _plain(value: Any, *_: Any) -> Any:
    return value


class _Unpickler(pickle.Unpickler):
    """Takes tensors, modules and plain values, and calls nothing but the functions above."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._root = archive.namelist()[0].partition("/")[0]
        super().__init__(io.BytesIO(archive.read(f"{self._root}/data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Part
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if module == "torch.jit._pickle":  # marks of types around lists and dictionaries
            return _plain
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        content = bytearray(self._archive.read(f"{self._root}/data/{key}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _scripted(archive: zipfile.ZipFile) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}

    def walk(part: Any, prefix: str) -> None:
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                state[prefix + name] = value
            elif isinstance(value, _Part):
                walk(value, f"{prefix}{name}.")

    walk(_Unpickler(archive).load(), "")
    return state
