"""Which kind of training data a path holds, and that all kinds answer alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.config.training_settings import BatchSettings, DistillSettings
from puma_cli.data.examples import Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.training_data import open_training_data
from puma_cli.errors import ConfigError, DataError
from tests.data.pairs.writing import mmeb, texts, write_table
from tests.evaluation.small import Notes


def asked(data: Path, **changes: object) -> DistillSettings:
    return replace(DistillSettings("student", data, data / "out"), **changes)  # type: ignore[arg-type]


def test_the_m_beir_layout_is_told_from_tables(tiny_scenes: Path, tmp_path: Path) -> None:
    scenes = open_training_data(asked(tiny_scenes, tasks="*_task0"))
    folder = MbeirFolder(tiny_scenes)
    assert list(scenes.queries) == folder.train_queries("*_task0")
    assert list(scenes.pool) == folder.union_pool("train")
    assert scenes.validation is not None and scenes.validation.root == tiny_scenes
    table = open_training_data(asked(write_table(tmp_path / "pairs.csv", texts(30))))
    assert len(table.queries) == 27 and table.validation is not None
    assert len(open_training_data(asked(mmeb(tmp_path / "mmeb"))).queries) == 22


def test_data_sets_are_chosen_by_their_name_too(tiny_scenes: Path) -> None:
    everything = open_training_data(asked(tiny_scenes))
    assert open_training_data(asked(tiny_scenes, tasks="scenes")).queries == everything.queries


def test_hard_negatives_that_go_unused_are_mentioned(tmp_path: Path) -> None:
    path, notes = write_table(tmp_path / "pairs.csv", texts(3)), Notes()
    open_training_data(asked(path), notes)
    assert "batch.negatives" in notes.notes[-1]
    notes.notes.clear()
    open_training_data(asked(path, batch=BatchSettings(negatives=1)), notes)
    assert not any("batch.negatives" in note for note in notes.notes)


def test_known_answers_of_a_query_are_no_negatives_in_a_batch(tmp_path: Path) -> None:
    """Two rows ask `a`: each one's positive is the other's answer too, and no hard negative."""
    rows = [
        {"query": "a", "pos": "x", "neg": "y"},
        {"query": "a", "pos": "y", "neg": "z"},
        {"query": "b", "pos": "z", "neg": "x"},
    ]
    data = open_training_data(asked(write_table(tmp_path / "pairs.jsonl", rows)))
    examples = Examples(data.queries, data.pool, data.instructions, "first", seed=0, negatives=1)
    batch = examples.batch([0, 1, 2], epoch=0)
    assert [entry.text for entry in batch.candidates] == ["x", "y", "z"]
    assert batch.labels.target.tolist() == [0, 1, 2]
    assert batch.labels.excluded.tolist() == [
        [False, True, False],
        [True, False, False],
        [False, False, False],
    ]


def test_what_is_no_training_data_is_refused(tiny_scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data at"):
        open_training_data(asked(tmp_path / "nowhere.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no training data"):
        open_training_data(asked(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=r"pairs\.query_text is set, but"):
        open_training_data(asked(tiny_scenes, pairs=PairsSettings(query_text="a")))
