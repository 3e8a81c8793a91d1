"""Which safetensors files a checkpoint's weights are in: one, or those that an index names."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import INDEX, PICKLED, WEIGHTS
from puma_cli.checkpoint.links import checked_file
from puma_cli.errors import CheckpointError

_PLAIN = re.compile(r"[^/\\:\x00-\x1f.][^/\\:\x00-\x1f]*\.safetensors")


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that a checkpoint folder's weights are in, sorted by name.

    Raises:
        CheckpointError: there are none, one leads out of the folder, or the index is broken or
            names a missing shard.
    """
    if os.path.lexists(folder / WEIGHTS):  # what transformers looks for first
        checked_file(folder, folder / WEIGHTS)
        return [folder / WEIGHTS]
    if os.path.lexists(folder / INDEX):
        files = [folder / name for name in sorted(set(read_index(folder).values()))]
        for file in files:
            if not file.exists():
                raise CheckpointError(
                    f"The checkpoint `{folder}` misses its shard `{file.name}`.",
                    cause=f"`{INDEX}` names it.",
                    hint="Finish the download or copy the checkpoint again.",
                )
            checked_file(folder, file)
        _check_numbers(folder, files)
        return files
    if any(any(folder.glob(pattern)) for pattern in PICKLED):
        raise CheckpointError(
            f"`{folder}` holds pickled weights only.",
            cause="puma opens safetensors only: a pickle can run code when it is opened.",
            hint="Use a revision with safetensors, or convert it where you trust it: "
            f'python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder.name}-safe')\"",
        )
    raise CheckpointError(
        f"`{folder}` holds no `{WEIGHTS}` and no `{INDEX}`.",
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
