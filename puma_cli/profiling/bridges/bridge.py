"""Closed-form maps from many cuts of one model into its own space, from one pass over the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from puma_cli.config.layers import are_first, are_first_and_last
from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import MEAN
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.processing import Batch
from puma_cli.processes import ALONE, Processes
from puma_cli.profiling.bridges.ridge import AffineMap, Moments, Ridge, choose_strength
from puma_cli.profiling.states.depth_states import read_states
from puma_cli.progress import SILENT, Reporter

Cut = tuple[int, ...]

# Sums of squares of so many bytes are held at once; more cuts take another pass over the rows.
BUDGET = 8 << 30
# Share of the rows that chooses a bridge's strength and says how good it is.
HELD_OUT = 0.1


@dataclass(frozen=True)
class BridgeFit:
    """How a bridge was fitted, and how well it fits.

    Args:
        kept: the decoder layers that stay, ascending.
        strength: the ridge penalty, relative to the mean eigenvalue of the inputs' covariance.
        scale: what the fitted map is multiplied by, so that the root mean square length of its
            vectors is that of the full model's.
        rows: inputs that the map was fitted on, the held-out ones included at the end.
        held_out: inputs that chose the strength; what follows was measured on them, with the map
            of the others.
        cosine: mean cosine of the mapped vectors to the full model's.
        cosine_before: mean cosine of the cut's own vectors to them, or None where lengths differ.
        error: mean squared distance of the mapped vectors to the full model's unit vectors.
    """

    kept: tuple[int, ...]
    strength: float
    scale: float
    rows: int
    held_out: int
    cosine: float
    cosine_before: float | None
    error: float

    @property
    def k(self) -> int:
        """The number of layers that stay."""
        return len(self.kept)


@dataclass(frozen=True, eq=False)
class Bridge:
    """A fitted head: x -> x @ weight + bias.

    Args:
        weight: float32 (D, D_t), the scale in it already.
        bias: float32 (D_t,), likewise.
        fit: how it came about.
    """

    weight: Tensor
    bias: Tensor
    fit: BridgeFit


def fit_bridges(
    embedder: Embedder,
    cuts: Sequence[Cut],
    fitted: Sequence[Input],
    judged: Sequence[Input],
    *,
    batch_size: int = 128,
    budget: int = BUDGET,
    reporter: Reporter = SILENT,
    processes: Processes = ALONE,
) -> Iterator[Bridge]:
    """Yield, for each cut, the ridge regression from its vectors to the model's unit embeddings.

    Moments are accumulated in float64; of the inputs, only the held-out ones' vectors stay in
    memory. Cuts whose moments do not fit the budget together are taken in turn, each block with a
    pass of its own.

    Args:
        embedder: the model at full depth.
        cuts: for each the decoder layers it keeps, ascending.
        fitted: inputs to fit on.
        judged: held-out inputs, which choose the strength.
        budget: most bytes of moments at once (> 0).
        processes: those that the rows are shared among; each gets every bridge.

    Raises:
        DataError: an input cannot be read.
        DeviceError: the device runs out of memory.
        NumericError: an embedding is not finite.
    """
    size = block_size(len(cuts), embedder.width, embedder.dimension, budget)
    blocks = [cuts[start : start + size] for start in range(0, len(cuts), size)]
    for number, block in enumerate(blocks, start=1):
        label = "bridges" if len(blocks) == 1 else f"bridges {number}/{len(blocks)}"
        yield from _fit_block(
            embedder, block, fitted, judged, batch_size, label, reporter, processes
        )


def moments_bytes(inputs: int, outputs: int) -> int:
    """Return the bytes of one cut's moments: D^2 + D * D_t doubles."""
    return 8 * inputs * (inputs + outputs)


