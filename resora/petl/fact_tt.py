"""FacT-TT (Jie and Deng, 2023): the updates of all weights as one tensor in tensor-train form.

Matrix m gets s U S_m V with an r x r matrix S_m of its own; the whole network shares U and V. On
ViT-B/16 there are 144 matrices: 2 x 768 r + 144 r^2 parameters, 61,440 at r = 16, 21,504 at r = 8 and 8,448
at r = 4. Formula, placement and initial values are those of the repository JieShibo/PETL-ViT
(``FacT/fact_tt.py``), which takes r of 4, 8 or 16 and s from 0.01 to 100 by data set, and a dropout of 0.1.

On Swin, each stage has its own U and V, as the author describes in issue 9 of that repository. The two towers
of CLIP share nothing. On ConvNeXt, for which nothing is published, the layers of the MLPs are
adapted, with U and V by stage: 8 matrices a block; this is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from resora.backbones import Backbone
from resora.petl.fact_tk import FacTTK
from resora.petl.layers.fact import SharedByStage, TensorTrainLinear, square_matrices


@dataclass(frozen=True)
class FacTTT(FacTTK):
    """One tensor-train decomposition of the updates of all linear layers; the options are FacT-TK's."""

    label = "FacT-TT"

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Wrap every linear layer of the blocks."""
        for tower in backbone.towers:
            outer_of = SharedByStage(self.rank)
            for one in square_matrices(model, tower):
                outer, is_owner = outer_of(one)
                layer = TensorTrainLinear(
                    one, outer, owns_outer=is_owner, scale=self.scale, dropout=self.dropout
                )
                model.set_submodule(one.place.path, layer)


METHOD = FacTTT
