"""Puts scenes, candidates and queries into the files of the M-BEIR layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from puma_cli.data.records import TASK_MODALITIES
from puma_cli.data.scenes.compositions import split_of
from puma_cli.data.scenes.families import Plan
from puma_cli.data.scenes.instructions import instructions_table
from puma_cli.data.scenes.pictures import Pictures
from puma_cli.data.scenes.pools import DATASET, MODALITIES, Pool
from puma_cli.data.scenes.queries import TASKS, QueryWriter
from puma_cli.data.scenes.scene import Scene
from puma_cli.progress import Reporter

Rows = list[dict[str, Any]]


def write_data_set(root: Path, plan: Plan, seed: int, reporter: Reporter) -> dict[str, int]:
    """Write every file of the layout below the empty folder `root`; and count its rows."""
    scenes = [scene for family in plan.train for scene in family]
    train = Pool(scenes, 1, f"{seed}:train")
    held = Pool(plan.pool, train.next_did, f"{seed}:heldout")
    numbers = count(1)
    _write(root, "instructions/query_instructions.tsv", instructions_table())
    counts = _write_train(root, plan, train, Pictures(root, "train", seed), numbers, reporter)
    pictures = Pictures(root, "heldout", seed)
    _write_pools(root, held, pictures)
    writer = QueryWriter(held, pictures, numbers, f"{seed}:heldout")
    union: Rows = []
    for split, targets in plan.targets.items():
        rows = [
            row for target in targets for row in writer.rows(target.scene, source=target.source)
        ]
        _write_split(root, split, rows)
        counts[f"{split}_queries"] = len(rows)
        if split == "val":
            union = [row for task in TASKS for row in _of_task(rows, task)]
    _write(root, "query/union_val/mbeir_union_val.jsonl", _lines(union))
    counts["local_pool"] = len(held.scenes)
    counts["union_pool"] = len(held.scenes) * len(MODALITIES)
    return counts


def _write_train(
    root: Path, plan: Plan, pool: Pool, pictures: Pictures, numbers: count[int], reporter: Reporter
) -> dict[str, int]:
    tracked: Iterator[Scene] = reporter.track(pool.scenes, "scenes", len(pool.scenes))
    candidates = _lines(chain.from_iterable(pool.rows(tracked, pictures)))
    _write(root, "cand_pool/global/mbeir_union_train_cand_pool.jsonl", candidates)
    seed = f"{pictures.seed}:train"
    writer = QueryWriter(pool, pictures, numbers, seed, lambda scene: split_of(scene) == "train")
    rows = [row for family in plan.train for scene in family for row in writer.rows(scene, family)]
    lines = _lines(rows)
    _write(root, f"query/train/mbeir_{DATASET}_train.jsonl", lines)
    _write(root, "query/union_train/mbeir_union_up_train.jsonl", lines)
    _write(root, f"qrels/train/mbeir_{DATASET}_train_qrels.txt", _qrels(rows))
    return {"train_queries": len(rows), "train_pool": len(pool.scenes) * len(MODALITIES)}


def _write_pools(root: Path, pool: Pool, pictures: Pictures) -> None:
    triples = list(pool.rows(pool.scenes, pictures))
    by_modality = {
        modality: _lines(triple[place] for triple in triples)
        for place, modality in enumerate(MODALITIES)
    }
    for task in TASKS:
        name = f"cand_pool/local/mbeir_{DATASET}_task{task}_cand_pool.jsonl"
        _write(root, name, by_modality[TASK_MODALITIES[task][1]])
    for split in ("val", "test"):
        name = f"cand_pool/global/mbeir_union_{split}_cand_pool.jsonl"
        _write(root, name, "".join(by_modality.values()))


def _write_split(root: Path, split: str, rows: Rows) -> None:
    for task in TASKS:
        stem = f"mbeir_{DATASET}_task{task}_{split}"
        own = _of_task(rows, task)
        _write(root, f"query/{split}/{stem}.jsonl", _lines(own))
        _write(root, f"qrels/{split}/{stem}_qrels.txt", _qrels(own))


def _of_task(rows: Rows, task: int) -> Rows:
    return [row for row in rows if row["task_id"] == task]


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _qrels(rows: Rows) -> str:
    return "".join(
        f"{row['qid']} 0 {did} 1 {row['task_id']}\n" for row in rows for did in row["pos_cand_list"]
    )


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
