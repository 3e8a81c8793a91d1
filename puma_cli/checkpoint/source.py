"""From what a user calls a model to a folder on this disk."""

from __future__ import annotations

import difflib
import glob
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from puma_cli.checkpoint import hub, kinds
from puma_cli.checkpoint.fingerprint import COMMIT, identify
from puma_cli.checkpoint.hub import KINDS
from puma_cli.checkpoint.layout import CARRIED, CONFIG, DOWNLOADED, INDEX, LAYOUT, WEIGHTS
from puma_cli.checkpoint.links import checked_file
from puma_cli.checkpoint.safetensors_header import (
    TensorEntry,
    checkpoint_headers,
    merged_tensors,
    read_header,
)
from puma_cli.checkpoint.shard_index import (
    MissingWeightsError,
    missing_shard,
    no_weights,
    read_index,
    weight_files,
)
from puma_cli.errors import CheckpointError
from puma_cli.progress import SILENT, Reporter

PUMA_MINI = "puma-mini"
ADAPTER_CONFIG = "adapter_config.json"
_PACKAGED = Path(__file__).resolve().parent.parent / "models" / "puma_mini"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+(@[\w.\-/]+)?")


@dataclass(frozen=True)
class Source:
    """A checkpoint whose tensors are known and need not all be on this disk.

    Args:
        name: what the user called it.
        folder: where its files are, or will be.
        tensors: every tensor by name; the file of one may have to be fetched first.
        repository: the hub model it is a snapshot of, `org/name@commit`, or an empty text.
    """

    name: str
    folder: Path
    tensors: Mapping[str, TensorEntry]
    repository: str = ""

    @property
    def files(self) -> set[str]:
        """Names of all its weight files."""
        return {entry.file.name for entry in self.tensors.values()}

    def fetch(self, files: Iterable[str], reporter: Reporter = SILENT) -> None:
        """Download those of the weight files `files` that are not here yet.

        Raises:
            CheckpointError: the hub cannot be asked, or sends another file than it described.
        """
        missing = sorted(name for name in set(files) if not (self.folder / name).exists())
        if not missing:
            return
        if not self.repository:
            raise missing_shard(self.folder, missing[0])
        reporter.note(f"Fetching {len(missing)} weight files of `{self.name}` from the hub.")
        hub.snapshot(self.repository, [glob.escape(name) for name in missing], reporter)
        for name in missing:
            checked_file(self.folder, self.folder / name)
            expected = {entry for entry in self.tensors.values() if entry.file.name == name}
            if set(read_header(self.folder / name).tensors.values()) != expected:
                raise CheckpointError(
                    f"The hub's `{name}` is another file than its header said.",
                    hint="Try again later, or download the whole model and name its folder.",
                )

    def fingerprint(self, full: bool = False) -> str:
        """Return what tells whether this checkpoint is still what it was.

        That is the hash of its folder, or `commit:...` where some of the weights are not here: a
        commit of the hub names the hash of every file, so it is as good as a `full` one.
        """
        if self.repository and not all(entry.file.exists() for entry in self.tensors.values()):
            return f"{COMMIT}:{self.folder.name}"
        return identify(self.folder, full)


def open_source(model: str | Path, reporter: Reporter = SILENT) -> Source:
    """Return a checkpoint's tensors; of a hub model only texts and headers are fetched.

    Args:
        model: a folder, `puma-mini` or `org/name[@revision]`.

    Raises:
        CheckpointError: there is no such model, or it is no whole checkpoint with safetensors
            weights.
    """
    if not _is_on_hub(model):
        folder = resolve(model, reporter)
        return Source(str(model), folder, checkpoint_headers(folder))
    reporter.note(f"Reading `{model}` on the hub, unless it is cached.")
    folder = hub.snapshot(str(model), CARRIED, reporter)
    repository = f"{str(model).partition('@')[0]}@{folder.name}"
    if is_adapter(folder):
        folder = resolve(model, reporter)
        return Source(str(model), folder, checkpoint_headers(folder))
    _check_config(folder, str(model))
    modules = [f"{glob.escape(name)}/*.safetensors" for name in _module_folders(folder)]
    if modules:
        hub.snapshot(repository, modules, reporter)
    tensors = _hub_tensors(folder, repository, reporter)
    return Source(str(model), folder, tensors, repository)


