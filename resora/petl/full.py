"""Full fine-tuning: everything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method


@dataclass(frozen=True)
class Full(Method):
    """Train all parameters; the reference in accuracy, and in cost."""

    is_mergeable = True

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Let every parameter require a gradient."""
        del backbone
        model.requires_grad_(True)


METHOD = Full
