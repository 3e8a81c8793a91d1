"""Broken lines of the M-BEIR layout."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.evaluation.mutations.base import MBEIR
from tests.evaluation.mutations.classes import edit_line, edit_row, line_files, mutation

_ROWS = ("query", "cand_pool/local")
_BIG = 10_000_000


def _some(root: Path, random: Random, *kinds: str) -> Path:
    return random.choice(line_files(root, *(kinds or _ROWS)))


@mutation("truncated lines")
def truncated(root: Path, random: Random) -> Path:
    path = _some(root, random)
    if random.random() < 0.3:
        whole = path.read_bytes()
        # Not between two lines: what is left would be a whole file of fewer.
        places = [at for at in range(1, len(whole)) if b"\n" not in whole[at - 1 : at + 1]]
        path.write_bytes(whole[: random.choice(places)])
    else:
        edit_line(path, random, lambda line: line[: random.randrange(1, len(line))])
    return root / MBEIR


@mutation("wrong types")
def wrong_types(root: Path, random: Random) -> Path:
    values: list[Any] = [3, -1, 2.5, True, [], {}, ["x"], {"did": "x"}, [[1]], 10**30, [None]]

    def change(row: dict[str, Any]) -> None:
        keys = [key for key in row if "src_content" not in key]
        row[random.choice(keys)] = random.choice(values)

    whole: list[Any] = ["[]", "3", "null", '"x"', "true", "[{}]", "NaN", "Infinity"]
    if random.random() < 0.2:
        edit_line(_some(root, random), random, lambda line: random.choice(whole))
    else:
        edit_row(_some(root, random), random, change)
    return root / MBEIR


@mutation("missing and misspelt keys")
def missing_keys(root: Path, random: Random) -> Path:
    def change(row: dict[str, Any]) -> None:
        keys = [key for key in row if "src_content" not in key and "cand_list" not in key]
        key = random.choice(keys)
        value = row.pop(key)
        if random.random() < 0.5:
            row[random.choice((key.upper(), key + "s", key[:-1], " " + key))] = value

    edit_row(_some(root, random), random, change)
    return root / MBEIR


@mutation("empty strings")
def empty_strings(root: Path, random: Random) -> Path:
    def change(row: dict[str, Any]) -> None:
        keys = [key for key, value in row.items() if isinstance(value, str)]
        row[random.choice(keys)] = random.choice(("", " ", "\t\n", '""', "''", "\r", "\u3000"))

    edit_row(_some(root, random), random, change)
    return root / MBEIR


@mutation("lone surrogates and other bytes")
def surrogates(root: Path, random: Random) -> Path:
    path = _some(root, random, *_ROWS, "qrels", "instructions")
    if random.random() < 0.5 and path.suffix == ".jsonl":

        def change(row: dict[str, Any]) -> None:
            keys = [key for key, value in row.items() if isinstance(value, str)]
            key = random.choice(keys)
            place = random.randrange(len(row[key]) + 1)
            bad = chr(random.randrange(0xD800, 0xE000))
            row[key] = row[key][:place] + bad + row[key][place:]

        edit_row(path, random, change)
    else:
        content = bytearray(path.read_bytes())
        place = random.randrange(len(content))
        content[place : place + 1] = random.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xfe"))
        path.write_bytes(bytes(content))
    return root / MBEIR


@mutation("paths that leave the root")
def leaving_paths(root: Path, random: Random) -> Path:
    (root / "outside.png").write_bytes(next((root / MBEIR).rglob("*.png")).read_bytes())
    name = random.choice(
        (
            "../outside.png",
            "mbeir_images/../../outside.png",
            str(root / "outside.png"),
            "/etc/passwd",
            "mbeir_images/base/\0.png",
            "..",
            "mbeir_images/base/" + "x" * 5000,
            "mbeir_images/../mbeir_images/base/000.png",
        )
    )

    def change(row: dict[str, Any]) -> None:
        row["query_img_path" if "qid" in row else "img_path"] = name

    paths = [path for path in line_files(root, *_ROWS) if "task1" not in path.name]
    edit_row(random.choice(paths), random, change)
    return root / MBEIR


@mutation("duplicate ids")
def duplicate_ids(root: Path, random: Random) -> Path:
    path = _some(root, random)
    lines = path.read_text().splitlines()
    first, second = random.sample(range(len(lines)), 2)
    if random.random() < 0.5:
        rows = [json.loads(line) for line in lines]
        key = "qid" if "qid" in rows[0] else "did"
        rows[second][key] = rows[first][key]
        lines[second] = json.dumps(rows[second])
    else:
        lines.insert(random.randrange(len(lines) + 1), lines[first])
    path.write_text("".join(line + "\n" for line in lines))
    return root / MBEIR


@mutation("positives missing from the pool")
def missing_positives(root: Path, random: Random) -> Path:
    way = random.randrange(3)
    path = _some(root, random, "qrels")
    task = path.name.split("_")[2]
    lines = path.read_text().splitlines()
    chosen = random.randrange(len(lines))
    qid, _, did, _, number = lines[chosen].split()
    if way == 0:
        pool = root / MBEIR / "cand_pool/local" / f"mbeir_base_{task}_cand_pool.jsonl"
        kept = [line for line in pool.read_text().splitlines() if f'"{did}"' not in line]
        pool.write_text("".join(line + "\n" for line in kept))
    elif way == 1:
        lines[chosen] = f"{qid} 0 {random.choice(('7:x', '8:' + did, did + '0'))} 1 {number}"
        path.write_text("".join(line + "\n" for line in lines))
    else:
        del lines[chosen]
        path.write_text("".join(line + "\n" for line in lines))
    return root / MBEIR


@mutation("qrels")
def qrels(root: Path, random: Random) -> Path:
    def change(line: str) -> str:
        qid, zero, did, relevance, task = line.split()
        return random.choice(
            (
                f"{qid} {did} {relevance}",
                f"{qid} {zero} {did}",
                f"{qid} {zero} {did} one {task}",
                f"{qid} {zero} {did} 1.5 {task}",
                f"{qid} {zero} {did} 0 {task}",
                f"{qid} {zero} {did} -1 {task}",
                f"{qid} {zero} {did} {relevance} 3",
                f"{qid} {zero} {did} {relevance} {task} {task}",
                f"{qid}x {zero} {did} {relevance} {task}",
                f"{zero} {qid} {did} {relevance} {task}",
                f"{qid}\t{zero}\t{did}\t{relevance}\t{task}",
                f"{qid},{zero},{did},{relevance},{task}",
                line + "\n" + line,
                line + f"\n{qid} {zero} {did} 0 {task}",
                line[: random.randrange(1, len(line))],
                f"{qid} {zero} {did} {'1' * 400} {task}",
                f"{qid} {zero} {did} {relevance}",
                f"{qid} {zero} {did} ١ {task}",
                "{}",
            )
        )

    edit_line(_some(root, random, "qrels"), random, change)
    return root / MBEIR


@mutation("instructions")
def instructions(root: Path, random: Random) -> Path:
    def change(line: str) -> str:
        cells = line.split("\t")
        place = random.randrange(len(cells) - 2)
        way = random.randrange(7)
        if way == 0:
            cells[place] = ""
        elif way == 1:
            cells[place] += "x"
        elif way == 2:
            del cells[place]
        elif way == 3:
            cells.insert(place, "more")
        elif way == 4:
            return line.replace("\t", random.choice((",", " ", ";")))
        elif way == 5:
            return line + "\n" + line.replace("F", "f")
        else:
            cells[-2:] = ["", ""]
        return "\t".join(cells)

    path = root / MBEIR / "instructions/query_instructions.tsv"
    edit_line(path, random, change)
    return root / MBEIR


@mutation("lines of 10 MB")
def long_lines(root: Path, random: Random) -> Path:
    way = random.randrange(5)

    def change(line: str) -> str:
        if way == 0:
            return line[:-1] + ', "more": "' + "x" * _BIG + '"}'
        if way == 1:
            return " " * _BIG + line
        if way == 2:
            return line[:-1] + ', "more": "' + "x" * _BIG
        if way == 3:
            return line[:-1] + ', "more": ' + "[" * _BIG
        row = json.loads(line)
        key = "query_txt" if "query_txt" in row else "txt"
        if row[key] is not None:
            row[key] = "\r" * (_BIG // 2) + row[key]
        return json.dumps(row)

    edit_line(_some(root, random), random, change)
    return root / MBEIR


@mutation("harmless differences")
def harmless(root: Path, random: Random) -> Path:
    path = _some(root, random, *_ROWS, "qrels", "instructions")
    content = path.read_bytes()
    way = random.randrange(5)
    if way == 0:
        content = b"\xef\xbb\xbf" + content
    elif way == 1:
        content = content.replace(b"\n", b"\r\n")
    elif way == 2:
        content = content.replace(b"\n", b"\n\n")
    elif way == 3:
        content = content.rstrip(b"\n")
    else:
        (path.parent / random.choice((".DS_Store", "notes.md", "x.jsonl~"))).write_bytes(b"\xff")
    path.write_bytes(content)
    return root / MBEIR
