"""Scoring a model by M-BEIR's protocol: `puma eval`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.output_folder import check_free, new_folder
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import EvaluateSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.evaluation.answers import check_answers, check_instructions
from puma_cli.evaluation.encode import Encoder, encode_groups
from puma_cli.evaluation.metrics import ndcg
from puma_cli.evaluation.mmeb.evaluate import evaluate_mmeb
from puma_cli.evaluation.mmeb.means_file import write_means
from puma_cli.evaluation.opening import ScoredData, open_scored_data
from puma_cli.evaluation.results import LOCAL, Scores, TaskScores, check_pools
from puma_cli.evaluation.score_folder import RUN_DEPTH, write_run, write_scores
from puma_cli.evaluation.search import rank_relevant, search
from puma_cli.evaluation.tasks import Pool, Task, make_pool, read_tasks
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.opening import load
from puma_cli.progress import SILENT, Reporter

# Above this share of queries, ties say more about the model or the pool than about rounding.
_MANY_TIES = 0.01

KeepRun = Callable[[TaskScores, Sequence[Sequence[str]], Sequence[Sequence[float]]], None]


def evaluate(settings: EvaluateSettings, reporter: Reporter = SILENT) -> Scores:
    """Score a model on a data set and write its score folder.

    Embeddings and scores are computed anew each time: nothing is cached that could be stale.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: a setting has an illegal value.
        DataError: the data set is missing or broken.
        NumericError: an embedding is not finite.
        OutputError: the output folder is taken, holds an input, or cannot be written.
    """
    check_settings(settings)
    check_free(settings.output_dir, settings.overwrite)
    data = open_scored_data(settings, reporter)
    model = resolve(settings.model, reporter)
    with new_folder(settings.output_dir, settings.overwrite, (model, data.root)) as folder:
        parents = (
            Parent("model", settings.model, identify(model, settings.full_hash)),
            Parent("data", str(settings.data), identify(data.source, settings.full_hash)),
        )
        embedder = load(model, settings.device, settings.dtype)
        with data.images_named():
            scores = score_data(
                embedder, data, settings, lambda *run: write_run(folder, *run), reporter
            )
        write_scores(folder, scores)
        results: dict[str, Any] = {"partial": scores.partial, "means": scores.means}
        if data.mmeb is not None:
            results |= write_means(folder, scores)
        write_provenance(folder, describe("evaluate", settings, parents, results=results))
    return scores


def score_data(
    embedder: Encoder,
    data: ScoredData,
    settings: EvaluateSettings,
    keep_run: KeepRun | None = None,
    reporter: Reporter = SILENT,
) -> Scores:
    """Score an open model on open data as the settings say, without writing anything.

    Args:
        keep_run: see `evaluate_embedder`; MMEB has no runs.

    Raises:
        DataError: the data are broken.
        NumericError: an embedding is not finite.
    """
    if data.mmeb is not None:
        return evaluate_mmeb(
            embedder,
            data.mmeb,
            tasks=settings.tasks,
            limit=settings.limit,
            batch_size=settings.batch_size,
            model=settings.model,
            reporter=reporter,
        )
    assert data.retrieval is not None
    found = evaluate_embedder(
        embedder,
        data.retrieval,
        split=settings.split,
        tasks=settings.tasks,
        pools=[pool for pool in settings.pools if pool in data.pools] or data.pools,
        limit=settings.limit,
        instruction=settings.instruction,
        k=settings.k,
        unanswerable=settings.unanswerable,
        seed=settings.seed,
        batch_size=settings.batch_size,
        model=settings.model,
        keep_run=keep_run,
        reporter=reporter,
    )
    return replace(found, protocol=data.protocol, skipped=data.skipped)


def evaluate_embedder(
    embedder: Encoder,
    data: RetrievalData | Path,
    *,
    split: str = "test",
    tasks: str = "*",
    pools: Sequence[str] = (LOCAL,),
    limit: int | None = None,
    instruction: str = "first",
    k: int = 5,
    unanswerable: str = "zero",
    seed: int = 0,
    batch_size: int = 128,
    model: str = "",
    keep_run: KeepRun | None = None,
    reporter: Reporter = SILENT,
) -> Scores:
    """Score an open model without writing anything; a model in training mode stays in it.

    Every distinct candidate is embedded once, whatever the number of tasks and pools it is in.

    Args:
        tasks: glob over task names.
        pools: `local` and/or `union`.
        limit: at most this many queries of each task (>= 1); pools are always whole.
        instruction: `first` or `seeded` (by `seed` and qid).
        k: the K of data sets that M-BEIR does not give one (>= 1).
        unanswerable: what becomes of queries without an answer in a pool: `error` or `zero`.
        model: the model's name in the scores.
        keep_run: called for each row with the ids and cosines of its queries' top candidates.

    Raises:
        ConfigError: an argument has an illegal value.
        DataError: the data set is broken, a pool is empty or an image is missing.
        NumericError: an embedding is not finite.
    """
    check_pools(tuple(pools))
    folder = MbeirFolder(data) if isinstance(data, str | Path) else data
    asked = read_tasks(folder, split, tasks, limit, k)
    by_row = _pools(folder, split, asked, pools)
    distinct = list({id(pool): pool for _, pool in by_row}.values())
    asks = [task.inputs(folder.instructions, instruction, seed) for task in asked]
    check_answers(folder, split, by_row, unanswerable)
    if bare := check_instructions(folder, asked, asks):
        # A model trained with instructions scores worse without, and nothing else would show why.
        reporter.note(f"The data set has no instruction for queries of {', '.join(bare)}.")
    with evaluation_mode(embedder.model):
        candidates, places = encode_groups(
            embedder,
            [pool.inputs() for pool in distinct],
            batch_size=batch_size,
            reporter=reporter,
            label="candidates",
        )
        queries, wheres = encode_groups(
            embedder,
            asks,
            batch_size=batch_size,
            reporter=reporter,
            label="queries",
        )
        place_of = {id(pool): place for pool, place in zip(distinct, places, strict=True)}
        where_of = {id(task): where for task, where in zip(asked, wheres, strict=True)}
        rows = []
        for task, pool in reporter.track(by_row, "search", total=len(by_row)):
            vectors = queries[where_of[id(task)]]
            pool_vectors = candidates[place_of[id(pool)]]
            row = _score(task, pool, vectors, pool_vectors, embedder.device)
            if keep_run is not None:
                values, found = search(vectors, pool_vectors, RUN_DEPTH, device=embedder.device)
                dids = [[pool.candidates[i].did for i in line] for line in found.tolist()]
                keep_run(row, dids, values.tolist())
            _warn(row, reporter)
            rows.append(row)
    return Scores(
        model=model or str(getattr(embedder, "folder", None) or "model"),
        data=str(folder.root),
        split=split,
        tasks=tasks,
        instruction=instruction,
        seed=seed,
        limit=limit,
        rows=tuple(rows),
    )


def _pools(
    folder: RetrievalData, split: str, tasks: Sequence[Task], pools: Sequence[str]
) -> list[tuple[Task, Pool]]:
    """Pair each task with each of its pools; the union pool is one object for all tasks."""
    pairs = []
    for name in pools:
        if name == LOCAL:
            pairs += [
                (task, make_pool(name, folder.local_pool(task.name, split), folder.root))
                for task in tasks
            ]
        else:
            union = make_pool(name, folder.union_pool(split), folder.root)
            pairs += [(task, union) for task in tasks]
    return pairs


def _score(
    task: Task, pool: Pool, queries: Tensor, candidates: Tensor, device: torch.device | str
) -> TaskScores:
    inside = pool.places_of(task.relevant)
    judged = np.array([len(dids) for dids in task.relevant], dtype=np.int64)
    found = np.array([len(row) for row in inside], dtype=np.int64)
    ranks = rank_relevant(queries, candidates, inside, device=device)
    return TaskScores(
        task=task.name.name,
        dataset=task.name.dataset,
        task_id=task.name.task_id,
        pool=pool.name,
        k=task.k,
        candidates=len(pool.candidates),
        available=task.available,
        missing=int((judged - found).sum()),
        unanswerable=int((found == 0).sum()),
        query_hash=task.digest,
        pool_hash=pool.digest,
        qids=tuple(query.qid for query in task.queries),
        ranks=ranks.first,
        ties=ranks.ties,
        positives=judged,
        ndcg=ndcg(ranks.positions, judged, 10),
    )


def _warn(row: TaskScores, reporter: Reporter) -> None:
    where = f"{row.task} ({row.pool} pool)"
    if row.unanswerable:
        reporter.note(
            f"{where}: {row.unanswerable} of {row.queries} queries have no positive in the pool "
            "and score 0."
        )
    if row.tied > _MANY_TIES * row.queries:
        reporter.note(
            f"{where}: in {row.tied} of {row.queries} queries a wrong candidate ties with the "
            "right one and counts as ahead of it: a collapsed model, or doubles in the pool."
        )
