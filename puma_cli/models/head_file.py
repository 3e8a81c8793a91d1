"""The file of a head: an affine map after the final norm, named in `embedder.json`.

Of a folder of sentence-transformers it is that of a Dense module, in a folder of its own.
"""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.layout import EMBEDDER, WEIGHTS
from puma_cli.checkpoint.links import checked_file
from puma_cli.checkpoint.safetensors_header import read_header
from puma_cli.errors import CheckpointError

BRIDGE = "bridge.safetensors"
WEIGHT, BIAS = "weight", "bias"
# The names of a Dense module's weights; its matrix is the other way round.
DENSE_WEIGHT, DENSE_BIAS = "linear.weight", "linear.bias"


def head_path(folder: Path, name: str) -> Path:
    """Return the path of the head that `embedder.json` of `folder` names.

    Raises:
        CheckpointError: it is not the name of a safetensors file in the folder itself, or a link
            that leads out of it.
    """
    if Path(name).name == name and (folder / name).is_dir():
        return _dense_file(folder, name)
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise CheckpointError(
            f"{folder / EMBEDDER} names the head {name!r}.",
            cause="A head is a plain safetensors file beside the weights.",
        )
    path = folder / name
    if not path.is_file():
        raise CheckpointError(
            f"The head {path} is missing.",
            cause=f"{EMBEDDER} names it: without it the model gives other vectors.",
            hint="Copy the checkpoint again, or cut it again with `puma prune --bridge`.",
        )
    checked_file(folder, path)
    return path


def head_shape(folder: Path, name: str) -> tuple[int, int]:
    """Return the lengths (D, D_t) of the vectors that a head takes and gives, from its header.

    Raises:
        CheckpointError: the file is missing, broken or holds something else.
    """
    path = head_path(folder, name)
    found = {key: (entry.dtype, entry.shape) for key, entry in read_header(path).tensors.items()}
    dense = found.get(DENSE_WEIGHT)
    if dense is not None and len(dense[1]) == 2:
        return int(dense[1][1]), int(dense[1][0])
    shape = found.get(WEIGHT, ("", ()))[1]
    if len(shape) != 2 or found != {WEIGHT: ("F32", shape), BIAS: ("F32", shape[1:])}:
        held = ", ".join(f"{key} {dtype} {list(size)}" for key, (dtype, size) in found.items())
        raise CheckpointError(
            f"{path} is no head.",
            cause=f"It should hold {WEIGHT} F32 [D, D_t] and {BIAS} F32 [D_t]; it holds "
            f"{held or 'nothing'}.",
            hint="Cut the model again with `puma prune --bridge`.",
        )
    return int(shape[0]), int(shape[1])


def _dense_file(folder: Path, name: str) -> Path:
    path = folder / name / WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"The module {folder / name} has no {WEIGHTS}.",
            cause="puma opens safetensors only: a pickle can run code when it is opened.",
            hint="Save the model again with a newer sentence-transformers.",
        )
    checked_file(folder, path)
    return path
