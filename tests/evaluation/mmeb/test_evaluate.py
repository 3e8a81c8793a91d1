"""Scoring on a stand-in for MMEB, against a naive reference."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from puma_cli.data.mmeb.folder import MmebFolder
from puma_cli.evaluation.comparison import compare
from puma_cli.evaluation.mmeb.evaluate import evaluate_mmeb
from puma_cli.evaluation.mmeb.means_file import means_of
from puma_cli.evaluation.score_folder import read_scores, write_scores
from puma_cli.models.inputs import Input
from tests.data.mmeb.stand_in import MARK, stand_in
from tests.evaluation.hashed import Hashed, point
from tests.evaluation.small import Notes


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PUMA_CACHE", str(tmp_path / "cache"))
    return stand_in(tmp_path / "MMEB-eval")


def naive(root: Path, name: str, unpacked: Path) -> float:
    """Read the tables as the benchmark's authors do, and take numpy's argmax row by row."""

    def embedded(text: str, image: str) -> np.ndarray:
        plain = text.replace(MARK, "").strip()
        return point(Input(text=plain or None, image=unpacked / image if image else None))

    right = []
    for path in sorted((root / name).glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            query = embedded(row["qry_text"], row["qry_img_path"])
            pairs = zip(row["tgt_text"], row["tgt_img_path"], strict=True)
            scores = [float(np.dot(embedded(*pair), query)) for pair in pairs]
            right.append(np.argmax(scores) == 0)
    return float(np.mean(right))


def test_scores_are_those_of_a_naive_reading(data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(data / "images.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    scores = evaluate_mmeb(Hashed(), MmebFolder(data))
    assert [row.task for row in scores.rows] == ["ImageNet-1K", "MSCOCO_t2i", "RefCOCO"]
    for row in scores.rows:
        assert row.score("hit@1") == row.score("hit@k")
        assert row.score("hit@1") == pytest.approx(naive(data, row.task, tmp_path / "unpacked"))
    assert 0 < scores.mean("hit@1") < 1
    assert scores.protocol == "mmeb"
    assert [row.task_id for row in scores.rows] == [6, 2, 8]


def test_candidates_are_encoded_once_by_path_and_text(data: Path) -> None:
    embedder = Hashed()
    scores = evaluate_mmeb(embedder, MmebFolder(data))
    assert all(len(set(call)) == len(call) for call in embedder.calls)
    sizes = {row.task: row.candidates for row in scores.rows}
    # Of grounding, one picture under two texts is two candidates.
    assert sizes == {"ImageNet-1K": 16, "MSCOCO_t2i": 8, "RefCOCO": 8}
    assert not any("<|image" in (e.text or "") for call in embedder.calls for e in call)


def test_a_collapsed_model_has_all_and_is_warned_of(data: Path) -> None:
    notes = Notes()
    scores = evaluate_mmeb(Hashed(collapsed=True), MmebFolder(data), reporter=notes)
    assert scores.mean("hit@1") == 1
    assert all(row.tied == row.queries for row in scores.rows)
    assert sum("collapsed" in note for note in notes.notes) == 3
    notes = Notes()
    evaluate_mmeb(Hashed(), MmebFolder(data), reporter=notes)
    assert not notes.notes


def test_a_folder_of_images_gives_the_same_as_their_archive(data: Path, tmp_path: Path) -> None:
    zipped = evaluate_mmeb(Hashed(), MmebFolder(data))
    with zipfile.ZipFile(data / "images.zip") as archive:
        archive.extractall(data / "images")
    (data / "images.zip").unlink()
    shutil.rmtree(tmp_path / "cache")
    plain = evaluate_mmeb(Hashed(), MmebFolder(data))
    for one, other in zip(zipped.rows, plain.rows, strict=True):
        assert one.ranks.tolist() == other.ranks.tolist()
        assert (one.query_hash, one.pool_hash) == (other.query_hash, other.pool_hash)
    moved = tmp_path / "elsewhere"
    shutil.move(data / "images", moved)
    again = evaluate_mmeb(Hashed(), MmebFolder(data, moved), tasks="MSCOCO*")
    assert [row.task for row in again.rows] == ["MSCOCO_t2i"]
    assert again.rows[0].pool_hash == plain.rows[1].pool_hash


def test_another_archive_of_the_same_name_is_read_anew(data: Path) -> None:
    before = evaluate_mmeb(Hashed(), MmebFolder(data), tasks="ImageNet-1K")
    with zipfile.ZipFile(data / "images.zip") as archive:
        names = archive.namelist()
    with zipfile.ZipFile(data / "images.zip", "w") as archive:
        for place, name in enumerate(names):
            out = io.BytesIO()
            Image.new("RGB", (40, 30), (place, 200, 9)).save(out, "PNG")
            archive.writestr(name, out.getvalue())
    after = evaluate_mmeb(Hashed(), MmebFolder(data), tasks="ImageNet-1K")
    assert before.rows[0].ranks.tolist() != after.rows[0].ranks.tolist()


def test_a_limit_is_marked_and_scores_the_rest_alike(data: Path) -> None:
    whole = evaluate_mmeb(Hashed(), MmebFolder(data), tasks="ImageNet-1K").rows[0]
    part = evaluate_mmeb(Hashed(), MmebFolder(data), tasks="ImageNet-1K", limit=3)
    assert part.partial and part.rows[0].available == 6
    ranks = dict(zip(whole.qids, whole.ranks.tolist(), strict=True))
    row = part.rows[0]
    assert [ranks[qid] for qid in row.qids] == row.ranks.tolist()
    assert row.qids == ("ImageNet-1K:1", "ImageNet-1K:3", "ImageNet-1K:5")


def test_scores_are_written_and_compared_as_others_are(data: Path, tmp_path: Path) -> None:
    folders = []
    for name, embedder in (("a", Hashed()), ("b", Hashed(collapsed=True))):
        folder = tmp_path / name
        folder.mkdir()
        scores = evaluate_mmeb(embedder, MmebFolder(data), model=name)
        write_scores(folder, scores)
        read = read_scores(folder)
        assert read.means == scores.means and read.protocol == "mmeb"
        folders.append(folder)
    result = compare(folders, resamples=200)
    assert result.mean.cells[1].score == 1
    assert len(result.rows) == 3


def test_means_name_what_is_missing_and_what_was_not_run(data: Path) -> None:
    found = means_of(evaluate_mmeb(Hashed(), MmebFolder(data)))
    assert found["mmeb"]["all"]["sets"] == 3
    assert not found["mmeb"]["all"]["complete"]
    assert "WebQA" in found["mmeb"]["retrieval"]["missing"]
    assert [len(names) for names in found["not_run"].values()] == [18, 24]
    assert json.dumps(found)
