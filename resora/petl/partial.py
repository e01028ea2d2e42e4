"""Partial fine-tuning: the last blocks and the head are trained.

"Partial-1" of *Visual Prompt Tuning* (Jia et al., 2022, arXiv 2203.12119) and of the self-supervised
literature before it is the last block. "Partially" of the paper's Table 1 is ``blocks=0``: the projections
behind the towers of CLIP (768 x 512 + 512 x 512 = 655,360 parameters), or the retrieval head on a frozen
BERT.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from resora.backbones import KINDS, Backbone, Tower
from resora.backbones.parts import below
from resora.petl.base import Method

PROJECTIONS = ("visual_projection", "text_projection")


@dataclass(frozen=True)
class Partial(Method):
    """Train the last blocks of each tower, the norms after them, and CLIP's projections.

    Attributes:
        blocks: How many blocks of each tower. With 0 its norms stay frozen as well.
    """

    blocks: int = 1

    fits = KINDS
    needs = "blocks"
    is_mergeable = True

    def __post_init__(self) -> None:
        """Check the options."""
        if self.blocks < 0 or self.blocks != int(self.blocks):
            raise ValueError(f"partial trains a number of blocks, 0 or more; got {self.blocks}")

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Let the last blocks require a gradient.

        Raises:
            ValueError: A tower has fewer blocks.
        """
        for tower in backbone.towers:
            if self.blocks > len(tower.blocks):
                raise ValueError(
                    f"partial: {self.blocks} blocks are to be trained, but {tower.name or 'the backbone'} "
                    f"has {len(tower.blocks)}"
                )
            for path in (*self._last(model, tower), *_projections(model, tower)):
                model.get_submodule(path).requires_grad_(True)

    def _last(self, model: nn.Module, tower: Tower) -> list[str]:
        if not self.blocks:
            return []
        # Modules are listed in the order of the forward pass: BERT's only norm outside blocks comes first.
        order = {name: position for position, (name, _) in enumerate(model.named_modules())}
        final = [n for n in tower.norms if order[n] > order[tower.blocks[-1].path]]
        return [*(block.path for block in tower.blocks[-self.blocks :]), *final]


def _projections(model: nn.Module, tower: Tower) -> list[str]:
    """The projections after the towers of CLIP, which are not modules of the towers."""
    parent = tower.path.rpartition(".")[0]
    holder = model.get_submodule(parent)
    return [below(parent, name) for name in PROJECTIONS if tower.path and hasattr(holder, name)]


METHOD = Partial
