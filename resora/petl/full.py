"""Full fine-tuning: everything is trained."""

from __future__ import annotations

from torch import nn

from resora.petl.base import Method


class Full(Method):
    """Train all parameters; the reference in accuracy, and in cost."""

    def adapt(self, model: nn.Module, head: str) -> None:
        """Let every parameter require a gradient."""
        del head
        model.requires_grad_(True)
