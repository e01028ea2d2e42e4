"""The matrix of cosines between vectors; the backward pass saves the vectors only.

cos_ij = S_ij / (|z_i| |z_j|) with the Gram S = Z^T Z. Its gradient is Z M with an r x r matrix M, so the
forward and the backward pass each compute one product of N r^2 multiplications.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from resora.processes import total_


def cosines(z: Tensor, group: ProcessGroup | None = None) -> Tensor:
    """Return the cosines between the columns of ``z``, over the samples of all processes.

    Args:
        z: (L, N, r), in float32 or float64.
        group: Processes whose samples belong together.

    Returns:
        (L, r, r). A column of zeros has the cosine zero with all, itself included, and no gradient.
    """
    return _Cosines.apply(z, group)  # type: ignore[no-any-return]


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, group: ProcessGroup | None) -> Tensor:
        gram = total_(z.mT @ z, group)
        norms = gram.diagonal(dim1=-2, dim2=-1)
        # Smaller squares are subnormal numbers, which have less precision.
        alive = norms > torch.finfo(z.dtype).tiny
        inverse = torch.where(alive, norms.rsqrt(), 0)
        cosine = gram * inverse[..., :, None] * inverse[..., None, :]
        ctx.save_for_backward(z, inverse, cosine)
        ctx.group = group
        return cosine

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        z, inverse, cosine = ctx.saved_tensors
        both = total_(gradient + gradient.mT, ctx.group)
        both.diagonal(dim1=-2, dim2=-1).zero_()
        # d cos_ij / d z_i = (z_j / |z_j| - cos_ij z_i / |z_i|) / |z_i|
        own = (both * cosine).sum(-1)
        matrix = both * inverse[..., None, :] - torch.diag_embed(own * inverse)
        return z @ (matrix * inverse[..., :, None]).mT, None
