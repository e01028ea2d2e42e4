"""DTL+ (Fu et al., 2024): DTL with a depthwise convolution over the patches of the sum.

The activation of the sum goes through one k x k convolution per stage, without bias, that all blocks of the
stage share; tokens that are no patches, such as the class token, skip it. Its initial values are PyTorch's
defaults; the outputs are still unchanged at the start, since the sum is zero.

From the repository heekhero/DTL: k of 3, 4 or 5 on ViT-B/16 by data set, 43,776, 49,152 and 56,064
parameters at r = 2; k = 5 on Swin-B, 128,512 parameters at r = 4. The public Swin code also registers
convolutions of the first two stages that it never uses (138,112); they are left out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from resora.backbones import Tower
from resora.petl.dtl import DTL


@dataclass(frozen=True)
class DTLPlus(DTL):
    """DTL with a convolution.

    Attributes:
        kernel: k.
    """

    kernel: int = 3

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.kernel < 1 or self.kernel != int(self.kernel):
            raise ValueError(f"the kernel of DTL+ is a positive integer; got {self.kernel}")

    def convolutions(
        self, model: nn.Module, tower: Tower, like: Tensor, first: int
    ) -> dict[int, nn.Module]:
        """Return a depthwise convolution for each stage that gets the sum."""
        shape = None
        if tower.layout == "tokens":
            holder: Any = model.get_submodule(tower.path)
            grid = getattr(getattr(holder, "patch_embed", None), "grid_size", None)
            if grid is None or tower.prefix is None:
                raise ValueError(
                    f"dtl-plus needs to know where the grid of patches lies among the tokens of "
                    f"{type(holder).__name__}, which names no grid_size or no num_prefix_tokens"
                )
            if getattr(getattr(holder, "patch_drop", None), "prob", 0):  # timm's PatchDropout
                raise ValueError(
                    "dtl-plus needs all patches; make the model with patch_drop_rate=0"
                )
            rows, columns = grid
            shape = (int(rows), int(columns))
        return {
            block.stage: PatchConvolution(like, block.width, self.kernel, tower.prefix or 0, shape)
            for block in tower.blocks[first:]
        }


class PatchConvolution(nn.Module):
    """A depthwise convolution over patches, that keeps their number; other tokens stay as they are.

    Attributes:
        convolution: k x k, without bias. With an even k, the one more row and column of zeros that it needs
            are at the end, as with PyTorch's padding ``same``.
    """

    def __init__(
        self, like: Tensor, width: int, kernel: int, prefix: int, shape: tuple[int, int] | None
    ) -> None:
        """Make the convolution.

        Args:
            like: A tensor of the right type and device.
            width: Number of channels d.
            kernel: k.
            prefix: Number of tokens before those of the patches.
            shape: Rows and columns of the patches; None: the input is a grid, not tokens.
        """
        super().__init__()
        self.convolution = nn.Conv2d(
            width, width, kernel, groups=width, bias=False, device=like.device, dtype=like.dtype
        )
        self.prefix = prefix
        self.shape = shape
        self._pad = ((kernel - 1) // 2, kernel // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, prefix + H * W, d) or (B, H, W, d) to the same shape."""
        if self.shape is None:
            return self._mixed(x)
        first, patches = x[:, : self.prefix], x[:, self.prefix :]
        grid = patches.unflatten(1, self._shape_of(patches.shape[1]))
        patches = self._mixed(grid).flatten(1, 2)
        return torch.cat([first, patches], dim=1) if self.prefix else patches

    def _mixed(self, grid: Tensor) -> Tensor:
        images = functional.pad(grid.movedim(-1, 1), self._pad)
        mixed: Tensor = self.convolution(images)
        return mixed.movedim(1, -1)

    def _shape_of(self, tokens: int) -> tuple[int, int]:
        """Return rows and columns; images of another size than the backbone's are taken for square."""
        assert self.shape is not None
        side = isqrt(tokens)
        return self.shape if self.shape[0] * self.shape[1] == tokens else (side, side)


METHOD = DTLPlus
