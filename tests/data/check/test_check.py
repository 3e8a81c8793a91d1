"""Checking data sets: each fault is named with its file and line, and whole ones have none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from puma_cli.data.check.check import check_data
from puma_cli.data.check.hashes import Column, hash_of, is_in
from puma_cli.data.mbeir import MbeirFolder, TaskName
from puma_cli.errors import ConfigError, DataError
from tests.data.mmeb.stand_in import row, stand_in, write_table

QUERIES = "query/test/mbeir_scenes_task0_test.jsonl"
POOL = "cand_pool/local/mbeir_scenes_task0_cand_pool.jsonl"
QRELS = "qrels/test/mbeir_scenes_task0_test_qrels.txt"
TABLE = "instructions/query_instructions.tsv"


@pytest.fixture
def folder(tiny_scenes: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set that a test may break."""
    copy = tmp_path / "scenes"
    shutil.copytree(tiny_scenes, copy)
    return copy


def at_line(number: int, change: Callable[[str], str | None]) -> Callable[[Path], None]:
    """Return what changes a line of a file, or takes it out."""

    def edit(path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        changed = change(lines[number - 1])
        lines[number - 1 : number] = [] if changed is None else [changed]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    return edit


def value(key: str, new: object) -> Callable[[str], str]:
    def change(line: str) -> str:
        return json.dumps({**json.loads(line), key: new})

    return change


def other_did(line: str) -> str:
    return line.replace(" 0 11:", " 0 99:")


def again(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("look", ["headers", "decoded", "not"])
def test_a_whole_data_set_has_no_fault_and_true_counts(tiny_scenes: Path, look: str) -> None:
    report = check_data(tiny_scenes, look=look)
    assert (report.total, report.layout, report.faults) == (0, "mbeir", ())
    data = MbeirFolder(tiny_scenes)
    for split in ("val", "test"):
        for task in data.tasks(split):
            found = next(t for t in report.tasks if (t.split, t.task) == (split, task.name))
            queries, pool = data.queries(split, task), data.local_pool(task, split)
            qrels = data.qrel_file(split, task).read_text().splitlines()
            assert found[2:5] == (len(queries), len(pool), len(qrels))
            images = {q.image for q in queries} | {c.image for c in pool}
            images -= {None}
            assert found.images == len(images)
    assert report.images == sum(1 for _ in tiny_scenes.rglob("*.png"))
    lines = {each.file: each.rows for each in report.files}
    assert lines[QUERIES] == len((tiny_scenes / QUERIES).read_text().splitlines())
    assert set(lines) == {
        path.relative_to(tiny_scenes).as_posix()
        for path in tiny_scenes.rglob("*")
        if path.suffix in (".jsonl", ".txt", ".tsv")
    }


@pytest.mark.parametrize(
    ("file", "edit", "kind", "where"),
    [
        (QUERIES, at_line(2, lambda line: line[:-9]), "broken line", f"{QUERIES}, line 2"),
        (QUERIES, at_line(2, value("task_id", 3)), "broken line", f"{QUERIES}, line 2"),
        (QUERIES, at_line(3, value("qid", "a b")), "broken line", f"{QUERIES}, line 3"),
        (QUERIES, again, "repeated id", f"{QUERIES}, line 7"),
        (QUERIES, at_line(1, value("qid", "11:7777")), "unanswerable query", f"{QUERIES}, line 1"),
        (QUERIES, at_line(1, value("qid", "11:7777")), "unknown query", f"{QRELS}, line 1"),
        (
            QUERIES,
            at_line(4, value("pos_cand_list", ["11:999999"])),
            "unknown candidate",
            f"{QUERIES}, line 4",
        ),
        (POOL, again, "repeated id", POOL),
        (POOL, at_line(5, value("img_path", "mbeir_images/no.png")), "missing image", POOL),
        (POOL, at_line(5, value("img_path", "mbeir_images/no.png")), "two contents", POOL),
        (POOL, at_line(5, value("img_path", "../x.png")), "broken line", f"{POOL}, line 5"),
        (POOL, at_line(5, value("did", "11:999999")), "not in union pool", f"{POOL}, line 5"),
        (QRELS, at_line(1, lambda line: line + " 1"), "broken line", f"{QRELS}, line 1"),
        (QRELS, again, "repeated qrel", QRELS),
        (
            QRELS,
            at_line(1, lambda line: line.replace(" 0 11:", " 0 99:")),
            "unknown candidate",
            QRELS,
        ),
        (QRELS, Path.unlink, "missing file", QRELS),
        (POOL, Path.unlink, "missing file", POOL),
        (QRELS, lambda path: path.write_text(""), "empty file", QRELS),
        (TABLE, at_line(3, lambda line: line[:9]), "instructions", TABLE),
        (TABLE, at_line(2, lambda line: None), "no instruction", QUERIES),
    ],
)
def test_a_fault_is_named(
    folder: Path, file: str, edit: Callable[[Path], None], kind: str, where: str
) -> None:
    edit(folder / file)
    report = check_data(folder)
    assert kind in report.kinds
    assert any(fault.kind == kind and where in fault.where for fault in report.faults)


def test_images_are_opened_and_decoded_where_asked(folder: Path) -> None:
    images = sorted((folder / "mbeir_images").rglob("*.png"))
    images[0].write_bytes(b"")
    images[1].unlink()
    whole = images[2].read_bytes()
    images[2].write_bytes(whole[: len(whole) - 60])
    Image.new("RGB", (900, 4)).save(images[3])
    headers = check_data(folder)
    assert headers.kinds == {"broken image": 2, "missing image": 1}
    decoded = check_data(folder, look="decoded")
    assert decoded.kinds == {"broken image": 3, "missing image": 1}
    assert all("line" in fault.where for fault in decoded.faults)
    assert check_data(folder, look="not").total == 0


def test_all_faults_count_and_the_first_are_kept(folder: Path) -> None:
    for image in (folder / "mbeir_images").rglob("*.png"):
        image.unlink()
    report = check_data(folder, limit=5)
    assert len(report.faults) == 5
    assert report.total == report.kinds["missing image"] == report.images
    assert report.to_json()["faults"] == report.total
    with pytest.raises(ConfigError):
        check_data(folder, look="closely")
    with pytest.raises(DataError, match="does not exist"):
        check_data(folder / "nowhere")


def test_mmeb_and_pairs_are_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUMA_CACHE", str(tmp_path / "cache"))
    root = stand_in(tmp_path / "MMEB-eval")
    report = check_data(root, look="decoded")
    assert (report.total, report.layout, report.images) == (0, "mmeb", 18)
    assert [(t.task, t.queries, t.candidates) for t in report.tasks] == [
        ("ImageNet-1K", 6, 16),
        ("MSCOCO_t2i", 5, 8),
        ("RefCOCO", 4, 8),
    ]
    write_table(root, "CIRR", [row("", "", ["a", "b"]), row("x", "gone.png", ["a", "b"])])
    report = check_data(root)
    assert report.kinds == {"broken row": 1, "missing image": 1}
    assert [fault.where for fault in report.faults] == [
        f"CIRR/test-00000-of-00001.parquet, row {number}" for number in (1, 2)
    ]
    table = tmp_path / "shop.jsonl"
    lines = [
        '{"query": "a", "positive": "b"}',
        '{"query": "a"}',
        "{",
        '{"query": 3, "positive": ""}',
    ]
    table.write_text("\n".join(lines) + "\n")
    report = check_data(table)
    assert report.layout == "pairs"
    assert [fault.where for fault in report.faults] == [
        f"shop.jsonl, line {number}" for number in (2, 3, 4)
    ]


def test_repeated_lines_and_membership_are_those_of_sets() -> None:
    texts = [str(n % 7) for n in range(20)]
    column = Column()
    for line, text in enumerate(texts, start=1):
        column.add(text, line)
    assert column.repeated() == {line: (line - 1) % 7 + 1 for line in range(8, 21)}
    known = np.sort(np.array([hash_of(text) for text in ("1", "5")], dtype=np.uint64))
    assert is_in(column.hashes, known).tolist() == [text in ("1", "5") for text in texts]
    assert not is_in(column.hashes, known[:0]).any()
    assert TaskName("scenes", 0).name in POOL
