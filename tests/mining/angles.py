"""Inputs whose cosines can be worked out by hand: a text is an angle in degrees on a circle."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import SILENT, Reporter

Row = dict[str, Any]


class _Angles:
    """Stands in for an embedder; the name of an image is an angle too. Batches come backwards."""

    dimension = 2
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.model = nn.Identity()

    def batches(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "",
        processes: Processes = ALONE,
    ) -> Iterator[tuple[list[int], list[Input]]]:
        order = list(reversed(range(len(inputs))))
        for start in processes.share(range(0, len(order), batch_size)):
            places = order[start : start + batch_size]
            yield places, [inputs[place] for place in places]

    def embed(self, batch: Sequence[Input]) -> Tensor:
        angles = torch.tensor([math.radians(angle(entry)) for entry in batch])
        return 3 * torch.stack([angles.cos(), angles.sin()], dim=1)


def angles() -> Embedder:
    return cast(Embedder, _Angles())


def angle(entry: Input) -> float:
    named = (entry.text or "").split("/")[0].rstrip(".")
    return float(named or (entry.image.stem if entry.image else ""))


def query(number: int, at: float | str, positives: Sequence[str], **others: Any) -> Row:
    return {
        "qid": f"9:{number}",
        "query_txt": str(at),
        "query_img_path": None,
        "query_modality": "text",
        "query_src_content": None,
        "pos_cand_list": list(positives),
        "neg_cand_list": [],
        "task_id": 1,
        **others,
    }


def candidate(did: str, at: float | str, image: str | None = None) -> Row:
    kind = "image" if image else "text"
    text = None if image else str(at)
    return {"did": did, "txt": text, "img_path": image, "modality": kind, "src_content": None}


def write_data(root: Path, queries: Mapping[str, Sequence[Row]], pool: Sequence[Row]) -> Path:
    """Write a data set with the training queries of some data sets, by name, and a pool."""
    for name, rows in queries.items():
        _write(root / "query" / "train" / f"mbeir_{name}_train.jsonl", rows)
    _write(root / "cand_pool" / "global" / "mbeir_union_train_cand_pool.jsonl", pool)
    return root


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
