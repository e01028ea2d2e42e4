"""Looks up a penalty by name, or wraps the user's own, to be called like those of ``resora.penalties``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from resora.checks import check_choice, check_options, check_values, keywords
from resora.penalties import PENALTIES

Penalty = Callable[..., Tensor]


def penalty_function(
    penalty: str | Penalty, options: dict[str, Any], others: Iterable[str]
) -> Penalty:
    """Return a function of (z, b, mask=..., group=..., **options).

    Args:
        penalty: A name, or a function of the user's own.
        options: What it will be called with.
        others: Names of arguments besides the options, which a misspelt option may have meant.

    Raises:
        ValueError: There is no such penalty, or an option has a value that it refuses.
        TypeError: It has no such option.
    """
    if isinstance(penalty, str):
        check_choice("penalty", penalty, tuple(PENALTIES))
        check_options(penalty, PENALTIES[penalty], options, others)
        check_values(PENALTIES[penalty], options)
        return PENALTIES[penalty]
    if not callable(penalty):
        raise TypeError(f"penalty is a name or a function of (z, b); got {penalty!r}")
    check_options(getattr(penalty, "__name__", repr(penalty)), penalty, options, others)
    return CustomPenalty(penalty)


class CustomPenalty:
    """Calls ``function(z, b)`` with z (L, N, r) and b (L, r, d) in float32 at least, autocast off.

    It returns (L,). It may take ``mask`` (L, N) and ``group`` by keyword. If it does not, it gets
    the samples of its own process, and with a mask the unmasked ones of one matrix at a time.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        accepted = keywords(function)
        self._takes_mask = accepted is None or "mask" in accepted
        self._takes_group = accepted is None or "group" in accepted

    def __call__(
        self,
        z: Tensor,
        b: Tensor,
        *,
        mask: Tensor | None = None,
        group: ProcessGroup | None = None,
        **options: Any,
    ) -> Tensor:
        """Return the value of each matrix, (L,)."""
        if group is not None and self._takes_group:
            options["group"] = group
        with torch.autocast(z.device.type, enabled=False):
            z, b = (x if x.dtype == torch.float64 else x.float() for x in (z, b))
            if mask is None:
                return self._checked(z, b, options)
            if self._takes_mask:
                return self._checked(z, b, options | {"mask": mask})
            each = zip(z, b, mask, strict=True)
            return torch.cat(
                [self._checked(one[None, kept], up[None], options) for one, up, kept in each]
            )

    def _checked(self, z: Tensor, b: Tensor, options: dict[str, Any]) -> Tensor:
        value = self._function(z, b, **options)
        if value.shape != z.shape[:1]:
            raise ValueError(
                f"the penalty function returned the shape {tuple(value.shape)}; for z {tuple(z.shape)} "
                f"it returns one value a matrix, ({len(z)},)"
            )
        return value
