"""The training-free bridge: a closed-form map from a cut's vectors into its parent's space."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import ConfigError
from puma_cli.evaluation.encode import out_of_memory_explained
from puma_cli.models.embedder import Embedder, load
from puma_cli.models.embedder_settings import settings_for, write_embedder_settings
from puma_cli.models.head import Head, write_head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.processing import Batch
from puma_cli.profiling.ridge import AffineMap, Moments, Ridge, choose_strength
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.bridge_rows import FEWEST, bridge_rows
from puma_cli.pruning.planning.layers import are_first, checked_layers

ROWS = 20_000
HELD_OUT = 0.1


@dataclass(frozen=True, eq=False)
class Bridge:
    """A fitted head and how good it is.

    Args:
        weight: float32 (D, D_t).
        bias: float32 (D_t,).
        kept: the parent's decoder layers that the cut model has.
        strength: the ridge penalty, relative to the mean eigenvalue of the inputs' covariance.
        scale: what the fitted map is multiplied by, in `weight` and `bias` already, so that the
            root mean square length of its vectors is that of the parent's.
        rows: inputs that the map was fitted on, the held-out ones included at the end.
        held_out: inputs that chose the strength; what follows was measured on them, with the map
            of the others.
        cosine: mean cosine of the mapped vectors to the parent's.
        cosine_before: mean cosine of the cut model's own vectors to the parent's, or None if they
            are of another length.
        error: mean squared distance of the mapped vectors to the parent's unit vectors.
    """

    weight: Tensor
    bias: Tensor
    kept: tuple[int, ...]
    strength: float
    scale: float
    rows: int
    held_out: int
    cosine: float
    cosine_before: float | None
    error: float

    def summary(self) -> dict[str, Any]:
        """Return everything but the map itself, as plain values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if not isinstance(value, Tensor)
        }


def fit_bridge(
    parent: Path | Embedder,
    kept: Sequence[int],
    data: Path | MbeirFolder,
    *,
    rows: int = ROWS,
    held_out: float = HELD_OUT,
    seed: int = 0,
    batch_size: int = 128,
    device: str = "auto",
    dtype: str = "auto",
    reporter: Reporter = SILENT,
) -> Bridge:
    """Fit the ridge regression from `norm(h[k])` of a cut to its parent's unit embeddings.

    Queries with instructions and candidates of the training split pass through the parent once;
    for kept layers that are not its first ones, its cut runs beside it. Moments are accumulated in
    float64; of the inputs, only the held-out ones' vectors stay in memory.

    Args:
        parent: the model at full depth.
        kept: its layers that the cut has, ascending.
        data: folder in the M-BEIR layout, with a training split.
        rows: at most this many inputs (>= 20).
        held_out: share of them that chooses the strength, in (0, 1).

    Raises:
        CheckpointError: the parent cannot be opened.
        ConfigError: the layers are not the parent's, or an argument is out of range.
        DataError: the data are missing, broken or too few.
        DeviceError: the device runs out of memory.
        NumericError: an embedding is not finite.
    """
    if rows < FEWEST or not 0.0 < held_out < 1.0:
        raise ConfigError(
            f"A bridge cannot be fitted on {rows} rows with {held_out:g} of them held out.",
            hint=f"Use at least {FEWEST} rows, and a share between 0 and 1.",
        )
    folder = data if isinstance(data, MbeirFolder) else MbeirFolder(data)
    fitted, judged = bridge_rows(folder, rows, held_out, seed)
    embedder = parent if isinstance(parent, Embedder) else load(parent, device, dtype)
    layers = checked_layers(kept, embedder.depth)
    fit, held = (Moments(embedder.width, embedder.dimension) for _ in range(2))
    x, y = torch.empty(len(judged), embedder.width), torch.empty(len(judged), embedder.dimension)
    square_length = 0.0
    inputs = [*judged, *fitted]
    with evaluation_mode(embedder.model), out_of_memory_explained(batch_size, "--device cpu"):
        for places, batch in embedder.batches(inputs, batch_size, reporter, "bridge"):
            states, full = (found.float().cpu() for found in both_depths(embedder, layers, batch))
            square_length += float(full.double().square().sum())
            target = normalize(full, dim=-1)
            chosen = torch.tensor(places)
            is_held = chosen < len(judged)
            x[chosen[is_held]], y[chosen[is_held]] = states[is_held], target[is_held]
            held.add(states[is_held], target[is_held])
            fit.add(states[~is_held], target[~is_held])
    ridge = Ridge(fit)
    strength, error = choose_strength(ridge, held)
    cosine = _mean_cosine(ridge.fit(strength)(x), y)
    before = _mean_cosine(x, y) if x.shape == y.shape else None
    fit.merge(held)
    final = Ridge(fit).fit(strength)
    scale = _scale(final, fit, square_length)
    return Bridge(
        weight=(scale * final.weight).float(),
        bias=(scale * final.bias).float(),
        kept=layers,
        strength=strength,
        scale=scale,
        rows=fit.rows,
        held_out=len(judged),
        cosine=cosine,
        cosine_before=before,
        error=error,
    )


def write_bridge(bridge: Bridge, folder: Path) -> None:
    """Write the map into a cut checkpoint's folder and name it in its `embedder.json`.

    Raises:
        CheckpointError: the folder does not say how it embeds.
        OutputError: the folder cannot be written.
    """
    settings = settings_for(folder)
    path = folder / BRIDGE
    with explained_writes(path):
        write_head(Head(bridge.weight, bridge.bias), path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        named = replace(settings, head=BRIDGE, dimension=len(bridge.bias))
        write_embedder_settings(named, folder)


@torch.no_grad()
def both_depths(embedder: Embedder, kept: Sequence[int], batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the post-norm states of the cut to `kept` and the embeddings of the whole model.

    First layers are read off in passing; other lists take a second, shorter pass.
    """
    if are_first(kept):
        hidden = embedder.hidden_states(batch)
        states, full = embedder.read_out(hidden[[len(kept), -1]])
        return states, embedder.apply_head(full)
    vision = embedder.vision_features(batch)
    with embedder.layers(kept):
        states = embedder.post_norm_states(batch, vision)
    return states, embedder.embed(batch, vision)


def _mean_cosine(found: Tensor, expected: Tensor) -> float:
    return float(cosine_similarity(found.double(), expected.double(), dim=-1).mean())


def _scale(final: AffineMap, moments: Moments, square_length: float) -> float:
    mapped = final.mean_square(moments)
    # Training compares the vectors themselves with the parent's, not only their directions.
    return math.sqrt(square_length / moments.rows / mapped) if mapped > 0.0 else 1.0
