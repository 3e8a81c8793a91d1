"""What an index is: its `index.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.checkpoint.provenance import Parent, read_provenance
from puma_cli.errors import DataError
from puma_cli.models.embedder_settings import settings_for

INDEX_FILE = "index.json"
SCHEMA = 1
# Parents that a model shares its space with.
_MODELS = ("model", "student", "teacher")


@dataclass(frozen=True)
class IndexDescription:
    """The contents of `index.json`.

    Args:
        schema: version of the folder's layout.
        model: the model as the user named it.
        fingerprint: hash of the model, to tell whether it is still the same.
        parents: models that it was cut from or taught by, which share its space.
        model_dimension: length of the model's own vectors.
        dimensions: length of the vectors here: their first components, renormalised.
        side: `document` or `query`.
        instruction: what was asked of all inputs that do not say themselves, or None.
        format: `npy`, `safetensors`, `parquet` or `lancedb`.
        store_dtype: `float32`, `float16` or `int8`; of `int8`, each vector has a scale.
        compute_dtype: number format that the model computed in.
        inputs: what was embedded, as the user named it.
        shard_rows: inputs of a shard.
        complete: whether all inputs are in it.
        rows: vectors in all; 0 until it is complete.
        shards: how many there are; 0 until it is complete.
    """

    schema: int
    model: str
    fingerprint: str
    parents: tuple[Parent, ...]
    model_dimension: int
    dimensions: int
    side: str
    instruction: str | None
    format: str
    store_dtype: str
    compute_dtype: str
    inputs: tuple[str, ...]
    shard_rows: int
    complete: bool = False
    rows: int = 0
    shards: int = 0

    @property
    def unfinished(self) -> IndexDescription:
        """The same, before anything was embedded."""
        return replace(self, complete=False, rows=0, shards=0)


def model_parents(folder: Path) -> tuple[Parent, ...]:
    """Return the models that a checkpoint was made from."""
    provenance = read_provenance(folder)
    found = provenance.parents if provenance is not None else ()
    return tuple(parent for parent in found if parent.role in _MODELS)


def facts_of(folder: Path) -> tuple[str, tuple[Parent, ...], int]:
    """Return a checkpoint's fingerprint, its parents and the length of its vectors."""
    return fingerprint(folder), model_parents(folder), settings_for(folder).dimension


def write_description(folder: Path, description: IndexDescription) -> None:
    """Write `index.json`."""
    write_json(folder / INDEX_FILE, asdict(description))


def read_description(folder: Path) -> IndexDescription:
    """Return what the `index.json` of a folder says.

    Raises:
        DataError: there is none, or it is broken or of a later version.
    """
    path = folder / INDEX_FILE
    if not folder.exists():
        raise DataError(f"The index `{folder}` does not exist.", hint=_MAKE.format(folder))
    if not path.is_file():
        raise DataError(
            f"`{folder}` is no index of vectors.",
            cause=f"It holds no {INDEX_FILE}.",
            hint=_MAKE.format(folder),
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] > SCHEMA:
            raise DataError(
                f"`{path}` is of version {content['schema']}; this version reads {SCHEMA}.",
                hint="Update puma.",
            )
        known = {field.name for field in fields(IndexDescription)}
        values = {name: value for name, value in content.items() if name in known}
        values["parents"] = tuple(Parent(**parent) for parent in values["parents"])
        values["inputs"] = tuple(values["inputs"])
        return IndexDescription(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"`{path}` is damaged.",
            cause=f"{type(error).__name__}: {error}",
            hint="The `puma embed` command that wrote the index, with --overwrite, makes it anew.",
        ) from error


_MAKE = "puma embed MODEL INPUT --output-dir {} makes one."
