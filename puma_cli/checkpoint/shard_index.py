"""Which safetensors files a checkpoint's weights are in: one, or those that an index names."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import INDEX, PICKLED, WEIGHTS
from puma_cli.checkpoint.links import checked_file
from puma_cli.errors import CheckpointError

_PLAIN = re.compile(r"[^/\\:\x00-\x1f.][^/\\:\x00-\x1f]*\.safetensors")


class MissingWeightsError(CheckpointError):
    """A checkpoint's weights are not all here; they may be elsewhere."""


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that a checkpoint folder's weights are in, sorted by name.

    Raises:
        CheckpointError: there are none, one leads out of the folder, or the index is broken or
            names a missing shard.
    """
    if os.path.lexists(folder / WEIGHTS):  # what transformers looks for first
        checked_file(folder, folder / WEIGHTS)
        return [folder / WEIGHTS]
    if not os.path.lexists(folder / INDEX):
        raise no_weights(folder, [path.name for path in folder.iterdir()])
    files = [folder / name for name in sorted(set(read_index(folder).values()))]
    for file in files:
        if not os.path.lexists(file):
            raise missing_shard(folder, file.name)
        checked_file(folder, file)
    _check_numbers(folder, files)
    return files


def missing_shard(folder: Path, name: str) -> MissingWeightsError:
    """Return the error of a checkpoint without the shard `name`."""
    return MissingWeightsError(
        f"The checkpoint `{folder}` misses its shard `{name}`.",
        cause=f"`{INDEX}` names it.",
        hint="Finish the download or copy the checkpoint again.",
    )


def no_weights(model: str | Path, names: Iterable[str]) -> MissingWeightsError:
    """Return the error of a checkpoint that has no safetensors among its files `names`."""
    if any(Path(name).match(pattern) for name in names for pattern in PICKLED):
        code = (
            "from transformers import AutoModel; "
            f"AutoModel.from_pretrained('{model}').save_pretrained('converted')"
        )
        return MissingWeightsError(
            f"`{model}` holds pickled weights only.",
            cause="puma opens safetensors only: a pickle can run code when it is opened.",
            hint=f'Use a revision with safetensors, or, if you trust it: python -c "{code}"',
        )
    return MissingWeightsError(
        f"`{model}` holds no `{WEIGHTS}` and no `{INDEX}`.",
        hint="Finish the download, or name the folder that holds the weights.",
    )


def _check_numbers(folder: Path, files: list[Path]) -> None:
    """Check that the index names every shard of a numbered set that lies in the folder."""
    patterns = {re.sub(r"\d+-of-", "*-of-", file.name) for file in files if "-of-" in file.name}
    for pattern in sorted(patterns):
        for file in sorted(folder.glob(glob.escape(pattern).replace("[*]", "*"))):
            if file not in files:
                raise CheckpointError(
                    f"The shard index of `{folder}` says nothing of its shard `{file.name}`.",
                    hint="Download or copy the checkpoint again.",
                )


def read_index(folder: Path) -> dict[str, str]:
    """Return the weight map of a sharded checkpoint: tensor name to file name.

    Raises:
        CheckpointError: it is missing or broken, or names something else than safetensors files
            beside it.
    """
    path = folder / INDEX
    checked_file(folder, path)
    weight_map = read_object(path).get("weight_map")
    if type(weight_map) is not dict or not weight_map:
        raise CheckpointError(
            f"The shard index `{path}` cannot be read.",
            cause="It has no map from tensors to files.",
            hint="Download or copy the checkpoint again.",
        )
    for file in {str(name): name for name in weight_map.values()}.values():
        # A name with a folder in it would read, and later write, outside the checkpoint.
        if type(file) is not str or not _PLAIN.fullmatch(file):
            raise CheckpointError(
                f"The shard index `{path}` names `{str(file)[:200]}`, not a plain file.",
                cause="A shard is a `.safetensors` file beside its index.",
                hint="Download or copy the checkpoint again.",
            )
    return weight_map
