"""Unbiased linear CKA: how alike two depths arrange the same inputs, whatever their axes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from puma_cli.profiling.similarity.measures import CONSTANT, widen

# The unbiased estimator divides by N - 3.
FEWEST_ROWS = 4

# All pairs of 29 depths of 2,000 rows would be 0.9 GB of Gram matrices in float64, and as much
# again centred. Rows of them are made, multiplied and dropped in blocks of this size instead.
BLOCK_BYTES = 128 << 20


@torch.no_grad()
def unbiased_cka(rows: Tensor, device: torch.device | None = None) -> Tensor:
    """Return CKA(h[k], h[l]) of every two depths, from unbiased estimates of HSIC.

    CKA = HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L)) with linear kernels K = X X^T, where
    HSIC_1 is the inner product of the two U-centred Gram matrices over N (N - 3) (Song et al. 2012;
    Nguyen, Raghu and Kornblith, arXiv 2010.15327). Unlike the usual estimate it does not tend to 1
    where D is larger than N. It sees neither shifts, rotations nor scalings of X.

    Args:
        rows: states (L + 1, N, D) of the same N (>= 4) inputs or tokens at each depth, finite.
        device: where to compute, in float64; by default where the rows are.

    Returns:
        (L + 1, L + 1) in float64 on the CPU, in [-1, 1], symmetric, 1 on the diagonal; NaN where
        HSIC_1(K, K) of one of the two is 0: the depth is the same for every row, or for all but
        one, or all rows lie equally far apart.
    """
    depths, count, _ = rows.shape
    if count < FEWEST_ROWS:
        raise ValueError(f"CKA needs {FEWEST_ROWS} rows, got {count}")
    means, energy, raw = _moments(rows, device)
    products = torch.zeros(depths, depths, dtype=torch.float64, device=means.device)
    step = block_rows(depths, count)
    for low in range(0, count, step):
        block = _centred_grams(rows, means, energy, low, min(count, low + step)).flatten(1)
        products += block @ block.T
        del block
    own, spread = products.diagonal(), energy.sum(1)
    known = (spread > CONSTANT * raw) & (own > (CONSTANT * spread) ** 2)
    length = torch.where(known, own, math.nan).sqrt()
    found = (products / length[:, None] / length).clamp(-1.0, 1.0)
    # Mirrored, because the two halves of a matrix product may differ in their last digit.
    found = found.triu() + found.triu(1).T
    return found.fill_diagonal_(1.0).where(known & known[:, None], math.nan).cpu()


def block_rows(depths: int, count: int) -> int:
    """Return how many rows of the Gram matrices (L + 1, N, N) are made at once, 1 to N."""
    return min(count, max(1, BLOCK_BYTES // (8 * depths * count)))


def cka_bytes(depths: int, rows: int, width: int) -> int:
    """Return how many bytes `unbiased_cka` takes at most, beside the rows themselves.

    Args:
        depths: L + 1.
        rows: N, the rows kept.
        width: D.
    """
    block = depths * block_rows(depths, rows) * rows
    # Two copies of one depth, the means and squared lengths of all, and some (L + 1)^2 matrices.
    return 8 * (block + 2 * rows * width + depths * (width + 2 * rows) + 8 * depths**2)


def _moments(rows: Tensor, device: torch.device | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the means (L + 1, D), squared lengths about them (L + 1, N), and sums of squares."""
    means, energy, raw = [], [], []
    for states in rows:
        wide = widen(states.to(device))
        means.append(wide.mean(0))
        raw.append(torch.linalg.vector_norm(wide).square())
        energy.append(torch.linalg.vector_norm(wide - means[-1], dim=1).square())
        del wide
    return torch.stack(means), torch.stack(energy), torch.stack(raw)


def _centred_grams(rows: Tensor, means: Tensor, energy: Tensor, low: int, high: int) -> Tensor:
    """Return rows `low` to `high` of all U-centred Gram matrices, (L + 1, high - low, N - low).

    Only what lies above the diagonal: the matrices are symmetric and without a diagonal, and CKA is
    a ratio.
    """
    depths, count = energy.shape
    block = energy.new_empty(depths, high - low, count - low)
    for depth, gram in enumerate(block):
        wide = widen(rows[depth, low:].to(means.device)) - means[depth]
        torch.mm(wide[: high - low], wide.T, out=gram)
        # U-centring takes away the means of rows and columns without the diagonal. About the mean
        # the rows sum to zero, so that row i of the Gram matrix does too, and to -|x_i|^2 without
        # its diagonal: no pass over the whole matrix is needed. HSIC_1 is blind to the shift.
        lengths = energy[depth] / (count - 2)
        gram += lengths[low:high, None] - lengths.sum() / (count - 1)
        gram += lengths[low:]
        gram.triu_(1)
        del wide
    return block
