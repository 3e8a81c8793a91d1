"""A small data set of every layout, whole; its copies are what gets broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.data.mmeb.stand_in import stand_in

TASKS = {0: ("text", "image"), 1: ("text", "text"), 8: ("image,text", "image,text")}
QUERIES, CANDIDATES = 5, 8
MBEIR, MMEB, PAIRS = "mbeir", "mmeb", "pairs"


def write_base(root: Path) -> Path:
    """Write the folders `mbeir`, `mmeb` and `pairs` below `root`."""
    _mbeir(root / MBEIR)
    stand_in(root / MMEB)
    _pairs(root / PAIRS)
    return root


def _mbeir(root: Path) -> None:
    union = []
    for task, (asked, found) in TASKS.items():
        name = f"mbeir_base_task{task}"
        pool = [_candidate(root, f"7:{task}{place:02d}", found) for place in range(CANDIDATES)]
        queries, qrels = [], []
        for place in range(QUERIES):
            qid, did = f"7:9{task}{place:02d}", f"7:{task}{place:02d}"
            queries.append(_query(root, qid, did, asked, task))
            qrels.append(f"{qid} 0 {did} 1 {task}")
        union += pool
        write_lines(root / "query/test" / f"{name}_test.jsonl", queries)
        write_lines(root / "cand_pool/local" / f"{name}_cand_pool.jsonl", pool)
        path = root / "qrels/test" / f"{name}_test_qrels.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in qrels))
    write_lines(root / "cand_pool/global/mbeir_union_test_cand_pool.jsonl", union)
    header = "query_modality\tcand_modality\tdataset_name\tdataset_id\tprompt_1\tprompt_2\n"
    lines = [f"{a}\t{f}\tbase\t7\tFind it, {a}.\tSeek it, {f}.\n" for a, f in TASKS.values()]
    (root / "instructions").mkdir()
    (root / "instructions/query_instructions.tsv").write_text(header + "".join(lines))


def _query(root: Path, qid: str, did: str, modality: str, task: int) -> dict[str, Any]:
    text, image = _shown(root, qid, modality)
    return {
        "qid": qid,
        "query_txt": text,
        "query_img_path": image,
        "query_modality": modality,
        "query_src_content": None,
        "pos_cand_list": [did],
        "neg_cand_list": [],
        "task_id": task,
    }


def _candidate(root: Path, did: str, modality: str) -> dict[str, Any]:
    text, image = _shown(root, did, modality)
    return {"did": did, "txt": text, "img_path": image, "modality": modality, "src_content": None}


def _shown(root: Path, name: str, modality: str) -> tuple[str | None, str | None]:
    number = name.partition(":")[2]
    image = None
    if "image" in modality:
        image = f"mbeir_images/base/{number}.png"
        path = root / image
        path.parent.mkdir(parents=True, exist_ok=True)
        # Each pixel black or white, so that any way to store it without loss keeps it.
        dots = np.random.default_rng(int(number)).integers(0, 2, (36, 44)).astype(np.uint8) * 255
        Image.fromarray(dots).convert("RGB").save(path)
    return (f"What is {number} like" if "text" in modality else None), image


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _pairs(root: Path) -> None:
    rows = [
        {
            "query": f"what is {place} like",
            "positive": f'it is like {place}, "mostly"',
            "positive_image": f"images/{place}.png",
            "instruction": "Find it.",
        }
        for place in range(6)
    ]
    for kind in ("jsonl", "csv", "parquet"):
        (root / kind / "images").mkdir(parents=True)
        for place in range(6):
            shade = 20 * place
            image = Image.new("RGB", (30, 30), (shade, shade, 255 - shade))
            image.save(root / kind / "images" / f"{place}.png")
    write_lines(root / "jsonl/table.jsonl", rows)
    cells = [[*rows[0]], *([row[name] for name in row] for row in rows)]
    text = "".join(",".join('"' + c.replace('"', '""') + '"' for c in row) + "\n" for row in cells)
    (root / "csv/table.csv").write_text(text)
    pq.write_table(pa.Table.from_pylist(rows), root / "parquet/table.parquet")
