"""Formulas of similarity between the depths of a model, and the record of what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.errors import NumericError

# Row l holds n = 1 to L - l.
Grid = tuple[tuple[float, ...], ...]
PartialGrid = tuple[tuple[float | None, ...], ...]

# Below this share of its raw second moment, a depth's variance is rounding, not information.
CONSTANT = 1e-12

# Below this |u - v|^2 of unit vectors, the two count as one: an angle of 1e-7, in units of pi.
_SAME = 9e-14


@dataclass(frozen=True)
class LayerSimilarity:
    """Similarity between all depths of a model of L decoder layers, over one group of inputs.

    h[l] is the residual stream after l layers. A grid is triangular: row l = 0 to L - 1 holds the
    values of h[l] and h[l + n] for n = 1 to L - l, so what a block of n layers from layer l does.

    Args:
        side: `query` or `candidate`.
        modality: `text`, `image` or `image,text`.
        place: `embed`, the states at the embed token, or `tokens`, sampled real tokens.
        count: rows measured (>= 1).
        excluded: rows left out because they are attention sinks (>= 0).
        cosine_grid: E[cos(h[l], h[l+n])], in [-1, 1].
        angular_grid: E[arccos(cos(h[l], h[l+n]))] / pi, in [0, 1] (arXiv 2403.17887).
        centred_grid: pooled cosine of h[l] and h[l+n] after each depth's mean over the rows is
            taken away, or None where one of the two depths is the same for every row.
        trimmed_grid: E[cos(h[l], h[l+n])] after the few dimensions with most energy are set to
            zero, or None where that leaves nothing of a vector.
        cka: unbiased linear CKA of every two depths, (L + 1, L + 1), with None where a depth is
            constant; None as a whole where fewer than four rows were kept for it.
    """

    side: str
    modality: str
    place: str
    count: int
    excluded: int
    cosine_grid: Grid
    angular_grid: Grid
    centred_grid: PartialGrid
    trimmed_grid: PartialGrid
    cka: PartialGrid | None

    @property
    def depth(self) -> int:
        """The number of decoder layers L."""
        return len(self.cosine_grid)

    @property
    def cosine(self) -> tuple[float, ...]:
        """E[cos(h[l], h[l+1])] of each layer l, (L,)."""
        return tuple(row[0] for row in self.cosine_grid)

    @property
    def angular(self) -> tuple[float, ...]:
        """E[arccos(cos(h[l], h[l+1]))] / pi of each layer l, (L,)."""
        return tuple(row[0] for row in self.angular_grid)

    @property
    def block_influence(self) -> tuple[float, ...]:
        """1 - E[cos(h[l], h[l+1])] of each layer l, (L,), in [0, 2] (arXiv 2403.03853)."""
        return tuple(1.0 - value for value in self.cosine)

    @property
    def centred(self) -> tuple[float | None, ...]:
        """Centred cosine over each layer l, (L,)."""
        return tuple(row[0] for row in self.centred_grid)

    @property
    def trimmed(self) -> tuple[float | None, ...]:
        """E[cos(h[l], h[l+1])] without the top dimensions, of each layer l, (L,)."""
        return tuple(row[0] for row in self.trimmed_grid)

    @property
    def cosine_to_final(self) -> tuple[float, ...]:
        """E[cos(h[k], h[L])] for every depth k, (L + 1,)."""
        return (*(row[-1] for row in self.cosine_grid), 1.0)

    @property
    def angular_to_final(self) -> tuple[float, ...]:
        """E[arccos(cos(h[k], h[L]))] / pi for every depth k, (L + 1,)."""
        return (*(row[-1] for row in self.angular_grid), 0.0)


def widen(states: Tensor) -> Tensor:
    """Return `states` in float64 on their own device, or on the CPU where that has no float64."""
    return (states.cpu() if states.device.type == "mps" else states).double()


def unit(states: Tensor) -> Tensor:
    """Scale vectors (..., D) to length 1 in float64, where no sum of squares overflows."""
    wide = widen(states)
    return wide / wide.norm(dim=-1, keepdim=True)


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """Return the cosine (...) of unit vectors (..., D), clamped to [-1, 1]."""
    return (left * right).sum(-1).clamp(-1.0, 1.0)


def angular_distance(left: Tensor, right: Tensor) -> Tensor:
    """Return arccos(cos) / pi (...) in [0, 1] of unit vectors (..., D).

    Written as 2 atan2(|u - v|, |u + v|) / pi: arccos loses half of the digits near 1 and gives NaN
    beyond it (distance of Gromov et al., arXiv 2403.17887, eq. 7).
    """
    difference, total = (left - right).norm(dim=-1), (left + right).norm(dim=-1)
    return 2.0 * torch.atan2(difference, total) / math.pi


def pairwise_cosines(wide: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cosines of every two depths of every row, and the squared lengths.

    Args:
        wide: states (L + 1, B, D) in float64, where no square overflows.

    Returns:
        cosines (B, L + 1, L + 1) in [-1, 1], NaN with a vector of length 0; lengths (B, L + 1).
    """
    rows = wide.transpose(0, 1)
    gram = torch.bmm(rows, rows.transpose(1, 2))
    energy = gram.diagonal(dim1=1, dim2=2).clone()
    gram /= (energy[:, :, None] * energy[:, None, :]).sqrt_()
    return gram.clamp_(-1.0, 1.0), energy


def angle_of(cosines: Tensor) -> Tensor:
    """Return arccos(cosines) / pi (...) in [0, 1] of float64 cosines in [-1, 1], right to 1e-7.

    2 atan2(|u - v|, |u + v|) / pi as in `angular_distance`, from |u -+ v|^2 = 2 -+ 2 cos, which
    saves the differences of all pairs of vectors. A vector's cosine with itself comes out of a
    matrix product as 1 up to the order of the sum, about 1e-15, of which the root would make 1e-8.
    So whatever is closer than 1e-7 is set to 0, and likewise to 1 at the other end.
    """
    apart, along = 2.0 - 2.0 * cosines, 2.0 + 2.0 * cosines
    for square in (apart, along):
        square.masked_fill_(square < _SAME, 0.0).sqrt_()
    return torch.atan2(apart, along).mul_(2.0 / math.pi)


def check_states(states: Tensor, group: str) -> None:
    """Refuse hidden states (L + 1, B, D) that are not finite or that are exactly zero.

    Raises:
        NumericError: naming the first such layer; a score of 0 in its place would read "cut me".
    """
    # The extremes are NaN where any number is, and take no copy of the states to find.
    low, high = states.aminmax(dim=-1)
    broken = ~(torch.isfinite(low) & torch.isfinite(high)).all(-1)
    empty = ((low == 0) & (high == 0)).any(-1)
    for marks, what in ((broken, "not finite"), (empty, "zero")):
        if bool(marks.any()):
            layer = int(marks.int().argmax())
            place = "the embedding output" if layer == 0 else f"decoder layer {layer - 1}"
            raise NumericError(
                f"The hidden state after {place} is {what} ({group}).",
                cause="The weights are damaged, or the dtype is too narrow for this model.",
                hint="Run again with --dtype float32; if it persists, check the checkpoint.",
            )
