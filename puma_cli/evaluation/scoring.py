"""Scoring an open model on tasks and their pools: hits, ranks and runs, query by query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.encoding.vectors import Chosen
from puma_cli.evaluation.answers import check_answers, check_instructions
from puma_cli.evaluation.encode import Encoder, encode_groups
from puma_cli.evaluation.results import LOCAL, Scores, TaskScores, check_pools
from puma_cli.evaluation.row import score_row, without_hubness
from puma_cli.evaluation.score_folder import RUN_DEPTH
from puma_cli.evaluation.tasks import Pool, Task, make_pool, read_tasks
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.progress import SILENT, Reporter

# Above this share of queries, ties say more about the model or the pool than about rounding.
_MANY_TIES = 0.01

KeepRun = Callable[[TaskScores, Sequence[Sequence[str]], Sequence[Sequence[float]]], None]
Watch = Callable[[Task, Pool, TaskScores, Sequence[Input], Sequence[Sequence[str]]], None]


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
    query_embedder: Encoder | None = None,
    hubness_penalty: float = 0.0,
    search_by: str = "torch",
    keep_run: KeepRun | None = None,
    encode_only: bool = False,
    watch: Watch | None = None,
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
        query_embedder: what embeds the queries, if not `embedder`.
        hubness_penalty: share of a candidate's mean cosine over all queries of a task that is
            taken from its scores (>= 0); above 0 the result is transductive.
        search_by: `torch`, or `faiss` for the runs' top candidates.
        keep_run: called for each row with the ids and cosines of its queries' top candidates.
        watch: called beside `keep_run` for each row with the task, the pool, the inputs of its
            queries and the ids found.
        encode_only: stop before the search, for a process that shares in the encoding alone.

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
    asker = query_embedder or embedder
    with evaluation_mode(embedder.model), evaluation_mode(asker.model):
        candidates, places = encode_groups(
            embedder,
            [pool.inputs() for pool in distinct],
            batch_size=batch_size,
            reporter=reporter,
            label="candidates",
        )
        queries, wheres = encode_groups(
            asker,
            asks,
            batch_size=batch_size,
            reporter=reporter,
            label="queries",
        )
        place_of = {id(pool): place for pool, place in zip(distinct, places, strict=True)}
        where_of = {id(task): where for task, where in zip(asked, wheres, strict=True)}
        asked_of = {id(task): inputs for task, inputs in zip(asked, asks, strict=True)}
        rows = []
        by_row = [] if encode_only else by_row
        for task, pool in reporter.track(by_row, "search", total=len(by_row)):
            vectors = without_hubness(queries.take(where_of[id(task)]), hubness_penalty)
            row, best = score_row(
                task,
                pool,
                vectors,
                Chosen(candidates, place_of[id(pool)]),
                RUN_DEPTH if keep_run is not None else 0,
                search_by=search_by,
                device=embedder.device,
            )
            if keep_run is not None:
                values, found = best
                dids = [[pool.candidates[i].did for i in line] for line in found.tolist()]
                keep_run(row, dids, values.tolist())
                if watch is not None:
                    watch(task, pool, row, asked_of[id(task)], dids)
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
        hubness_penalty=hubness_penalty,
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
