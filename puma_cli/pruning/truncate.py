"""Writing the weights and the config that a plan describes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.layout import CONFIG, INDEX, shard_name
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.errors import CheckpointError
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.plan import Move, PrunePlan

# One shard is in memory at a time.
SHARD_BYTES = 2_000_000_000


def write_weights(
    plan: PrunePlan, folder: Path, reporter: Reporter = SILENT, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write the cut weights, their index if there are several files, and the config.

    Tensors keep their dtype and bytes.

    Args:
        folder: an existing folder.
        shard_bytes: no file grows beyond this unless a single tensor does (>= 1).

    Raises:
        CheckpointError: a tensor cannot be read.
        OSError, safetensors.SafetensorError: the disk is full; `new_folder` says so.
    """
    from safetensors.torch import save_file

    shards = list(_shards(plan.moves, shard_bytes))
    weight_map: dict[str, str] = {}
    for number, moves in reporter.track(enumerate(shards, 1), "write weights", total=len(shards)):
        name = shard_name(number, len(shards))
        save_file(_tensors(moves), folder / name, metadata={"format": "pt"})
        _sync(folder / name)
        weight_map.update((move.name, name) for move in moves)
    if len(shards) > 1:
        total = {"total_size": plan.bytes_after, "total_parameters": plan.parameters[1]}
        write_json(folder / INDEX, {"metadata": total, "weight_map": weight_map})
    write_json(folder / CONFIG, plan.config)


def _shards(moves: Sequence[Move], limit: int) -> Iterator[list[Move]]:
    shard: list[Move] = []
    size = 0
    for move in moves:
        if shard and size + move.entry.size > limit:
            yield shard
            shard, size = [], 0
        shard.append(move)
        size += move.entry.size
    if shard:
        yield shard


def _tensors(moves: Sequence[Move]) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    tensors = {}
    for file in dict.fromkeys(move.entry.file for move in moves):
        try:
            with safe_open(file, framework="pt") as opened:
                for move in moves:
                    if move.entry.file == file:
                        tensors[move.name] = opened.get_tensor(move.entry.name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"The weights `{file}` cannot be read.",
                cause=str(error),
                hint="Download or copy the checkpoint again.",
            ) from error
    return tensors


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
