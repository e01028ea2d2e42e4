"""Linear probing: only the task head is trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method


@dataclass(frozen=True)
class Linear(Method):
    """Train the head on the features of the frozen backbone."""

    is_mergeable = True

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Add nothing."""


METHOD = Linear
