"""Broken tables: parquet files and rows of MMEB, and tables of pairs."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.evaluation.mutations.base import MMEB, PAIRS
from tests.evaluation.mutations.classes import edit_row, mutation


def _tables(root: Path) -> list[Path]:
    return sorted((root / MMEB).rglob("*.parquet"))


@mutation("parquet files")
def parquet_files(root: Path, random: Random) -> Path:
    path = random.choice(_tables(root))
    content = bytearray(path.read_bytes())
    way = random.randrange(4)
    if way == 0:
        del content[random.randrange(len(content)) :]
    elif way == 1:
        # The footer: what stands before it are pages, whose bytes have no checksum.
        size = int.from_bytes(content[-8:-4], "little")
        for _ in range(random.randrange(1, 6)):
            content[-random.randrange(1, size + 8)] ^= 1 << random.randrange(8)
    elif way == 2:
        content = bytearray(random.choice((b"", b"PAR1", b"PAR1PAR1", b"version https://git-lfs")))
    else:
        content += random.randbytes(random.randrange(1, 50))
    path.write_bytes(bytes(content))
    return root / MMEB


@mutation("rows and columns of MMEB")
def mmeb_rows(root: Path, random: Random) -> Path:
    path = random.choice(_tables(root))
    table = pq.read_table(path)
    rows = table.to_pylist()
    row = rows[random.randrange(len(rows))]
    way = random.randrange(9)
    if way == 0:
        table = table.drop_columns([random.choice(table.column_names)])
    elif way == 1:
        name = random.choice(table.column_names)
        values = pa.array([random.choice((1, 2.5, True))] * len(rows))
        table = table.set_column(table.column_names.index(name), name, values)
    else:
        if way == 2:
            row["qry_text"] = row["qry_img_path"] = ""
        elif way == 3:
            row["tgt_text"][0] = row["tgt_img_path"][0] = ""
        elif way == 4:
            row["tgt_text"] = row["tgt_text"][:1]
            row["tgt_img_path"] = row["tgt_img_path"][: random.randrange(2)]
        elif way == 5:
            row["qry_img_path"] = random.choice(("../x.png", "/etc/passwd", "gone.png"))
        elif way == 6:
            row["tgt_img_path"] = random.choice((None, [], row["tgt_img_path"][1:]))
            row["tgt_text"] = random.choice((None, [], row["tgt_text"]))
        elif way == 7:
            row["qry_text"] = "<|image_1|> look"
            row["qry_img_path"] = None
        else:
            row["tgt_img_path"][-1] = "../x.png"
        table = pa.Table.from_pylist(rows, table.schema)
    pq.write_table(table, path)
    return root / MMEB


@mutation("tables of pairs")
def pairs(root: Path, random: Random) -> Path:
    kind = random.choice(("jsonl", "csv", "parquet"))
    path = root / PAIRS / kind / f"table.{kind}"
    if kind == "jsonl":
        values: list[Any] = [3, {}, [[]], True, "", "\ud800", ["a", "b", 3]]

        def change(row: dict[str, Any]) -> None:
            name = random.choice(("query", "positive", "positive_image"))
            # Without its text a positive is a picture, which is another pair but a whole one.
            row[name] = random.choice([each for each in values if each or name == "query"])

        if random.random() < 0.6:
            edit_row(path, random, change)
            return path
    if kind == "csv" and random.random() < 0.6:
        lines = path.read_text().splitlines()
        place = random.randrange(len(lines))
        line = lines[place]
        # A comma within a text is a part of it.
        marks = [at for at in range(len(line)) if line[at] == '"' or line[at - 1 : at + 2] == '","']
        where = random.choice(marks)
        lines[place] = lines[place][:where] + lines[place][where + 1 :]
        path.write_text("".join(line + "\n" for line in lines))
        return path
    content = path.read_bytes()
    if kind != "parquet" and random.random() < 0.5:
        place = random.randrange(len(content))
        path.write_bytes(content[:place] + b"\xff" + content[place:])
        return path
    cut = random.randrange(1, len(content))
    if kind != "parquet":
        # Between two lines, or after the comma before a last cell that may be empty, what is left
        # would be a whole table.
        ends = range(1, len(content))
        cut = random.choice([at for at in ends if not {*content[at - 1 : at + 1]} & {*b"\n,"}])
    path.write_bytes(content[:cut])
    return path
