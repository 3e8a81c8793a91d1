"""A data set of a few lines and an embedder whose answers can be worked out by hand.

Texts are angles in degrees and so are the names of images; the embedding is the point at that angle
on the unit circle, so that nearer angles have higher cosines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puma_cli.models.inputs import Input
from puma_cli.progress import SILENT, Reporter

Entry = tuple[str, str | None, str | None]
"""Id, text, name of an image."""


class Notes(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Circle:
    """Stands in for an embedder; remembers what it encoded."""

    def __init__(self, collapsed: bool = False) -> None:
        self.model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
        self.device = torch.device("cpu")
        self.collapsed = collapsed
        self.calls: list[list[Input]] = []
        self.modes: list[bool] = []

    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> Tensor:
        self.calls.append(list(inputs))
        self.modes.append(any(module.training for module in self.model.modules()))
        angles = torch.tensor([0.0 if self.collapsed else angle(entry) for entry in inputs])
        return torch.stack([angles.cos(), angles.sin()], dim=1)


def angle(entry: Input) -> float:
    named = (entry.text or "").rstrip(".") or (entry.image.stem if entry.image else "")
    return math.radians(float(named))


def write_data(
    root: Path,
    tasks: Mapping[int, tuple[Sequence[Entry], Mapping[str, Sequence[str]], Sequence[Entry]]],
    *,
    dataset: str = "tiny",
    split: str = "test",
) -> Path:
    """Write a data set: for each task number its queries, positives by qid, and local pool."""
    union: dict[str, dict[str, Any]] = {}
    for number, (queries, positives, pool) in tasks.items():
        name = f"mbeir_{dataset}_task{number}"
        lines = [_query(entry, number, positives.get(entry[0], ())) for entry in queries]
        _write(root / "query" / split / f"{name}_{split}.jsonl", lines)
        candidates = [_candidate(entry) for entry in pool]
        union |= {line["did"]: line for line in candidates}
        _write(root / "cand_pool" / "local" / f"{name}_cand_pool.jsonl", candidates)
        qrels = [f"{qid} 0 {did} 1 {number}" for qid in positives for did in positives[qid]]
        path = root / "qrels" / split / f"{name}_{split}_qrels.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in qrels))
    _write(
        root / "cand_pool" / "global" / f"mbeir_union_{split}_cand_pool.jsonl", list(union.values())
    )
    return root


def small_data(root: Path) -> Path:
    """Two tasks with answers known by hand.

    In task 1's local pool q1 at 10 finds its positives at 11 (rank 1) and 40 (rank 4), q2 at 50 its
    positive at 40 (rank 1), q3 at 14 its positive at 20 (rank 3, after 11 and 13); q4's is missing.
    """
    pool: list[Entry] = [("9:1", "11", None), ("9:2", "13", None), ("9:3", "20", None)]
    pool += [("9:4", "40", None), ("9:5", "80", None)]
    queries: list[Entry] = [("9:q1", "10", None), ("9:q2", "50", None), ("9:q3", "14", None)]
    queries += [("9:q4", "80", None)]
    positives = {"9:q1": ["9:1", "9:4"], "9:q2": ["9:4"], "9:q3": ["9:3"], "9:q4": ["9:99"]}
    # The same picture under two ids, and a picture whose point lies beside task 1's best answers.
    pictures: list[Entry] = [("9:6", None, "12.png"), ("9:7", None, "60.png")]
    asked: list[Entry] = [("9:q5", "12", None), ("9:q6", "50", None)]
    return write_data(
        root,
        {
            1: (queries, positives, pool),
            0: (asked, {"9:q5": ["9:6"], "9:q6": ["9:7"]}, [*pictures, ("9:8", None, "12.png")]),
        },
    )


def _query(entry: Entry, task: int, positives: Sequence[str]) -> dict[str, Any]:
    qid, text, image = entry
    return {
        "qid": qid,
        "query_txt": text,
        "query_img_path": image and f"images/{image}",
        "query_modality": "image" if image else "text",
        "query_src_content": None,
        "pos_cand_list": list(positives),
        "neg_cand_list": [],
        "task_id": task,
    }


def _candidate(entry: Entry) -> dict[str, Any]:
    did, text, image = entry
    path = image and f"images/{image}"
    kind = "image" if image else "text"
    return {"did": did, "txt": text, "img_path": path, "modality": kind, "src_content": None}


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