def resolve(model: str | Path, reporter: Reporter = SILENT, *, fetch: bool = True) -> Path:
    """Return the folder of a checkpoint, downloading a hub id if it must.

    Args:
        model: a folder, `puma-mini` or `org/name[@revision]`.
        fetch: whether a hub model may be downloaded; otherwise it must be cached.

    Raises:
        CheckpointError: there is no such model, or it is no checkpoint with safetensors weights.
    """
    if str(model) == PUMA_MINI:
        if not _PACKAGED.is_dir():
            raise CheckpointError(
                "This installation of puma lacks its model puma-mini.",
                hint="Install puma again, or train the model with the command on its card.",
            )
        return _checked(_PACKAGED, PUMA_MINI)
    path = Path(model).expanduser()
    if _exists(path):
        return _checked(_merged(path, reporter) if is_adapter(path) else path, str(model))
    if _is_on_hub(model):
        if fetch:
            reporter.note(f"Fetching `{model}` from the hub, unless it is cached.")
        folder = hub.snapshot(str(model), DOWNLOADED, reporter, fetch=fetch)
        if is_adapter(folder):
            folder = _merged(folder, reporter)
        return _checked(folder, str(model))
    raise CheckpointError(
        f"There is no model `{model}`.", cause=_likely(path), hint=f"A model is {KINDS}."
    )


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder holds adapters over another model, and none of its weights."""
    weights = (folder / name for name in (WEIGHTS, INDEX))
    return (folder / ADAPTER_CONFIG).is_file() and not any(file.is_file() for file in weights)


def _merged(adapter: Path, reporter: Reporter) -> Path:
    from puma_cli.models.importing.vlm2vec import merged_folder

    reporter.note(f"`{adapter.name}` holds adapters: they are merged into their base, once.")
    return merged_folder(adapter, lambda name: resolve(name, reporter))


def _is_on_hub(model: str | Path) -> bool:
    """Tell whether `model` is a hub id rather than a folder; nobody is asked."""
    if not isinstance(model, str) or not _HUB_ID.fullmatch(model):
        return False
    path = Path(model).expanduser()
    return not _exists(path) and not path.parent.is_dir()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise CheckpointError(
            f"There is no model `{str(path)[:300]}`.",
            cause=f"{error.strerror}.",
            hint=f"A model is {KINDS}.",
        ) from error


def _hub_tensors(folder: Path, repository: str, reporter: Reporter) -> dict[str, TensorEntry]:
    """Return the tensors of a snapshot, whose weights may be here or not."""
    try:
        return checkpoint_headers(folder)
    except MissingWeightsError:
        names = hub.repository_files(repository)
    index = None
    if WEIGHTS in names:
        files = [folder / WEIGHTS]
    elif INDEX in names:
        index = read_index(folder)
        files = [folder / name for name in sorted(set(index.values()))]
        for file in files:
            if file.name not in names:
                raise missing_shard(folder, file.name)
    else:
        raise no_weights(repository, names)
    here = [file for file in files if os.path.lexists(file)]
    for file in here:
        checked_file(folder, file)
    away = [file for file in files if file not in here]
    headers = [read_header(file) for file in here]
    return merged_tensors(folder, headers + hub.remote_headers(repository, away, reporter), index)


def _module_folders(folder: Path) -> list[str]:
    """Return the folders of sentence-transformers modules; their weights belong to the texts."""
    try:
        modules = json.loads((folder / LAYOUT.modules).read_text(encoding="utf-8"))
        names = [str(module["path"]) for module in modules]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [name for name in names if re.fullmatch(r"\w[\w.\-]*", name)]


def _check_config(folder: Path, name: str) -> None:
    if not os.path.lexists(folder / CONFIG):
        raise CheckpointError(
            f"`{name}` is no checkpoint: it has no `{CONFIG}`.",
            cause=_instead(folder),
            hint=f"A model is {KINDS}.",
        )
    checked_file(folder, folder / CONFIG)


def _checked(folder: Path, name: str) -> Path:
    """Return `folder` if it holds a config and safetensors weights."""
    if folder.is_file():
        raise CheckpointError(
            f"`{name}` is a file, not a checkpoint folder.",
            hint=f"Name the folder that holds it: `{folder.parent}`.",
        )
    _check_config(folder, name)
    weight_files(folder)
    return folder


def _instead(folder: Path) -> str:
    kind = kinds.tell_kind(folder)
    if kind == kinds.UNFINISHED:
        return f"It holds an unfinished training; its last state is in `{LAYOUT.training}`."
    if kind != kinds.UNKNOWN:
        return f"It holds a {kind}." if kind != kinds.SCORES else "It holds scores."
    inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if inside:
        return f"It has checkpoints inside: {', '.join(f'`{name}`' for name in inside[:5])}."
    return "It is empty." if not any(folder.iterdir()) else ""


def _likely(path: Path) -> str:
    """Return a guess at what a misspelt path meant, or an empty sentence."""
    names = [PUMA_MINI] if len(path.parts) == 1 else []
    if path.parent.is_dir():
        names += [item.name for item in path.parent.iterdir() if item.is_dir()]
    else:
        missing = next(p for p in reversed(path.parents) if not p.is_dir())
        return f"There is no folder `{missing}`."
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    if not close:
        return ""
    return f"Did you mean `{path.parent / close[0] if len(path.parts) > 1 else close[0]}`?"
