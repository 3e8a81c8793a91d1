"""An approximate index by faiss: inverted lists of bytes, whose best are scored exactly."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puma_cli.checkpoint.output_folder import explained_writes, write_json
from puma_cli.embedding.shards import ShardRecord
from puma_cli.errors import ConfigError
from puma_cli.evaluation.scanning import pair_scores
from puma_cli.evaluation.search import search
from puma_cli.progress import SILENT, Reporter, by_rows
from puma_cli.searching.recall import DEPTH, recall, sample_places, sets_of
from puma_cli.searching.stored_vectors import StoredVectors

FOLDER, FILE, ABOUT = "faiss", "vectors.faiss", "faiss.json"
# What faiss asks for, to train on, of each list.
_PER_LIST = 40
# The share of the lists that is looked through, and fewest of them.
_PROBED, _FEWEST = 16, 8
# Results that are scored exactly for each that is returned.
_SPARE = 4
_BLOCK = 65_536


@dataclass(frozen=True)
class About:
    """What an approximate index is.

    Args:
        kind: as faiss's factory names it.
        lists: inverted lists.
        probed: lists that are looked through for a query.
        rows: vectors in it.
        made_from: hash of the shards that it was made from.
        recall: share of the 10 exact nearest of `asked` of its own vectors that it finds.
        asked: how many that was measured on.
        bytes: size of its file.
    """

    kind: str
    lists: int
    probed: int
    rows: int
    made_from: str
    recall: float
    asked: int
    bytes: int


class FaissIndex:
    """Searches faiss's index, then scores what it finds by the vectors themselves."""

    def __init__(self, index: Any, vectors: StoredVectors, about: About) -> None:
        self._index, self._vectors, self.about = index, vectors, about

    @property
    def words(self) -> str:
        """What it is and how good, in a sentence."""
        return (
            f"Approximate, by faiss ({self.about.kind}, {self.about.probed} of "
            f"{self.about.lists} lists): it finds {100 * self.about.recall:.1f}% of the "
            f"{DEPTH} nearest of {self.about.asked} of its own vectors."
        )

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return scores (Q, k) and places (Q, k) of what is found; a place of -1 is none."""
        k = min(k, len(self._vectors))
        more = min(len(self._vectors), max(_SPARE * k, DEPTH))
        _, raw = self._index.search(queries.float().contiguous().numpy(), more)
        places = torch.from_numpy(raw).sort(dim=1).values
        rows = torch.arange(len(queries))[:, None].expand_as(places)
        there = places >= 0
        scores = torch.full(places.shape, -math.inf)
        scores[there] = pair_scores(queries, self._vectors, rows[there], places[there])
        # Stable, so that equal scores go by place.
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
        return scores.gather(1, order), places.gather(1, order)


def open_faiss_index(
    folder: Path,
    vectors: StoredVectors,
    shards: Sequence[ShardRecord],
    reporter: Reporter = SILENT,
) -> FaissIndex:
    """Open the approximate index of some vectors, which is made if there is none of them yet.

    Raises:
        ConfigError: faiss is not installed.
        OutputError: it cannot be written.
    """
    faiss = _import()
    place = folder / FOLDER
    mark = _mark(shards)
    about = _read(place)
    if about is not None and about.made_from == mark:
        try:
            index = faiss.read_index(str(place / FILE), faiss.IO_FLAG_MMAP)
        except RuntimeError:
            reporter.note(f"`{place}` is damaged, and is made again.")
        else:
            _probe(faiss, index, about.probed)
            return FaissIndex(index, vectors, about)
    return _make(faiss, place, vectors, mark, reporter)


def _make(
    faiss: Any, place: Path, vectors: StoredVectors, mark: str, reporter: Reporter
) -> FaissIndex:
    count = len(vectors)
    lists = max(1, min(int(4 * math.sqrt(count)), count // _PER_LIST))
    kind = f"IVF{lists},SQ8"
    index = faiss.index_factory(vectors.dimension, kind, faiss.METRIC_INNER_PRODUCT)
    # As many as faiss would draw of more.
    sample = sample_places(count, 256 * lists)
    index.train(_numbers(vectors.take(sample)))
    starts = range(0, count, _BLOCK)
    for start in by_rows(
        reporter, starts, "make faiss's index", count, lambda at: min(_BLOCK, count - at)
    ):
        index.add(_numbers(vectors.rows(start, start + _BLOCK)))
    probed = min(lists, max(_FEWEST, lists // _PROBED))
    _probe(faiss, index, probed)
    asked = sample_places(count)
    about = About(kind, lists, probed, count, mark, 0.0, len(asked), 0)
    found = FaissIndex(index, vectors, about)
    queries = vectors.take(asked).float()
    share = recall(
        sets_of(found.search(queries, DEPTH)[1]), sets_of(search(queries, vectors, DEPTH)[1])
    )
    with explained_writes(place):
        place.mkdir(exist_ok=True)
        (place / ABOUT).unlink(missing_ok=True)
        draft = place / f".{FILE}.partial-{os.getpid()}"
        try:
            faiss.write_index(index, str(draft))
            size = draft.stat().st_size
            draft.replace(place / FILE)
        finally:
            draft.unlink(missing_ok=True)
        found.about = About(kind, lists, probed, count, mark, round(share, 4), len(asked), size)
        write_json(place / ABOUT, asdict(found.about))
    return found


def _read(place: Path) -> About | None:
    """Return what is said of the index that is there, or None if it is not there whole."""
    try:
        about = About(**json.loads((place / ABOUT).read_text(encoding="utf-8")))
        return about if (place / FILE).stat().st_size == about.bytes else None
    except (OSError, ValueError, TypeError):
        return None


def _probe(faiss: Any, index: Any, count: int) -> None:
    faiss.extract_index_ivf(index).nprobe = count


def _mark(shards: Sequence[ShardRecord]) -> str:
    known = [[asdict(file) for file in record.files] for record in shards]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _numbers(vectors: Tensor) -> np.ndarray:
    found: np.ndarray = vectors.float().contiguous().numpy()
    return found


def _import() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            "Approximate search of files needs the package faiss.",
            hint="pip install 'puma-cli[faiss]', or search exactly, without --approximate.",
        ) from error
    return faiss
