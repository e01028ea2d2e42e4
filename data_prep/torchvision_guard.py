"""Makes ``import timm`` work beside a CPU-only torch.

timm imports torchvision without condition, and the torchvision of the public index is linked
against CUDA: beside a CPU-only torch its extension does not load, and its Python part stops at an
operator that the extension should have declared. Nothing here calls those operators, so declaring
their names is enough.
"""

from __future__ import annotations

import importlib
import re
import sys

import torch

# A torch Library undoes its declarations when it is collected, so the references have to live on.
_declared: list[torch.library.Library] = []

_MISSING_OPERATOR = re.compile(r"operator torchvision::(\w+) does not exist")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_ATTEMPTS = 8


def ensure_torchvision() -> str:
    """Import torchvision, declaring the operators it misses; call before the first import of timm.

    Returns:
        ``"native"`` if torchvision imports by itself, ``"declared"`` if it needed declarations.
    """
    for _ in range(_ATTEMPTS):
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            found = _MISSING_OPERATOR.search(str(error))
            if found is None:
                raise
            _forget_half_imported()
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(found.group(1) + _SIGNATURE)
            _declared.append(library)
        else:
            return "declared" if _declared else "native"
    raise RuntimeError(
        f"torchvision still misses operators after {_ATTEMPTS} were declared; install the "
        f"torchvision that belongs to torch {torch.__version__}"
    )


def _forget_half_imported() -> None:
    """Remove what the failed import left in ``sys.modules``: the next attempt starts anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
