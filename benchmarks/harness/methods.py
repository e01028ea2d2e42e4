"""The names of the methods in ``resora.petl``, without importing any of them, nor torch."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

NOT_METHODS = ("base", "layers")


@cache
def petl_names() -> tuple[str, ...]:
    """Return the methods that the library has, without ranks: one for each file of ``resora/petl``."""
    library = find_spec("resora")
    if library is None or library.origin is None:
        return ()
    folder = Path(library.origin).parent / "petl"
    found = (module.name.replace("_", "-") for module in iter_modules([str(folder)]))
    return tuple(sorted(name for name in found if name not in NOT_METHODS))


def family_of(base: str) -> str:
    """Return a method's name without its rank: ``lora`` of ``lora-r8``."""
    return re.sub(r"-r\d+$", "", base)
