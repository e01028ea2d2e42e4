"""Linear probing: only the task head is trained."""

from __future__ import annotations

from torch import nn

from resora.petl.base import Method, freeze


class Linear(Method):
    """Freeze the backbone and train the head on its features."""

    def adapt(self, model: nn.Module, head: str) -> None:
        """Freeze all but the head."""
        freeze(model, but=head)
