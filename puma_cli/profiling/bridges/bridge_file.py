"""The fitted maps of a profile on disk, so that a cut can take one without data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.config.layers import are_first, are_first_and_last
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.profiling.bridges.bridge import Bridge, BridgeFit

BRIDGES = "bridges.safetensors"

# Of wide models only the recommended cut's maps are written beyond this size.
WRITTEN_BYTES = 1 << 30


def write_bridges(
    bridges: Mapping[str, Sequence[Bridge]], folder: Path, recommended: int
) -> tuple[str, ...]:
    """Write the maps into a profile's folder; return the names of those written.

    Args:
        bridges: the maps by reading.
        folder: the profile's folder.
        recommended: the depth whose maps are written even where all together are too large.
    """
    from safetensors.torch import save_file

    everything = [(name, bridge) for name, found in bridges.items() for bridge in found]
    size = sum(bridge.weight.nbytes + bridge.bias.nbytes for _, bridge in everything)
    tensors = {}
    for name, bridge in everything:
        k = bridge.fit.k
        if size <= WRITTEN_BYTES or k == recommended:
            tensors[f"{name}.{k}.weight"] = bridge.weight.contiguous()
            tensors[f"{name}.{k}.bias"] = bridge.bias.contiguous()
    if tensors:
        with explained_writes(folder / BRIDGES):
            save_file(tensors, folder / BRIDGES)
    return tuple(sorted({key.rsplit(".", 1)[0] for key in tensors}))


def read_bridge(
    folder: Path, kept: Sequence[int], depth: int, fits: Mapping[str, Sequence[BridgeFit]]
) -> Bridge:
    """Return the bridge of a cut from a profile's folder.

    Args:
        folder: a folder written by `analyze`.
        kept: the layers that the cut has.
        depth: number of decoder layers of the model that was analyzed.
        fits: the profile's `bridges`.

    Raises:
        CheckpointError: the maps are missing or broken.
        ConfigError: the profile has no bridge for such a cut.
    """
    from safetensors import SafetensorError, safe_open

    k = len(kept)
    name = (
        "bridged"
        if are_first(kept)
        else "keep_last_bridged"
        if are_first_and_last(kept, depth)
        else ""
    )
    fit = next((fit for fit in fits.get(name, ()) if fit.k == k), None)
    if fit is None:
        known = ", ".join(str(fit.k) for fit in fits.get("bridged", ()))
        raise ConfigError(
            f"The profile `{folder}` has no bridge for the layers {list(kept)}.",
            cause=f"It has bridges for the first {known} layers." if known else "It has none.",
            hint="Fit one on data: --bridge --data D.",
        )
    try:
        with safe_open(folder / BRIDGES, "pt") as file:
            weight = file.get_tensor(f"{name}.{k}.weight").to(torch.float32)
            bias = file.get_tensor(f"{name}.{k}.bias").to(torch.float32)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The bridges in `{folder}` cannot be read.",
            cause=str(error),
            hint="Fit one on data: --bridge --data D, or run `puma analyze` again.",
        ) from error
    return Bridge(weight, bias, fit)
