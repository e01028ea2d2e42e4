"""Makes ``import torchvision``, and so ``import timm``, work beside a CPU-only torch.

timm imports torchvision without condition, and the torchvision of the public index is linked against CUDA:
beside a CPU-only torch its extension does not load, and its Python part stops at an operator that the
extension should have declared. Nothing here calls those operators, so declaring their names is enough.

``requirements/setup_env.py`` copies this file into the environment that it makes, where each start of Python
calls ``install``: there a script may import timm first. In other environments ``ensure_torchvision`` does it.
The file imports nothing but ``sys``, so that starts which never see torchvision pay nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# A torch Library undoes its declarations when it is collected, so the references have to live on.
_declared: list[Any] = []

_MISSING_OPERATOR = r"operator torchvision::(\w+) does not exist"
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_ATTEMPTS = 8


def ensure_torchvision() -> None:
    """Import torchvision, declaring the operators that it misses; call before the first import of timm.

    Raises:
        RuntimeError: Declaring operators does not help.
    """
    install()
    __import__("torchvision")


def install() -> None:
    """Have the next import of torchvision declare what it misses, if it misses something."""
    if not any(getattr(finder, "is_torchvision_guard", False) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # duck-typed: importlib.abc is slow to import


class _Finder:
    """Finds torchvision where it is, and has ``_Loader`` load it."""

    is_torchvision_guard = True

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """The loader of torchvision; it begins again after each operator that it had to declare."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self._loader.exec_module(module)
                return
            except RuntimeError as error:
                import re

                found = re.search(_MISSING_OPERATOR, str(error))
                if found is None:
                    raise
                _forget_submodules()
                _declare(found.group(1))
        import torch

        raise RuntimeError(
            f"torchvision still misses operators after {_ATTEMPTS} were declared; install the "
            f"torchvision that belongs to torch {torch.__version__}"
        )


def _declare(operator: str) -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(operator + _SIGNATURE)
    _declared.append(library)


def _forget_submodules() -> None:
    """Remove what the failed import left in ``sys.modules``: the next attempt starts anew."""
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]
