"""Centred kernel alignment of subspaces under Gaussian kernels (Eq. 8), exactly: N x N kernels.

For few samples. ``fourier.py`` has the expansion for many.
"""

from __future__ import annotations

import torch
from torch import Tensor


def alignment(u: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the sum over pairs i < j of the centred alignment of K_i and K_j.

    K_i(p, q) = exp(-(u_i^p - u_i^q)^2 / 2); the alignment is <M K_i M, M K_j M> over the product of
    the norms, with the centring matrix M.

    Args:
        u: (L, N, r), activations divided by the width of their kernel.
        mask: (L, N), True where a sample counts, or None.

    Returns:
        (L,). A subspace whose samples are all equal contributes nothing.
    """
    rows = u.mT  # (L, r, N)
    kernel = torch.exp(-0.5 * (rows[..., :, None] - rows[..., None, :]).square())
    # Centre first: the expanded form subtracts near-equal numbers.
    if mask is None:
        centred = kernel - kernel.mean(-1, keepdim=True)
        centred = centred - centred.mean(-2, keepdim=True)
    else:
        weight = mask[:, None, :, None].to(u.dtype)
        number = weight.sum(-2, keepdim=True).clamp_min(1)
        both = weight * weight.mT
        kernel = kernel * both
        centred = kernel - (kernel.sum(-1, keepdim=True) / number) * both
        centred = (centred - (centred.sum(-2, keepdim=True) / number) * both) * both
    flat = centred.flatten(-2)
    norms = flat.square().sum(-1)
    alive = norms > torch.finfo(u.dtype).eps ** 2
    inverse = torch.where(alive, torch.where(alive, norms, 1).rsqrt(), 0)
    unit = flat * inverse[..., None]
    return torch.triu(unit @ unit.mT, diagonal=1).sum((-2, -1))
