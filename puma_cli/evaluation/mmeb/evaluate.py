"""Scoring a model by MMEB's protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from puma_cli.data.mmeb.folder import MmebFolder, MmebSet
from puma_cli.data.records import TASK_MODALITIES
from puma_cli.evaluation.encode import Encoder, encode_groups
from puma_cli.evaluation.metrics import ndcg
from puma_cli.evaluation.mmeb.own_candidates import rank_first
from puma_cli.evaluation.results import LOCAL, MMEB, Scores, TaskScores
from puma_cli.evaluation.tasks import evenly
from puma_cli.models.modes import evaluation_mode
from puma_cli.progress import SILENT, Reporter

# Above this share of rows, what MMEB's rule gives away is worth a warning.
_MANY_TIES = 0.01
_TASKS = {modalities: number for number, modalities in TASK_MODALITIES.items()}


def evaluate_mmeb(
    embedder: Encoder,
    folder: MmebFolder,
    *,
    tasks: str = "*",
    limit: int | None = None,
    batch_size: int = 128,
    model: str = "",
    query_embedder: Encoder | None = None,
    reporter: Reporter = SILENT,
) -> Scores:
    """Score an open model on data sets of MMEB without writing anything.

    A row of the result is a data set; its `hit@1` is MMEB's Precision@1, among each query's own
    candidates. Every distinct candidate of a data set is embedded once.

    Args:
        tasks: comma-separated globs over names of data sets.
        limit: at most this many queries of each (>= 1), spread evenly over its rows.
        model: the model's name in the scores.
        query_embedder: what embeds the queries, if not `embedder`.

    Raises:
        DataError: the data are broken, or an image is missing.
        NumericError: an embedding is not finite.
    """
    chosen = folder.select(tasks)
    rows = []
    with evaluation_mode(embedder.model):
        for name in chosen:
            part, available = _limited(folder.read(name), limit)
            row = _score(
                (query_embedder or embedder, embedder),
                part,
                available,
                folder,
                batch_size,
                reporter,
            )
            _warn(row, part, reporter)
            rows.append(row)
    return Scores(
        model=model or str(getattr(embedder, "folder", None) or "model"),
        data=str(folder.root),
        split="test",
        tasks=tasks,
        instruction="first",
        seed=0,
        limit=limit,
        rows=tuple(rows),
        protocol=MMEB,
        skipped=dict(folder.skipped),
    )


def _score(
    embedders: tuple[Encoder, Encoder],
    part: MmebSet,
    available: int,
    folder: MmebFolder,
    batch_size: int,
    reporter: Reporter,
) -> TaskScores:
    query_embedder, embedder = embedders
    vectors, places = encode_groups(
        embedder,
        [part.candidates],
        batch_size=batch_size,
        reporter=reporter,
        label=f"{part.name}: candidates",
    )
    asked, wheres = encode_groups(
        query_embedder,
        [part.queries],
        batch_size=batch_size,
        reporter=reporter,
        label=f"{part.name}: queries",
    )
    found = rank_first(_rows(asked, wheres[0]), _rows(vectors, places[0]), part.own)
    queries, candidates = (
        [(entry.text, folder.image_name(entry.image), entry.instruction) for entry in side]
        for side in (part.queries, part.candidates)
    )
    one = np.ones(len(part.queries), dtype=np.int64)
    sides = (part.queries[0].modality, part.candidates[part.own[0][0]].modality)
    return TaskScores(
        task=part.name,
        dataset=part.name,
        task_id=_TASKS[sides],
        pool=LOCAL,
        k=1,
        candidates=len(part.candidates),
        available=available,
        missing=0,
        unanswerable=0,
        query_hash=_digest(queries),
        pool_hash=_digest([*candidates, *(places.tolist() for places in part.own)]),
        qids=tuple(f"{part.name}:{number}" for number in part.numbers),
        ranks=found.ranks,
        ties=found.ties,
        positives=one,
        ndcg=ndcg(found.ranks[:, None], one, 10),
    )


def _rows(vectors: Any, places: Tensor) -> Tensor:
    """Return rows of embeddings, which may be a tensor or lie in a store, in fp32."""
    found: Tensor = vectors[places] if isinstance(vectors, Tensor) else vectors.take(places)
    return found.float()


def _limited(part: MmebSet, limit: int | None) -> tuple[MmebSet, int]:
    """Return a data set with some of its queries, and how many it has."""
    places = evenly(range(len(part.queries)), limit)
    if len(places) == len(part.queries):
        return part, len(places)
    own = [part.own[place] for place in places]
    used, numbers = np.unique(np.concatenate(own), return_inverse=True)
    ends = np.cumsum([len(each) for each in own])[:-1]
    limited = replace(
        part,
        queries=tuple(part.queries[place] for place in places),
        numbers=tuple(part.numbers[place] for place in places),
        candidates=tuple(part.candidates[place] for place in used),
        own=tuple(each.astype(np.int32) for each in np.split(numbers, ends)),
    )
    return limited, len(part.queries)


def _warn(row: TaskScores, part: MmebSet, reporter: Reporter) -> None:
    if row.tied > _MANY_TIES * row.queries:
        reporter.note(
            f"{row.task}: in {row.tied} of {row.queries} rows a wrong candidate scores as high as "
            "the right one. MMEB's rule counts these as right: a collapsed model would have 100%."
        )
    if part.empty:
        reporter.note(f"{row.task}: {part.empty} wrong candidates are empty texts.")


def _digest(rows: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    return f"sha256:{digest.hexdigest()}"
