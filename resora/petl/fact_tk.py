"""FacT-TK (Jie and Deng, 2023): the updates of all weights as one tensor in Tucker form.

Matrix m gets s U S_m V with S_m = sum_k C[:, :, k] P[k, m]; the whole network shares U, V, C and P.
On ViT-B/16 there are 144 matrices: 2 x 768 r + r^3 + 144 r parameters, 86,528 at r = 32 and 30,976 at r =
16. Formula, placement and initial values are those of the repository JieShibo/PETL-ViT
(``FacT/fact_tk.py``), which takes r of 16 or 32 and s from 0.01 to 100 by data set, and a dropout of 0.1.

Where widths differ, each stage has its own U and V, and the core is shared (Swin-B: 2 x 1920 r + r^3 + 288 r;
with FacT's ranks 134,952 on average, where the paper prints 0.14 M). The two towers of CLIP share nothing. On
ConvNeXt, for which nothing is published, the layers of the MLPs are adapted: 8 matrices a block;
this is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method
from resora.petl.layers.fact import (
    SharedByStage,
    TuckerCore,
    TuckerLinear,
    check_fact,
    square_matrices,
)
from resora.petl.layers.low_rank import check_low_rank


@dataclass(frozen=True)
class FacTTK(Method):
    """One Tucker decomposition of the updates of all linear layers.

    Attributes:
        rank: r, of every mode.
        scale: s, the factor of the update.
        dropout: Between S_m and V, in training.
    """

    rank: int = 16
    scale: float = 1.0
    dropout: float = 0.0

    fits = ("vit", "swin", "convnext", "bert", "clip")
    needs = "blocks whose every linear layer is known"
    is_mergeable = True
    label: ClassVar[str] = "FacT-TK"

    def __post_init__(self) -> None:
        """Check the options."""
        check_low_rank(self.label, self.rank, ())
        check_fact(self.label, self.dropout)

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Wrap every linear layer of the blocks."""
        for tower in backbone.towers:
            found = list(square_matrices(model, tower))
            like = found[0].base.weight.detach()
            core = TuckerCore(like, self.rank, sum(one.number for one in found))
            outer_of = SharedByStage(self.rank)
            first = 0
            for one in found:
                outer, is_owner = outer_of(one)
                layer = TuckerLinear(
                    one,
                    outer,
                    core,
                    first,
                    owns_outer=is_owner,
                    scale=self.scale,
                    dropout=self.dropout,
                )
                model.set_submodule(one.place.path, layer)
                first += one.number


METHOD = FacTTK