def passes_needed(cuts: int, inputs: int, outputs: int, budget: int = BUDGET) -> int:
    """Return how many passes over the rows so many cuts take."""
    return math.ceil(cuts / max(1, budget // moments_bytes(inputs, outputs)))


def block_size(cuts: int, inputs: int, outputs: int, budget: int = BUDGET) -> int:
    """Return how many cuts a pass takes at most: passes share them evenly, to hold the least."""
    return math.ceil(cuts / max(1, passes_needed(cuts, inputs, outputs, budget))) or 1


@torch.no_grad()
def read_cuts(embedder: Embedder, cuts: Sequence[Cut], batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the post-norm states of each cut (K, B, D) and the whole model's embeddings (B, D_t).

    First layers, and these with the very last, are read in passing; other lists take a second,
    shorter pass each, and so do all of a model that is pooled by the mean.
    """
    if embedder.settings.pooling == MEAN:
        pooled = []
        for cut in cuts:
            with embedder.layers(cut):
                pooled.append(embedder.post_norm_states(batch))
        return torch.stack(pooled), embedder.apply_head(embedder.post_norm_states(batch))
    depth = embedder.depth
    states = read_states(
        embedder, batch, keep_last=any(are_first_and_last(cut, depth) for cut in cuts)
    )
    found = []
    for cut in cuts:
        k = len(cut)
        if are_first(cut):
            found.append(embedder.read_out(states.embed[k]))
        elif are_first_and_last(cut, depth) and states.keep_last is not None:
            found.append(embedder.read_out(states.keep_last[k]))
        else:
            with embedder.layers(cut):
                found.append(embedder.post_norm_states(batch))
    return torch.stack(found), embedder.apply_head(embedder.read_out(states.embed[-1]))


def _fit_block(
    embedder: Embedder,
    cuts: Sequence[Cut],
    fitted: Sequence[Input],
    judged: Sequence[Input],
    batch_size: int,
    label: str,
    reporter: Reporter,
    processes: Processes,
) -> Iterator[Bridge]:
    width, outputs = embedder.width, embedder.dimension
    fits = [Moments(width, outputs) for _ in cuts]
    held = len(judged)
    x, y = torch.zeros(len(cuts), held, width), torch.zeros(held, outputs)
    square_length = torch.zeros((), dtype=torch.float64)
    with evaluation_mode(embedder.model), out_of_memory_explained(batch_size, "--device cpu"):
        batches = embedder.batches([*judged, *fitted], batch_size, reporter, label, processes)
        for places, batch in batches:
            states, full = (found.float().cpu() for found in read_cuts(embedder, cuts, batch))
            square_length += full.double().square().sum()
            target = normalize(full, dim=-1)
            chosen = torch.tensor(places)
            is_held = chosen < held
            x[:, chosen[is_held]], y[chosen[is_held]] = states[:, is_held], target[is_held]
            for fit, rows in zip(fits, states[:, ~is_held], strict=True):
                fit.add(rows, target[~is_held])
    processes.total(x, y, square_length)
    for cut, fit, rows in zip(cuts, fits, x, strict=True):
        fit.share(processes)
        yield _solve(cut, fit, rows, y, float(square_length))


def _solve(cut: Cut, fit: Moments, x: Tensor, y: Tensor, square_length: float) -> Bridge:
    judged = Moments(x.shape[1], y.shape[1])
    judged.add(x, y)
    ridge = Ridge(fit)
    strength, error = choose_strength(ridge, judged)
    cosine = _mean_cosine(ridge.fit(strength)(x), y)
    before = _mean_cosine(x, y) if x.shape == y.shape else None
    fit.merge(judged)
    final = Ridge(fit).fit(strength)
    scale = _scale(final, fit, square_length)
    return Bridge(
        weight=(scale * final.weight).float(),
        bias=(scale * final.bias).float(),
        fit=BridgeFit(
            kept=tuple(cut),
            strength=strength,
            scale=scale,
            rows=fit.rows,
            held_out=len(x),
            cosine=cosine,
            cosine_before=before,
            error=error,
        ),
    )


def _mean_cosine(found: Tensor, expected: Tensor) -> float:
    return float(cosine_similarity(found.double(), expected.double(), dim=-1).mean())


def _scale(final: AffineMap, moments: Moments, square_length: float) -> float:
    mapped = final.mean_square(moments)
    # Training compares the vectors themselves with the parent's, not only their directions.
    return math.sqrt(square_length / moments.rows / mapped) if mapped > 0.0 else 1.0
