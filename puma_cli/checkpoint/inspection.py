"""What a folder is, where it came from and what to type next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from puma_cli.checkpoint import kinds
from puma_cli.checkpoint.fingerprint import is_unchanged
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.checkpoint.model_facts import model_facts
from puma_cli.checkpoint.provenance import Parent, Provenance, read_provenance
from puma_cli.checkpoint.source import ADAPTER_CONFIG, PUMA_MINI, is_adapter, resolve
from puma_cli.errors import CheckpointError, DataError, PumaError

UNCHANGED = "unchanged"
CHANGED = "changed since"
ABSENT = "not found here"


@dataclass(frozen=True)
class ParentReport:
    """One parent of a folder and whether it is still what it was.

    Args:
        state: `unchanged`, `changed since` or `not found here`.
    """

    role: str
    name: str
    fingerprint: str
    state: str


@dataclass(frozen=True)
class FolderReport:
    """The answer of `puma info`.

    Args:
        path: the folder as it was named.
        kind: one of the kinds of `puma_cli.checkpoint.kinds`.
        facts: names and values worth knowing, in order of interest.
        parents: what it was made from.
        next_command: what a user would type next, or an empty string.
    """

    path: str
    kind: str
    facts: list[tuple[str, str]]
    parents: tuple[ParentReport, ...] = ()
    next_command: str = ""


def inspect_folder(path: str | Path) -> FolderReport:
    """Return what is known about a folder without loading any weight.

    Args:
        path: a folder, `puma-mini` or the id of a hub model that is cached; none is fetched.

    Raises:
        CheckpointError: there is nothing there, or its files are broken.
    """
    folder = Path(path).expanduser()
    if not str(path).strip():
        raise CheckpointError("The name of the folder is empty.", hint="Name one, or `.`.")
    if str(path) == PUMA_MINI or not folder.exists():
        folder = resolve(path, fetch=False)
    elif not folder.is_dir():
        raise CheckpointError(
            f"`{path}` is a file, not a folder.",
            hint=f"Ask about the folder that it is in: puma info {_quoted(folder.parent)}",
        )
    kind = kinds.tell_kind(folder)
    provenance = read_provenance(folder)
    facts = list(_facts(folder, kind, provenance))
    parents = tuple(_report(parent) for parent in provenance.parents) if provenance else ()
    return FolderReport(
        path=str(path),
        kind=kind,
        facts=facts,
        parents=parents,
        next_command=_next_command(str(path), kind, provenance),
    )


def _facts(folder: Path, kind: str, provenance: Provenance | None) -> Iterator[tuple[str, str]]:
    if kind in kinds.CHECKPOINTS:
        yield from model_facts(folder)
    elif kind in (kinds.DATA, kinds.MINED):
        yield from _data_facts(folder)
    elif kind == kinds.UNFINISHED:
        yield from _training_facts(folder)
    elif is_adapter(folder):
        yield (
            "adapters over",
            str(read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")),
        )
    elif kind == kinds.UNKNOWN:
        names = sorted(item.name for item in folder.iterdir())
        yield "holds", ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
    if provenance is None:
        return
    if provenance.kept_layers is not None:
        yield "kept layers", say_layers(provenance.kept_layers)
    if provenance.stage is not None:
        names = [stage["name"] for stage in provenance.earlier_stages]
        yield "stages", ", ".join([*names, provenance.stage])
    # A cut's results are the facts above, in other words.
    for name, value in provenance.results.items() if kind != kinds.PRUNED else ():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value)
    if provenance.seed is not None:
        yield "seed", str(provenance.seed)
    yield "written by", f"{provenance.command}, {provenance.created}"
    yield "with", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())


def say_layers(layers: list[int]) -> str:
    """Return ascending layer numbers in words, such as `0-2, 11 (4)`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"{text} ({len(layers)})"


def _data_facts(folder: Path) -> Iterator[tuple[str, str]]:
    from puma_cli.data.mbeir import SPLITS, MbeirFolder

    data = MbeirFolder(folder)
    for split in SPLITS:
        try:
            tasks = data.tasks(split)
        except DataError:
            continue
        yield split, ", ".join(task.name for task in tasks)


def _report(parent: Parent) -> ParentReport:
    return ParentReport(parent.role, parent.name, parent.fingerprint, _state(parent))


def _state(parent: Parent) -> str:
    """Tell whether a parent is still what it was; never download to find out."""
    try:
        folder = Path(parent.name).expanduser()
        if parent.name == PUMA_MINI or is_adapter(folder):
            folder = resolve(parent.name)
        if not folder.exists():
            return ABSENT
        return UNCHANGED if is_unchanged(folder, parent.fingerprint) else CHANGED
    except (PumaError, OSError):
        return CHANGED


def _next_command(name: str, kind: str, provenance: Provenance | None) -> str:
    quoted = _quoted(name)
    settings = provenance.settings if provenance else {}
    parents = {parent.role: parent.name for parent in provenance.parents} if provenance else {}
    read = Path(settings.get("data") or "DATA")
    # A training may have read tables of pairs, which the other commands do not.
    usable = read.exists() and kinds.tell_kind(read) == kinds.DATA
    data = _quoted(read if usable else "DATA")
    model = _quoted(parents.get("model", "MODEL"))
    if kind == kinds.UNFINISHED:
        return _resume_command(name)
    if kind == kinds.UNKNOWN:
        return _for_unknown(name)
    return {
        kinds.STOCK: f"puma analyze {quoted} --data {data} --output-dir profile",
        kinds.PRUNED: f"puma distill {quoted} --teacher {model} --data {data} --output-dir student",
        kinds.DISTILLED: f"puma eval {quoted} --data {data} --output-dir scores",
        kinds.EXPORTED: f"puma eval {quoted} --data {data} --output-dir scores",
        kinds.DATA: f"puma analyze {PUMA_MINI} --data {quoted} --output-dir profile",
        kinds.MINED: f"puma distill STUDENT --teacher {model} --data {quoted} --output-dir student "
        "--set batch.negatives=2",
        kinds.PROFILE: f"puma prune {model} --profile {quoted} --output-dir pruned",
        kinds.SCORES: f"puma compare REFERENCE_SCORES {quoted}",
        kinds.VECTOR_INDEX: f"puma search {model} --index {quoted} QUERY",
        kinds.DEMO: f"puma demo --output-dir {quoted}",
    }.get(kind, "")


def _for_unknown(name: str) -> str:
    from puma_cli.embedding.image_files import is_image

    pictures = any(is_image(path.name) for path in Path(name).expanduser().iterdir())
    made = f"puma embed {PUMA_MINI} {_quoted(name)} --output-dir index"
    return made if pictures else "puma --help"


def _resume_command(name: str) -> str:
    # Its own settings file is a valid configuration: nobody has to remember the flags.
    saved = _saved_settings(Path(name))
    return f"puma distill --config {_quoted(saved)} --output-dir {_quoted(name)} --resume"


def _training_facts(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        content = json.loads(_saved_settings(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    if isinstance(content, dict):
        for key in ("student", "teacher", "data", "seed"):
            if key in content:
                yield key, str(content[key])
        if "stages" in content:
            yield "stages", ", ".join(stage["name"] for stage in content["stages"])


def _saved_settings(folder: Path) -> Path:
    """Return the file with the settings of an unfinished training, or of all its stages."""
    stages = folder / LAYOUT.training_stages
    return stages if stages.is_file() else folder / LAYOUT.training_settings


def _quoted(name: str | Path) -> str:
    return shlex.quote(str(name))
