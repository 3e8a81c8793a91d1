"""What the cache holds, and taking it away."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from puma_cli.checkpoint.safetensors_header import read_header
from puma_cli.encoding.cache_folder import ABOUT, DRAFT, HASHES, SHARD, VECTORS
from puma_cli.errors import CheckpointError, ConfigError, OutputError

_SPAN = re.compile(r"(\d{1,9})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Store:
    """One model's vectors in the cache.

    Args:
        model: the model as it was named when they were made.
        kind: `unit` for normalised embeddings, `teacher` for a training's.
        dtype: number format that the model computed in.
        rows: vectors.
        dimension: length of each; 0 without any.
        bytes: size on disk.
        age: seconds since it was last used (>= 0).
    """

    folder: Path
    model: str
    kind: str
    dtype: str
    rows: int
    dimension: int
    bytes: int
    age: float


def list_stores(cache: Path) -> list[Store]:
    """Return the stores of a cache, the most recently used first."""
    places = sorted(cache.glob(f"{VECTORS}/*/{ABOUT}"))
    found = [_look_at(place.parent) for place in places if not place.parent.is_symlink()]
    return sorted(found, key=lambda store: store.age)


def choose(stores: list[Store], older_than: str | None = None, model: str = "*") -> list[Store]:
    """Return the stores that were not used for some time, of models whose name matches.

    Args:
        older_than: a span such as `30d`, `12h` or `2w`, or None for any age.
        model: glob over the names of models.

    Raises:
        ConfigError: the span cannot be read.
    """
    least = 0.0 if older_than is None else span(older_than)
    return [store for store in stores if store.age >= least and fnmatchcase(store.model, model)]


def span(text: str) -> float:
    """Return the seconds of a span such as `30d`.

    Raises:
        ConfigError: it is none.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigError(
            f"`{text}` is no span of time.", hint="Write a number and s, m, h, d or w, such as 30d."
        )
    return float(found[1]) * _SECONDS[found[2]]


def clear(stores: list[Store]) -> int:
    """Remove stores; return the bytes that were freed.

    Only files that puma writes there are removed, so that nothing else is lost by a slip.

    Raises:
        OutputError: a file cannot be removed.
    """
    for store in stores:
        try:
            # What it is comes last: a clearing that was interrupted can be done again.
            for pattern in (f"*{SHARD}", f"*{DRAFT}", ABOUT):
                for file in store.folder.glob(pattern):
                    file.unlink(missing_ok=True)
            with suppress(OSError):
                store.folder.rmdir()
        except OSError as error:
            raise OutputError(f"`{store.folder}` cannot be cleared.", cause=str(error)) from error
    return sum(store.bytes for store in stores)


def forget_hashes(cache: Path) -> None:
    """Remove what was noted about the content of files."""
    with suppress(OSError):
        (cache / HASHES).unlink()


def _look_at(folder: Path) -> Store:
    about: dict[str, object] = {}
    with suppress(OSError, ValueError):
        about = dict(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    rows = dimension = size = 0
    for file in folder.glob(f"*{SHARD}"):
        # Another process may clear at the same time; what is broken counts as nothing.
        with suppress(OSError, CheckpointError, KeyError, ValueError):
            shape = read_header(file).tensors["vectors"].shape
            size += file.stat().st_size
            rows, dimension = rows + shape[0], shape[1]
    with suppress(OSError):
        used = folder.stat().st_mtime
        return Store(
            folder=folder,
            model=str(about.get("model", "?")),
            kind=str(about.get("kind", "?")),
            dtype=str(about.get("dtype", "?")),
            rows=rows,
            dimension=dimension,
            bytes=size,
            age=max(0.0, time.time() - used),
        )
    return Store(folder, "?", "?", "?", 0, 0, 0, 0.0)
