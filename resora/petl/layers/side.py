"""Side networks: modules that read the inputs of a backbone's blocks and change their outputs.

The blocks keep their classes and names; hooks tell the side network their inputs and outputs, and are part of
copies and pickles of the model. What it carries from block to block within a forward pass is dropped after
the last block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from resora.petl.base import Factors, Taps


class BlockwiseSideNetwork(nn.Module):
    """A module that runs beside a stack of blocks; a subclass says what it does at each.

    ``attach`` it to the blocks and make it a submodule of what holds them. Then each forward pass of the
    blocks calls ``before(i, x)`` with the input of block i, and ``after(i, x)`` with its output; what
    ``after`` returns replaces the output. ``self.carried`` is None at the first block, and again after the
    last.
    """

    carried: Any = None
    reached = -1

    def attach(self, blocks: Sequence[nn.Module]) -> None:
        """Listen to ``blocks``, which are called in this order."""
        self.blocks = len(blocks)
        for index, block in enumerate(blocks):
            block.register_forward_pre_hook(partial(self._enter, index))
            block.register_forward_hook(partial(self._leave, index))

    def before(self, index: int, x: Tensor) -> None:
        """Read the input of a block."""

    def after(self, index: int, x: Tensor) -> Tensor:
        """Return the tensor that replaces ``x``, the output of a block."""
        del index
        return x

    def resume(self, inputs: Iterable[tuple[int, Tensor]], index: int, x: Tensor) -> Tensor:
        """Restore the state after a block from inputs that were kept from an earlier forward pass.

        Args:
            inputs: Indices of the blocks up to that one whose input matters, in order, with the inputs.
            index: Of the block.
            x: Its output.

        Returns:
            The tensor that replaces ``x``, the input of the next block.
        """
        self.carried = None
        for at, value in inputs:
            self.before(at, value)
        self.reached = index
        return self._behind(index, x)

    def _enter(self, index: int, block: nn.Module, args: tuple[Tensor, ...]) -> None:
        del block
        if index == 0:
            self.carried = None
        elif index != self.reached + 1:
            raise RuntimeError(
                f"{type(self).__name__} runs through all blocks in turn, and block {index} was called after "
                f"{self.reached}. Gradient checkpointing calls single blocks anew in the backward pass; "
                "train without it, or checkpoint the backbone as a whole"
            )
        self.reached = index
        self.before(index, args[0])

    def _leave(
        self, index: int, block: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        del block, args
        return self._behind(index, output)

    def _behind(self, index: int, output: Tensor) -> Tensor:
        result = self.after(index, output)
        if index == self.blocks - 1:
            self.carried = None
        return result

    # A copy in the middle of a forward pass, or after one that failed, does not continue it.
    def __getstate__(self) -> dict[str, Any]:
        left_out = ("carried", "reached")
        return {name: value for name, value in vars(self).items() if name not in left_out}


class LowRankMap(nn.Module):
    """B A x beside a block; it replaces no layer.

    Attributes:
        lora_a: (1, r, d). Kaiming-uniform at the start.
        lora_b: (1, r, d), the directions b_i. Zero at the start.
    """

    def __init__(self, like: Tensor, rank: int, width: int) -> None:
        """Make the factors in the type and on the device of ``like``."""
        super().__init__()
        self.lora_a = nn.Parameter(like.new_empty(1, rank, width))
        self.lora_b = nn.Parameter(like.new_zeros(1, rank, width))
        nn.init.kaiming_uniform_(self.lora_a[0], a=math.sqrt(5))
        self._taps = Taps()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ..., d) to (B, ..., d)."""
        z = functional.linear(x, self.lora_a[0])
        self._taps(z[None])
        return functional.linear(z, self.lora_b[0].mT)

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (1, B, ..., r), of each forward pass to ``record``."""
        return self._taps.add(record)

    def factors(self) -> Factors:
        """Return b (1, r, d) and a (1, r, d)."""
        return Factors(self.lora_b, self.lora_a)
