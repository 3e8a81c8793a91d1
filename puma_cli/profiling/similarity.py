"""How far each decoder layer moves the residual stream at the embed token, streamed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from puma_cli.errors import NumericError

# Below this share of its raw second moment, a layer's variance is rounding, not information.
CONSTANT = 1e-12


@dataclass(frozen=True)
class LayerSimilarity:
    """Similarity between the layers of a model of depth L, over one group of inputs.

    Args:
        side: `query` or `candidate`.
        modality: `text`, `image` or `image,text`.
        count: inputs seen (>= 1).
        cosine: E[cos(h[l], h[l+1])], one value for each layer l, (L,), in [-1, 1].
        angular: E[arccos(cos(h[l], h[l+1]))] / pi, (L,), in [0, 1].
        block_influence: 1 - E[cos(h[l], h[l+1])], (L,), in [0, 2] (ShortGPT).
        centred: pooled cosine of h[l] and h[l+1] after each layer's mean is taken away, (L,), or
            None where one of the two is the same for every input.
        cosine_to_final: E[cos(h[k], h[L])] for every depth k, (L + 1,).
        angular_to_final: E[arccos(cos(h[k], h[L]))] / pi for every depth k, (L + 1,).
    """

    side: str
    modality: str
    count: int
    cosine: tuple[float, ...]
    angular: tuple[float, ...]
    block_influence: tuple[float, ...]
    centred: tuple[float | None, ...]
    cosine_to_final: tuple[float, ...]
    angular_to_final: tuple[float, ...]


def unit(states: Tensor) -> Tensor:
    """Scale vectors (..., D) to length 1 in float64, where no sum of squares overflows."""
    wide = states.double()
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


class SimilarityAccumulator:
    """Adds up the similarities of one group of inputs, batch by batch, in memory O(L D).

    Args:
        side: `query` or `candidate`.
        modality: `text`, `image` or `image,text`.
        depth: number of decoder layers L (>= 1).
    """

    def __init__(self, side: str, modality: str, depth: int) -> None:
        self.side, self.modality, self.depth = side, modality, depth
        self.count = 0
        self._step_cosine = torch.zeros(depth, dtype=torch.float64)
        self._step_angle = torch.zeros(depth, dtype=torch.float64)
        self._final_cosine = torch.zeros(depth + 1, dtype=torch.float64)
        self._final_angle = torch.zeros(depth + 1, dtype=torch.float64)
        self._mean: Tensor | None = None
        self._scatter = torch.zeros(depth + 1, dtype=torch.float64)
        self._cross = torch.zeros(depth, dtype=torch.float64)
        self._square = torch.zeros(depth + 1, dtype=torch.float64)

    def add(self, states: Tensor) -> None:
        """Take the residual stream of a batch at the embed token.

        Args:
            states: (L + 1, B, D), before the final norm, index k = after k layers.

        Raises:
            NumericError: a layer's output is not finite, or has no direction.
        """
        wide = states.detach().to("cpu").double()
        check_states(wide, f"{self.side}, {self.modality}")
        if not wide.shape[1]:
            return
        units = unit(wide)
        self._step_cosine += cosine(units[:-1], units[1:]).sum(-1)
        self._step_angle += angular_distance(units[:-1], units[1:]).sum(-1)
        self._final_cosine += cosine(units, units[-1:]).sum(-1)
        self._final_angle += angular_distance(units, units[-1:]).sum(-1)
        self._add_moments(wide)

    def _add_moments(self, wide: Tensor) -> None:
        # Moments about the mean, merged pairwise (Chan et al.): plain sums of squares would cancel
        # where a constant direction dominates, which is the case the centred cosine is for.
        size, before = wide.shape[1], self.count
        mean = wide.mean(1)
        if self._mean is None:
            self._mean = torch.zeros_like(mean)
        shift, rest = mean - self._mean, wide - mean[:, None]
        weight = before * size / (before + size)
        self._scatter += rest.square().sum((1, 2)) + weight * shift.square().sum(1)
        self._cross += (rest[:-1] * rest[1:]).sum((1, 2)) + weight * (shift[:-1] * shift[1:]).sum(1)
        self._square += wide.square().sum((1, 2))
        self._mean = self._mean + shift * (size / (before + size))
        self.count = before + size

    def result(self) -> LayerSimilarity:
        """Return the averages over everything added.

        Raises:
            NumericError: nothing was added.
        """
        if not self.count:
            raise NumericError(f"No {self.side} of modality '{self.modality}' was measured.")
        cosines = self._step_cosine / self.count
        return LayerSimilarity(
            side=self.side,
            modality=self.modality,
            count=self.count,
            cosine=_values(cosines),
            angular=_values(self._step_angle / self.count),
            block_influence=_values(1.0 - cosines),
            centred=self._centred(),
            cosine_to_final=_values(self._final_cosine / self.count),
            angular_to_final=_values(self._final_angle / self.count),
        )

    def _centred(self) -> tuple[float | None, ...]:
        varies = self._scatter > CONSTANT * self._square
        scale = (self._scatter[:-1] * self._scatter[1:]).sqrt()
        return tuple(
            float((self._cross[layer] / scale[layer]).clamp(-1.0, 1.0))
            if varies[layer] and varies[layer + 1]
            else None
            for layer in range(self.depth)
        )


def check_states(states: Tensor, group: str) -> None:
    """Refuse hidden states (L + 1, B, D) that are not finite or that are exactly zero.

    Raises:
        NumericError: naming the first such layer; a score of 0 in its place would read "cut me".
    """
    broken = ~torch.isfinite(states).all(-1).all(-1)
    empty = (states == 0).all(-1).any(-1)
    for marks, what in ((broken, "not finite"), (empty, "zero")):
        if bool(marks.any()):
            layer = int(marks.int().argmax())
            place = "the embedding output" if layer == 0 else f"decoder layer {layer - 1}"
            raise NumericError(
                f"The hidden state after {place} is {what} ({group}).",
                cause="The weights are damaged, or the dtype is too narrow for this model.",
                hint="Run again with --dtype float32; if it persists, check the checkpoint.",
            )


def _values(tensor: Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in tensor)
