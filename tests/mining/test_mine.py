"""`mine` on a tiny model and data set: what it writes, and what a training makes of it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from puma_cli.checkpoint import kinds
from puma_cli.checkpoint.fingerprint import fingerprint, full_hash
from puma_cli.checkpoint.inspection import inspect_folder
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.config.settings import MineSettings
from puma_cli.config.training_settings import (
    BatchSettings,
    DistillSettings,
    LossSettings,
    TrainSettings,
)
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.distill import distill
from puma_cli.errors import ConfigError, DataError, OutputError
from puma_cli.mining.mine import mine
from puma_cli.mining.summary import ALL_ABOVE, MineResult
from puma_cli.models.opening import load
from tests.profiling.test_processes import launch

TRAIN = "query/train/mbeir_scenes_train.jsonl"


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / TRAIN).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_only_the_negatives_of_training_queries_differ(
    mined: MineResult, tiny_scenes: Path
) -> None:
    before, after = lines(tiny_scenes), lines(mined.folder)
    assert len(before) == len(after) == 480
    for old, new in zip(before, after, strict=True):
        assert list(old) == list(new)
        assert {**old, "neg_cand_list": None} == {**new, "neg_cand_list": None}
    assert before != after
    theirs = {path.relative_to(tiny_scenes) for path in tiny_scenes.rglob("*") if path.is_file()}
    ours = {
        Path(place, name).relative_to(mined.folder)
        for place, _, names in os.walk(mined.folder, followlinks=True)
        for name in names
    }
    assert ours == theirs
    for name in theirs - {Path(TRAIN), Path("README.md"), Path("puma.json")}:
        assert (mined.folder / name).samefile(tiny_scenes / name)


def test_negatives_are_those_of_the_full_matrix(
    mined: MineResult, tiny_scenes: Path, tiny_checkpoint: Path
) -> None:
    """The rules once more, naively: no known answer, of the kind, at most .95 of the lowest."""
    data = MbeirFolder(mined.folder)
    queries, pool = data.train_queries(), data.union_pool("train")
    embedder = load(tiny_checkpoint, "cpu")
    asks = [query.to_input(data.instructions.pick(query)) for query in queries]
    scores = embedder.encode(asks) @ embedder.encode([entry.to_input() for entry in pool]).T
    place = {candidate.did: number for number, candidate in enumerate(pool)}
    for query, row in zip(queries, scores, strict=True):
        lowest = min(float(row[place[did]]) for did in query.positives)
        modality = pool[place[query.positives[0]]].modality
        assert len(query.negatives) <= 3
        assert not set(query.negatives) & set(query.positives)
        assert {pool[place[did]].modality for did in query.negatives} <= {modality}
        found = [float(row[place[did]]) for did in query.negatives]
        bound = lowest - 0.05 * abs(lowest)
        assert found == sorted(found, reverse=True)
        assert not found or found[0] <= bound + 1e-5
        passed_over = [
            float(row[number])
            for number, candidate in enumerate(pool)
            if candidate.modality == modality
            and candidate.did not in {*query.positives, *query.negatives}
        ]
        last = found[-1] if len(found) == 3 else -1.0
        assert not [score for score in passed_over if last + 1e-5 < score < bound - 1e-5]


def test_the_summary_says_what_the_lines_hold(mined: MineResult) -> None:
    rows = lines(mined.folder)
    assert mined.total.queries == 480 == sum(task.queries for task in mined.tasks)
    assert mined.total.negatives == sum(len(row["neg_cand_list"]) for row in rows)
    assert [task.task for task in mined.tasks] == [
        f"scenes_task{n}" for n in (0, 1, 2, 3, 4, 6, 7, 8)
    ]
    for task in mined.tasks:
        assert task.negative is not None and task.positive is not None
        assert 0 <= task.above <= 1
    without = sum(not row["neg_cand_list"] for row in rows)
    # A random model ranks everything above the positives of some.
    assert mined.total.without == {ALL_ABOVE: without} and without > 0
    assert mined.reasons() == [
        f"{without} of 480 queries have no negatives: all candidates score above the margin."
    ]
    assert [row[0] for row in mined.rows()] == [*(task.task for task in mined.tasks), "all"]
    page = (mined.folder / "README.md").read_text(encoding="utf-8")
    assert "| scenes_task8 | 60 |" in page
    assert "# scenes: a drawn benchmark" in page


def test_the_folder_says_where_it_is_from(
    mined: MineResult, tiny_scenes: Path, tiny_checkpoint: Path
) -> None:
    report = inspect_folder(mined.folder)
    assert report.kind == kinds.MINED
    assert [(parent.role, parent.state) for parent in report.parents] == [
        ("model", "unchanged"),
        ("data", "unchanged"),
    ]
    facts = dict(report.facts)
    assert facts["negatives"] == str(mined.total.negatives)
    assert "scenes_task0" in facts["test"]
    assert f"--teacher {tiny_checkpoint} --data {mined.folder}" in report.next_command
    provenance = read_provenance(mined.folder)
    assert provenance is not None and provenance.settings["relative_margin"] == 0.95
    assert len(provenance.results["tasks"]) == 8
    assert fingerprint(mined.folder) != fingerprint(tiny_scenes)


def test_a_full_hash_sees_the_linked_images(
    mined: MineResult, tiny_scenes: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(mined.folder, tmp_path / "copied"))
    assert full_hash(copied) == full_hash(mined.folder)
    picture = next(path for path in copied.rglob("*.png"))
    picture.write_bytes(picture.read_bytes()[:-1] + b"!")
    assert full_hash(copied) != full_hash(mined.folder)


def test_a_training_uses_them(mined: MineResult, tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = distill(
        DistillSettings(
            student=str(tiny_checkpoint),
            data=mined.folder,
            output_dir=tmp_path / "student",
            loss=LossSettings(),
            batch=BatchSettings(size=8, negatives=2),
            train=TrainSettings(steps=2, validate_every=2, validation_limit=1),
            device="cpu",
        )
    )
    assert result.finished
    log = [json.loads(line) for line in (result.folder / "log.jsonl").read_text().splitlines()]
    counts = [line["hard_negatives"] for line in log if "hard_negatives" in line]
    # Up to two for each of eight queries; some are another query's positive or negative.
    assert counts and all(4 < count <= 16 for count in counts)


def test_tasks_that_are_not_chosen_keep_their_lines(
    settings: MineSettings, tiny_scenes: Path
) -> None:
    result = mine(replace(settings, tasks="scenes_task1,*_task3"))
    assert [task.task for task in result.tasks] == ["scenes_task1", "scenes_task3"]
    texts = [(folder / TRAIN).read_text() for folder in (tiny_scenes, result.folder)]
    for one, other in zip(*(text.splitlines() for text in texts), strict=True):
        assert one == other or json.loads(one)["task_id"] in (1, 3)
    # The negatives that one mining found, the next one keeps.
    again = replace(
        settings,
        data=result.folder,
        tasks="*_task3",
        keep_existing=True,
        relative_margin=None,
        output_dir=settings.output_dir.with_name("twice"),
    )
    twice = mine(again)
    for old, new in zip(lines(result.folder), lines(twice.folder), strict=True):
        kept, after = old["neg_cand_list"], new["neg_cand_list"]
        assert after[: len(kept)] == kept and len(set(after)) == len(after)
        assert len(after) == len(kept) + (3 if old["task_id"] == 3 else 0)
    picture = next(iter(MbeirFolder(twice.folder).union_pool("train"))).image
    assert picture is not None and picture.resolve().is_relative_to(tiny_scenes)


def test_an_image_and_a_line_of_another_make_are_kept(
    settings: MineSettings, tiny_scenes: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(tiny_scenes, tmp_path / "source"))
    rows = lines(source)[:16]
    rows[0] |= {"neg_cand_list": None, "extra": {"key": [1.5, "é\u2028"]}}
    rows[1]["neg_cand_list"] = [{"did": "11:1", "score": 3}]
    del rows[2]["neg_cand_list"]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (source / TRAIN).write_text(text, encoding="utf-8")
    (source / "licence.txt").write_text("free")
    before = full_hash(source)
    result = mine(replace(settings, data=source, keep_existing=True))
    assert full_hash(source) == before
    kept = [line for line in (result.folder / TRAIN).read_text().splitlines() if line]
    after = [json.loads(line) for line in kept]
    assert after[0]["extra"] == rows[0]["extra"] and len(after[0]["neg_cand_list"]) == 3
    assert after[1]["neg_cand_list"][0] == {"did": "11:1", "score": 3}
    assert len(after[2]["neg_cand_list"]) == 3
    assert (result.folder / "licence.txt").read_text() == "free"


def test_where_links_are_refused_files_are_copied(
    settings: MineSettings, tiny_scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    result = mine(replace(settings, tasks="*_task3"))
    assert not [path for path in result.folder.rglob("*") if path.is_symlink()]
    pool = MbeirFolder(result.folder).union_pool("train")
    assert pool and all(entry.image is None or entry.image.is_file() for entry in pool)


def test_a_result_is_replaced_only_if_asked(settings: MineSettings, tiny_scenes: Path) -> None:
    before = full_hash(tiny_scenes)
    mine(replace(settings, tasks="*_task3"))
    with pytest.raises(OutputError, match="not empty"):
        mine(settings)
    again = mine(replace(settings, tasks="*_task1", overwrite=True))
    assert [task.task for task in again.tasks] == ["scenes_task1"]
    assert full_hash(tiny_scenes) == before


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"negatives": 0}, ConfigError, "negatives = 0"),
        ({"relative_margin": 1.5}, ConfigError, "relative_margin = 1.5"),
        ({"relative_margin": 0.0}, ConfigError, "relative_margin = 0"),
        ({"pool": "local"}, ConfigError, "pool = local"),
        ({"max_score": 2.0}, ConfigError, "max_score = 2"),
        ({"min_score": 0.5, "max_score": 0.4}, ConfigError, "min_score = 0.5 is above"),
        ({"sample": True, "depth": 9, "skip": 7}, ConfigError, "--depth 10 or more"),
        ({"tasks": "*_task5"}, DataError, "No task matches"),
        ({"data": Path("nowhere")}, DataError, "nowhere"),
    ],
)
def test_what_cannot_be_is_said(
    changes: dict[str, Any], error: type[Exception], words: str, settings: MineSettings
) -> None:
    with pytest.raises(error, match=words):
        mine(replace(settings, **changes))
    assert list(settings.output_dir.parent.iterdir()) == []


def test_a_result_does_not_go_into_its_source(settings: MineSettings, tiny_scenes: Path) -> None:
    with pytest.raises(OutputError, match="lies in the data set"):
        mine(replace(settings, output_dir=tiny_scenes / "mined"))
    assert not (tiny_scenes / "mined").exists()


def test_data_without_training_queries_or_a_pool(
    settings: MineSettings, tiny_scenes: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(tiny_scenes, tmp_path / "source"))
    pool = source / "cand_pool/global/mbeir_union_train_cand_pool.jsonl"
    pool.write_text("")
    with pytest.raises(DataError, match="The training pool is empty"):
        mine(replace(settings, data=source))
    pool.unlink()
    with pytest.raises(DataError, match=pool.name):
        mine(replace(settings, data=source))
    (source / TRAIN).unlink()
    with pytest.raises(DataError, match="no training queries"):
        mine(replace(settings, data=source))
    assert not settings.output_dir.exists()


def test_two_processes_find_what_one_does(
    mined: MineResult, tiny_checkpoint: Path, tiny_scenes: Path, tmp_path: Path
) -> None:
    words = ["mine", str(tiny_checkpoint), "--data", str(tiny_scenes), "-o", "two"]
    done = launch(2, [*words, "--negatives", "3", "--device", "cpu"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two" / TRAIN).read_bytes() == (mined.folder / TRAIN).read_bytes()
    assert done.stdout.count("scenes_task0") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["two"]
