"""A tiny data set whose scores can be looked at, and an open model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load

COLOURS = ["red", "green", "blue", "black", "white", "orange"]


@pytest.fixture(scope="session")
def embedder(tiny_checkpoint: Path) -> Embedder:
    """The tiny checkpoint, open."""
    return load(tiny_checkpoint, "cpu")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks in the M-BEIR layout: text to image, and text with image to text."""
    root = tmp_path_factory.mktemp("data")
    (root / "mbeir_images").mkdir()
    for name in COLOURS:
        Image.new("RGB", (28, 28), name).save(root / "mbeir_images" / f"{name}.png")
    pictures = [_candidate(n, None, name) for n, name in enumerate(COLOURS)]
    texts = [_candidate(10 + n, f"The colour {name}.", None) for n, name in enumerate(COLOURS)]
    first = [_query(n, f"Find {c}.", None, f"9:{n}", 0) for n, c in enumerate(COLOURS)]
    second = [_query(20 + n, "Its name?", c, f"9:{10 + n}", 6) for n, c in enumerate(COLOURS)]
    for task, queries, pool in ((0, first, pictures), (6, second, texts)):
        _lines(root / f"query/val/mbeir_tiny_task{task}_val.jsonl", queries)
        _lines(root / f"cand_pool/local/mbeir_tiny_task{task}_cand_pool.jsonl", pool)
        qrels = [f"{q['qid']} 0 {q['pos_cand_list'][0]} 1 {task}" for q in queries]
        path = root / f"qrels/val/mbeir_tiny_task{task}_val_qrels.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(qrels) + "\n")
    return root


def _candidate(number: int, text: str | None, colour: str | None) -> dict:
    return {
        "did": f"9:{number}",
        "txt": text,
        "img_path": f"mbeir_images/{colour}.png" if colour else None,
        "modality": "image" if colour else "text",
    }


def _query(number: int, text: str, colour: str | None, positive: str, task: int) -> dict:
    return {
        "qid": f"9:{number}",
        "query_txt": text,
        "query_img_path": f"mbeir_images/{colour}.png" if colour else None,
        "query_modality": "image,text" if colour else "text",
        "pos_cand_list": [positive],
        "neg_cand_list": [],
        "task_id": task,
    }


def _lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
