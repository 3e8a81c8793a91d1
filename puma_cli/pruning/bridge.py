"""The training-free bridge of a cut: fitted on a data set, written beside the cut's weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.config.layers import checked_layers
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import ConfigError
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import settings_for, write_embedder_settings
from puma_cli.models.head import Head, write_head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.opening import load
from puma_cli.profiling.bridges.bridge import HELD_OUT, Bridge, fit_bridges
from puma_cli.profiling.bridges.training_rows import FEWEST, bridge_rows
from puma_cli.progress import SILENT, Reporter

ROWS = 20_000


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
    for layers that are neither its first ones nor these and the last, its cut runs beside it.

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
    cut = checked_layers(kept, embedder.depth)
    (bridge,) = fit_bridges(
        embedder, [cut], fitted, judged, batch_size=batch_size, reporter=reporter
    )
    return bridge


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
