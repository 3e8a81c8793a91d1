"""Where a folder came from: the `puma.json` that every result holds."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.layout import PROVENANCE
from puma_cli.checkpoint.output_folder import write_json
from puma_cli.errors import CheckpointError

FORMAT = 1
_PACKAGES = ("puma-cli", "torch", "transformers", "safetensors", "accelerate", "peft")


@dataclass(frozen=True)
class Parent:
    """One thing a result was made from.

    Args:
        role: what it was used as: `model`, `student`, `teacher`, `data`, `profile`, `scores`.
        name: how the user named it: a path, a hub id or `puma-mini`.
        fingerprint: its hash, whose prefix says what kind of hash it is.
    """

    role: str
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Provenance:
    """The content of `puma.json`.

    Args:
        command: the public function that wrote the folder, such as `prune`.
        settings: its resolved settings as plain JSON.
        kept_layers: the parent's decoder layers that are left, ascending, or None.
        created: time of writing, ISO 8601 in UTC.
        results: a few numbers worth knowing without opening other files.
        stage: of several trainings in a row, the name of the one that these settings are of.
        earlier_stages: what the `puma.json` of each earlier one says, with its name, in order.
    """

    command: str
    settings: dict[str, Any]
    parents: tuple[Parent, ...] = ()
    kept_layers: list[int] | None = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    results: dict[str, Any] = field(default_factory=dict)
    stage: str | None = None
    earlier_stages: list[dict[str, Any]] = field(default_factory=list)


def describe(
    command: str,
    settings: Any,
    parents: Sequence[Parent] = (),
    *,
    kept_layers: Sequence[int] | None = None,
    seed: int | None = None,
    results: Mapping[str, Any] | None = None,
) -> Provenance:
    """Return the provenance of a run that just happened, with versions and time filled in.

    Args:
        settings: a settings dataclass or a mapping; paths stay as the user gave them.
        seed: the run's seed; read from `settings.seed` if not given.
    """
    plain = to_plain(settings)
    if seed is None and isinstance(plain, dict):
        seed = plain.get("seed")
    return Provenance(
        command=command,
        settings=plain,
        parents=tuple(parents),
        kept_layers=None if kept_layers is None else [int(layer) for layer in kept_layers],
        seed=seed,
        versions=installed_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        results=to_plain(dict(results or {})),
    )


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write `provenance` to the folder's `puma.json`."""
    content = to_plain(provenance)
    if provenance.stage is None:
        del content["stage"], content["earlier_stages"]
    write_json(folder / PROVENANCE, {"format": FORMAT, **content})


def read_provenance(folder: str | Path) -> Provenance | None:
    """Return what the folder's `puma.json` says, or None where there is none.

    Raises:
        CheckpointError: the file is broken or of a later format.
    """
    path = Path(folder) / PROVENANCE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise CheckpointError(
                f"`{path}` is of format {content['format']}; this version reads {FORMAT}.",
                hint="Update puma.",
            )
        known = {f.name for f in dataclasses.fields(Provenance)}
        values = {name: value for name, value in content.items() if name in known}
        values["parents"] = tuple(Parent(**parent) for parent in content.get("parents", ()))
        found = Provenance(**values)
        for name in ("settings", "versions", "results"):
            if not isinstance(getattr(found, name), dict):
                raise ValueError(f"its {name} are no JSON object")
        return found
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"`{path}` cannot be read.",
            cause=f"{type(error).__name__}: {error}",
            hint="Make the folder again, or remove that file to lose only its history.",
        ) from error


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def to_plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: dataclasses as objects, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(to_plain(item) for item in value)
    if isinstance(value, Path):
        return value.as_posix()
    return value
