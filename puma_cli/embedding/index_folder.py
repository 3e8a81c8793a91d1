"""The folder of an index: whether it is free, or was begun by the same command."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.layout import PROVENANCE
from puma_cli.checkpoint.output_folder import check_free, explained_writes
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.index_file import (
    INDEX_FILE,
    SCHEMA,
    IndexDescription,
    facts_of,
    read_description,
    write_description,
)
from puma_cli.embedding.lock import LOCK, only_writer
from puma_cli.embedding.row_embedder import check_dimensions
from puma_cli.embedding.shards import FOLDER, remove_drafts
from puma_cli.errors import OutputError
from puma_cli.models.devices import choose_device, choose_dtype

# What may differ between two runs that fill one index.
_FREE = ("schema", "model", "parents")
# What is there before anything is said, and after all else was removed.
_FIRST = (LOCK, PROVENANCE)


def describe_index(
    settings: EmbedSettings, model: Path, device: torch.device | None = None
) -> IndexDescription:
    """Return what an index will be.

    Args:
        device: what it will be computed on, where that is not on this machine.

    Raises:
        CheckpointError: the model's files are broken.
        ConfigError: the model has fewer dimensions than are to be kept.
    """
    mark, parents, dimension = facts_of(model)
    check_dimensions(settings.dimensions, dimension)
    device = device or choose_device(settings.device)
    return IndexDescription(
        schema=SCHEMA,
        model=settings.model,
        fingerprint=mark,
        parents=parents,
        model_dimension=dimension,
        dimensions=settings.dimensions or dimension,
        side=settings.side,
        instruction=settings.instruction,
        format=settings.format,
        store_dtype=settings.store_dtype,
        compute_dtype=str(choose_dtype(settings.dtype, device)).removeprefix("torch."),
        inputs=settings.inputs,
        shard_rows=settings.shard_rows,
    )


def take_up(settings: EmbedSettings, planned: IndexDescription, model: Path) -> None:
    """Make sure that the folder is free, or an index that the same settings began.

    Raises:
        DataError: its description is broken.
        OutputError: it is something else.
    """
    folder = settings.output_dir
    if not (folder / INDEX_FILE).is_file():
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= set(_FIRST):
            # Stopped before anything was said.
            return
        check_free(folder, settings.overwrite, [model, *map(Path, settings.inputs)])
        if settings.overwrite and folder.is_dir():
            _remove(folder)
        return
    if settings.overwrite:
        check_free(folder, True, [model, *map(Path, settings.inputs)])
        _remove(folder)
        return
    known = read_description(folder)
    if not known.complete and not any((folder / FOLDER).glob("[0-9]*.json")):
        # Begun, perhaps with a slip in the command, and stopped before there was anything.
        _remove(folder)
        return
    for name in (f for f in vars(planned) if f not in _FREE):
        then, now = getattr(known.unfinished, name), getattr(planned, name)
        if then == now:
            continue
        if name == "fingerprint":
            raise OutputError(
                f"The index in `{folder}` was made with another model than `{settings.model}`.",
                cause=f"That was `{known.model}`, of fingerprint {then}; this is {now}.",
                hint="Choose another --output-dir, or make it anew with --overwrite.",
            )
        raise OutputError(
            f"The index in `{folder}` was made with {name} = {_shown(then)}, not {_shown(now)}.",
            cause="Vectors of different settings do not belong together.",
            hint="Choose another --output-dir, or make it anew with --overwrite.",
        )


@contextmanager
def begun(settings: EmbedSettings, planned: IndexDescription, model: Path) -> Iterator[None]:
    """Take up an index or begin one, and hold it while shards are made.

    Raises:
        DataError, OutputError: see `take_up` and `only_writer`.
    """
    folder = settings.output_dir
    take_up(settings, planned, model)
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder), gone_if_empty(folder):
        begin(settings, planned)
        remove_drafts(folder)
        yield


def _remove(folder: Path) -> None:
    with explained_writes(folder), only_writer(folder):
        _clear(folder)


def _clear(folder: Path) -> None:
    # What it is goes last: an index that is half removed can be removed again.
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in _FIRST:
            path.unlink()


@contextmanager
def gone_if_empty(folder: Path) -> Iterator[None]:
    """Remove what was begun if nothing comes of it: not one shard, since an input is not right."""
    try:
        yield
    except BaseException:
        if not any((folder / FOLDER).glob("[0-9]*.json")):
            with suppress(OSError):
                _clear(folder)
                for name in _FIRST:
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()
        raise


def begin(settings: EmbedSettings, planned: IndexDescription) -> None:
    """Say what the folder will be, unless it says so already.

    Raises:
        OutputError: the disk is full or refuses.
    """
    folder = settings.output_dir
    if (folder / INDEX_FILE).is_file():
        return
    with explained_writes(folder):
        # First, so that --overwrite knows the folder for one of puma's.
        write_origin(settings, planned, {})
        write_description(folder, planned)


def write_origin(
    settings: EmbedSettings, description: IndexDescription, results: dict[str, int]
) -> None:
    """Write the index's `puma.json`, with what came of the run."""
    parents = [Parent("model", settings.model, description.fingerprint)]
    # Of folders of images, the shards know what they held.
    files = [name for name in settings.inputs if Path(name).is_file()]
    parents += [Parent("data", name, fingerprint(name)) for name in files]
    own = replace(settings, overwrite=False)
    write_provenance(settings.output_dir, describe("embed", own, parents, results=results))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
