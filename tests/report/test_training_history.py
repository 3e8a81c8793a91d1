"""What a log says, however it came about."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from puma_cli.checkpoint.provenance import write_provenance
from puma_cli.distillation.log import Row
from puma_cli.errors import DataError
from puma_cli.report.training_history import Series, TrainingHistory, read_history
from tests.report.trainings import SETTINGS, provenance, training


def write_log(made: TrainingHistory, folder: Path) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made.rows))


def test_of_two_lines_on_a_step_the_later_counts() -> None:
    rows = [{"step": s, "loss": loss} for s, loss in ((1, 5.0), (2, 4.0), (1, 3.0))]
    assert TrainingHistory("x", rows).series("loss") == Series((1, 2), (3.0, 4.0))


def test_what_is_no_number_is_a_gap() -> None:
    rows: list[Row] = [{"step": 1, "loss": math.nan}, {"step": 2, "loss": 1.0}, {"step": 3}]
    assert TrainingHistory("x", rows).series("loss") == Series((2,), (1.0,))


def test_the_best_step_is_the_first_of_the_highest() -> None:
    rows = [{"step": s, "validation_hit@1": hit} for s, hit in ((1, 0.2), (2, 0.7), (3, 0.7))]
    assert TrainingHistory("x", rows).best == (2, 0.7)
    assert TrainingHistory("x", []).best is None


@given(values=st.lists(st.floats(-5, 5), max_size=60), most=st.integers(1, 70))
def test_thinned_series_keep_their_mean_and_their_ends(values: list[float], most: int) -> None:
    made = Series(tuple(range(len(values))), tuple(values))
    steps, thinned = made.thinned(most)
    assert len(steps) == len(thinned) <= most
    assert steps == sorted(steps)
    if len(values) <= most:
        assert thinned == values
    elif len(values) % len(thinned) == 0:
        assert np.mean(thinned) == pytest.approx(np.mean(values), abs=1e-9)


def test_names_with_a_prefix_are_found_by_the_rest() -> None:
    made = training(tasks=2)
    assert list(made.named("validation_hit@1")) == ["scenes_task0", "scenes_task1"]
    assert made.named("validation_hit@1")["scenes_task1"].steps == (50, 100, 150, 200)
    assert made.teacher == pytest.approx(0.875)
    assert made.best is not None and made.best[0] == 150


def test_weights_have_the_names_of_the_log() -> None:
    assert training().weights() == {"mac": 0.5, "cosine": 5.0, "similarity": 1.0}
    assert TrainingHistory("x", []).weights() == {"info_nce": 1.0}


def test_a_folder_is_read_under_way_and_finished(tmp_path: Path) -> None:
    made = training(finished=False)
    write_log(made, tmp_path)
    assert read_history(tmp_path).settings == {}
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "settings.json").write_text(json.dumps(SETTINGS))
    under_way = read_history(tmp_path)
    assert (under_way.settings, under_way.finished) == (SETTINGS, False)
    (tmp_path / "training" / "settings.json").unlink()
    write_provenance(tmp_path, provenance())
    done = read_history(tmp_path)
    assert done.finished and done.setting("loss.cosine") == 5.0 and list(done.rows) == made.rows
    assert ("loss.cosine", "5", "0") in done.changes()


def test_a_folder_without_a_log_is_no_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no log of a training"):
        read_history(tmp_path)
    write_log(replace(training(), rows=[{"step": 0, "teacher_hit@1": 0.5}]), tmp_path)
    with pytest.raises(DataError):
        read_history(tmp_path)
