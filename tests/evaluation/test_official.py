"""Whole evaluations against the benchmark's own definitions, read back from the files written."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from puma_cli.errors import ConfigError
from puma_cli.evaluation.published import _tables
from puma_cli.evaluation.results import Scores
from puma_cli.evaluation.row import without_hubness
from puma_cli.evaluation.score_folder import results_table, write_run
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.evaluation.search import rank_relevant
from tests.evaluation.small import Circle, Entry, write_data

ROWS = _tables()[0]["tasks"]


def random_data(root: Path, seed: int) -> Path:
    """Two tasks with several positives a query, some of which no pool holds."""
    draw = random.Random(seed)
    # No two candidates are equally far from a query, or so nearly that it is a tie.
    degrees = draw.sample(range(1, 179), 120)
    tasks = {}
    for number, angles in ((1, degrees[:60]), (4, degrees[60:])):
        pool: list[Entry] = [(f"9:{number}{n}", f"{a}", None) for n, a in enumerate(angles)]
        asked = draw.sample(range(1, 179), 25)
        queries: list[Entry] = [
            (f"9:q{number}{n}", f"{a + 0.3}", None) for n, a in enumerate(asked)
        ]
        positives = {}
        for qid, _, _ in queries:
            dids = [did for did, _, _ in draw.sample(pool, draw.choice([1, 1, 2, 7]))]
            positives[qid] = dids + [f"9:gone{n}" for n in range(draw.choice([0, 0, 1]))]
        tasks[number] = (queries, positives, pool)
    return write_data(root, tasks)


def scored(data: Path, folder: Path) -> Scores:
    return evaluate_embedder(
        Circle(),
        data,
        pools=("local", "union"),
        keep_run=lambda row, dids, values: write_run(folder, row, dids, values),
    )


@pytest.mark.parametrize("seed", range(4))
def test_files_give_the_same_numbers_by_other_hands(tmp_path: Path, seed: int) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    data = random_data(tmp_path / "data", seed)
    scores = scored(data, tmp_path)
    table = [line.split("\t") for line in results_table(scores).splitlines()[1:]]
    for row in scores.rows:
        qrels: dict[str, dict[str, int]] = defaultdict(dict)
        for line in (data / f"qrels/test/mbeir_{row.task}_test_qrels.txt").read_text().splitlines():
            # Five columns, the last of which is the task.
            qid, _, did, relevant, task = line.split()
            assert int(task) == row.task_id
            qrels[qid][did] = int(relevant)
        run: dict[str, dict[str, float]] = defaultdict(dict)
        order: dict[str, list[str]] = defaultdict(list)
        for line in (tmp_path / f"runs/{row.pool}/{row.task}.txt").read_text().splitlines():
            qid, _, did, rank, score, _, _ = line.split()
            order[qid].append(did)
            assert len(order[qid]) == int(rank)
            run[qid][did] = float(score)
        # UniIR: any of the relevant among the first K.
        for k in (1, 5, 10):
            hits = [any(did in qrels[qid] for did in order[qid][:k]) for qid in row.qids]
            assert row.score(f"hit@{k}") == sum(hits) / len(hits)
            place = 6 if row.pool == "local" else 8
            (stated,) = [
                line[place] for line in table if (line[4], line[5]) == (f"Recall@{k}", row.task)
            ]
            assert float(stated) == pytest.approx(sum(hits) / len(hits), abs=1e-6)
        names = {"mrr@10": "RR@10", "ndcg@10": "nDCG@10", "hit@5": "Success@5"}
        measures = {name: ir_measures.parse_measure(text) for name, text in names.items()}
        found = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
        for name, measure in measures.items():
            assert row.score(name) == pytest.approx(found[measure], abs=1e-6), name


def test_all_sixteen_rows_are_scored_at_their_own_k(tmp_path: Path) -> None:
    pool: list[Entry] = [("9:1", "10", None), ("9:2", "30", None)]
    by_set: dict[str, list[int]] = defaultdict(list)
    for entry in ROWS:
        dataset, number = entry["task"].split("_task")
        by_set[dataset].append(int(number))
    for dataset, numbers in by_set.items():
        queries: list[Entry] = [(f"9:{dataset}", "11", None)]
        write_data(
            tmp_path,
            {n: (queries, {f"9:{dataset}": ["9:1"]}, pool) for n in numbers},
            dataset=dataset,
        )
    for path in tmp_path.rglob("mbeir_mscoco_*_cand_pool.jsonl"):
        # MSCOCO alone has a pool for each split.
        path.rename(path.with_name(path.name.replace("_cand_pool", "_test_cand_pool")))
    scores = evaluate_embedder(Circle(), tmp_path)
    assert {row.task: row.k for row in scores.rows} == {e["task"]: e["k"] for e in ROWS}
    assert scores.mean("hit@k") == 1


def test_seeded_instructions_are_recorded(tmp_path: Path) -> None:
    data = random_data(tmp_path, 0)
    scores = evaluate_embedder(Circle(), data, instruction="seeded", seed=7)
    assert (scores.instruction, scores.seed) == ("seeded", 7)


def test_the_hubness_penalty_is_that_of_all_queries_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (
        torch.nn.functional.normalize(torch.randn(n, 6, generator=generator), dim=1)
        for n in (30, 200)
    )
    whole = queries.double() @ candidates.double().T
    corrected = whole - 0.2 * whole.mean(dim=0, keepdim=True)
    ranks = rank_relevant(without_hubness(queries, 0.2), candidates, [[q] for q in range(30)])
    for q in range(30):
        assert ranks.first[q] == int((corrected[q] > corrected[q, q] + 1e-9).sum()) + 1
    assert without_hubness(queries, 0.0) is queries


def test_transductive_scores_say_so(tmp_path: Path) -> None:
    data = random_data(tmp_path, 1)
    plain = evaluate_embedder(Circle(), data)
    assert plain.remarks == ()
    found = evaluate_embedder(Circle(), data, hubness_penalty=0.5)
    assert "Transductive: 0.5" in found.remarks[0]
    assert found.rows[0].ranks.tolist() != plain.rows[0].ranks.tolist()


@pytest.mark.parametrize("by", ["torch", "faiss"])
def test_runs_are_the_same_by_either_search(tmp_path: Path, by: str) -> None:
    if by == "faiss":
        pytest.importorskip("faiss")
    data = random_data(tmp_path / "data", 2)
    runs: dict[str, list[list[str]]] = {}
    evaluate_embedder(
        Circle(),
        data,
        search_by=by,
        keep_run=lambda row, dids, values: runs.update({row.task: [list(d) for d in dids]}),
    )
    for task in runs:
        texts = (data / f"cand_pool/local/mbeir_{task}_cand_pool.jsonl").read_text().splitlines()
        assert all(len(line) == len(texts) for line in runs[task])
    scored(data, tmp_path)
    for task, found in runs.items():
        lines = (tmp_path / f"runs/local/{task}.txt").read_text().splitlines()
        assert [line.split()[2] for line in lines] == [did for dids in found for did in dids]


def test_an_unknown_search_is_refused() -> None:
    from puma_cli.config.legal import check_settings
    from puma_cli.config.settings import EvaluateSettings

    settings = EvaluateSettings(model="m", data=Path("d"), output_dir=Path("o"), search="annoy")
    with pytest.raises(ConfigError, match="annoy"):
        check_settings(settings)
