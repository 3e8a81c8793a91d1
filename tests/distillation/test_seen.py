"""What one sees of a training: its page, its card, its log, and the teacher beside the student."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from puma_cli.checkpoint.fingerprint import full_hash, identify
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings, TrainSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation import asked_once, live_page
from puma_cli.distillation.distill import distill
from puma_cli.distillation.live_page import LivePage
from puma_cli.distillation.log import Row, TrainingLog, read_log
from puma_cli.distillation.validation import HitRates, Validation, teacher_score
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.interruption import Stopped
from puma_cli.models.opening import load
from puma_cli.progress import SILENT, Reporter
from puma_cli.report.training_page import write_training_page
from tests.distillation.test_distill import SignalAt
from tests.report.html_check import read


class Notes(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def log_of(settings: DistillSettings) -> list[Row]:
    return read_log(settings.output_dir / "log.jsonl")


def test_a_training_leaves_a_page_and_cards(settings: DistillSettings, drawn: None) -> None:
    result = distill(settings)
    folder = settings.output_dir
    page = read((folder / "training.html").read_text())
    assert f"Best at step {result.best_step}" in page.text and "loss.similarity" in page.text
    card, last = ((folder / name / "README.md").read_text() for name in (".", "last"))
    assert (folder / "training.png").is_file() and (folder / "last" / "training.png").is_file()
    for text in (card, last):
        assert "![Loss and validation by step](training.png)" in text
        assert "| `loss.cosine` | 0.5 | 0 |" in text and "6 steps in" in text
        assert "0.1 x mse + 0.5 x cosine + 0.2 x similarity" in text
    assert f"the weights after {result.best_step}." in card and "the weights after 6." in last
    score = next(r for r in log_of(settings) if r.get("step") == 6 and "validation_hit@1" in r)
    assert f"| mean | {score['validation_hit@1']:.1%} |" in last
    # A page is about a folder: drawn anew, it leaves it what it was.
    before = identify(folder), full_hash(folder)
    (folder / "training.html").unlink()
    (folder / "tensorboard" / "more").mkdir(parents=True)
    (folder / "tensorboard" / "more" / "events").write_text("more")
    write_training_page(folder)
    assert (identify(folder), full_hash(folder)) == before


def test_a_stopped_training_has_a_page_too(settings: DistillSettings, drawn: None) -> None:
    distill(replace(settings, stop_after=1e-9))
    page = read((settings.output_dir / "training.html").read_text())
    assert "The training has come to step 1" in page.text


def test_a_page_that_cannot_be_drawn_stops_nothing(settings: DistillSettings, drawn: None) -> None:
    notes = Notes()
    LivePage(settings.output_dir, notes).draw()
    assert "could not be drawn" in notes.lines[0]


def test_a_page_is_drawn_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawings = []
    page = LivePage(tmp_path, SILENT)
    monkeypatch.setattr(LivePage, "draw", lambda self: drawings.append(1))
    page.draw_if_due()
    assert not drawings
    monkeypatch.setattr(live_page, "EVERY", 0.0)
    LivePage(tmp_path, SILENT).draw_if_due()
    assert drawings


def test_the_log_says_how_fast_it_goes(settings: DistillSettings) -> None:
    distill(settings)
    rows = [row for row in log_of(settings) if "loss" in row]
    for row in rows:
        assert row["tokens_per_second"] > row["pairs_per_second"] > 0
        assert row["memory_bytes"] > 50e6
    assert rows[0]["seconds_left"] > 0 == rows[-1]["seconds_left"]


def test_hit_rates_are_logged_by_task_beside_the_teachers(settings: DistillSettings) -> None:
    distill(settings)
    teacher, *rows = [row for row in log_of(settings) if "loss" not in row]
    scores = evaluate_embedder(
        load(settings.teacher, "cpu"), MbeirFolder(settings.data), split="val", limit=2
    )
    assert teacher["step"] == 0
    assert teacher["teacher_hit@1"] == scores.mean("hit@1")
    for score in scores.rows:
        assert teacher[f"teacher_hit@1 {score.task}"] == score.score("hit@1")
    for row in rows:
        tasks = [row[f"validation_hit@1 {score.task}"] for score in scores.rows]
        assert row["validation_hit@1"] == pytest.approx(sum(tasks) / len(tasks))


@pytest.mark.parametrize("kind", ["shared", "cached", "two"])
def test_every_kind_of_teacher_is_scored_at_its_full_depth(
    settings: DistillSettings, kind: str
) -> None:
    expected = Validation(MbeirFolder(settings.data), settings).score(load(settings.teacher, "cpu"))
    lora = LoraSettings(rank=4, alpha=64) if kind == "shared" else LoraSettings()
    train = replace(settings.train, steps=2, cache_teacher=kind == "cached")
    made = replace(settings, lora=lora, train=train)
    distill(made)
    assert log_of(made)[0] == {"step": 0, **expected.named("teacher_hit@1")}


@pytest.mark.parametrize("limit", [0, 2])
def test_a_teacher_is_not_scored_where_nobody_asks(settings: DistillSettings, limit: int) -> None:
    train = TrainSettings(steps=1, validation_limit=limit, validate_teacher=limit == 0)
    distill(replace(settings, train=train))
    assert not any("teacher" in name or name == "retention" for r in log_of(settings) for name in r)


def test_without_a_teacher_there_is_no_retention(settings: DistillSettings) -> None:
    alone = replace(settings, teacher="none", loss=LossSettings())
    distill(replace(alone, train=replace(settings.train, steps=1, validate_every=1)))
    (row,) = [row for row in log_of(alone) if "validation_hit@1" in row]
    assert "retention" not in row


def test_a_resumed_training_scores_its_teacher_no_second_time(
    settings: DistillSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = replace(settings.train, cache_teacher=True, verify_cache=False)
    cached = replace(settings, train=train)
    with pytest.raises(Stopped):
        distill(cached, SignalAt(1, signal.SIGTERM))
    first, *rows = log_of(cached)
    # As of a teacher that finds something: a random one may not.
    first["teacher_hit@1"] = 0.5
    lines = [json.dumps(row) + "\n" for row in (first, *rows)]
    (cached.output_dir / "log.jsonl").write_text("".join(lines))

    def refuse(*_: object) -> None:
        raise AssertionError("the teacher was opened again")

    monkeypatch.setattr(asked_once, "open_teacher", refuse)
    assert distill(replace(cached, resume=True)).finished
    rows = log_of(cached)
    assert [row for row in rows if "teacher_hit@1" in row] == [first]
    hits = [row for row in rows if "validation_hit@1" in row]
    assert hits and all(row["retention"] == row["validation_hit@1"] / 0.5 for row in hits)


def test_a_score_in_the_log_is_taken_from_there(tmp_path: Path) -> None:
    log, asked = TrainingLog(tmp_path / "log.jsonl"), []

    def judge() -> HitRates:
        asked.append(1)
        return HitRates(0.5, {"a": 0.25, "b": 0.75})

    assert [teacher_score(log, judge) for _ in range(3)] == [0.5] * 3
    assert len(asked) == 1


def test_steps_past_the_saved_state_are_logged_once(settings: DistillSettings) -> None:
    distill(replace(settings, stop_after=1e-9))
    log = TrainingLog(settings.output_dir / "log.jsonl")
    # As after a kill: these steps were computed, and no state of them was saved.
    log.append(3, {"validation_hit@1": 2.0})
    log.append(5, {"loss": 99.0})
    distill(replace(settings, resume=True))
    rows = log_of(settings)
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert not any(row.get("loss") == 99.0 or row.get("validation_hit@1") == 2.0 for row in rows)
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    assert seconds == sorted(seconds)
