"""A small data set of texts alone, in the M-BEIR layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

_COLOURS = ("red", "blue", "green", "black", "white", "grey", "pink", "brown")
_THINGS = ("square", "circle", "star", "ring", "cross", "moon", "arrow", "heart")


def text_data(root: Path) -> Path:
    """Write 64 training, 16 validation and 16 test queries, each with one answer."""
    pairs = [(colour, thing) for colour in _COLOURS for thing in _THINGS]
    documents = [
        {
            "did": f"10:{number}", "txt": f"A {thing} that is {colour} all over.",
            "img_path": None, "modality": "text", "src_content": None,
        }
        for number, (colour, thing) in enumerate(pairs, 1)
    ]  # fmt: skip
    queries = [
        {
            "qid": f"10:{number}", "query_txt": f"{colour} {thing}", "query_img_path": None,
            "query_modality": "text", "query_src_content": None,
            "pos_cand_list": [f"10:{number}"], "neg_cand_list": [], "task_id": 1,
        }
        for number, (colour, thing) in enumerate(pairs, 1)
    ]  # fmt: skip
    _write(root / "query/train/mbeir_words_train.jsonl", queries)
    for split, part in (("val", queries[:16]), ("test", queries[16:32])):
        _write(root / f"query/{split}/mbeir_words_task1_{split}.jsonl", part)
        lines = "".join(f"{row['qid']} 0 {row['qid']} 1 1\n" for row in part)
        path = root / f"qrels/{split}/mbeir_words_task1_{split}_qrels.txt"
        path.parent.mkdir(parents=True)
        path.write_text(lines)
        _write(root / f"cand_pool/global/mbeir_union_{split}_cand_pool.jsonl", documents)
    _write(root / "cand_pool/global/mbeir_union_train_cand_pool.jsonl", documents)
    _write(root / "cand_pool/local/mbeir_words_task1_cand_pool.jsonl", documents)
    table = (
        "query_modality\tcand_modality\tdataset_name\tdataset_id\tprompt_1\tprompt_2\tprompt_3"
        "\tprompt_4\ntext\ttext\twords\t10\tFind it.\tWhich one?\tName it.\tSay more.\n"
    )
    (root / "instructions").mkdir()
    (root / "instructions" / "query_instructions.tsv").write_text(table)
    return root


def _write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
