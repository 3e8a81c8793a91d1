"""Questions in YAML become runs; what a run is called follows from what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ablations.cost import Rates, rates_of, seconds_of, steps_of, table
from ablations.grid import Run, read_question, read_questions, read_setup

from puma_cli.errors import ConfigError


def test_every_question_that_ships_can_be_asked() -> None:
    setup = read_setup()
    questions = read_questions(setup)
    assert list(questions) == ["a", "b", "bar", *"cdefghij"]
    entries, total = table(list(questions.values()), set(), rates_of([]))
    assert sum(each["left"] for each in entries) == len(
        {run.key for each in questions.values() for row in each.rows for run in row.runs}
    )
    # About 40 hours of wall time on two cores.
    assert total < 80 * 3600


def test_a_sweep_is_the_product_of_its_axes(asked: Path) -> None:
    path = asked / "questions" / "x.yaml"
    path.write_text(
        "title: t\ndata: {tiny: {seeds: [4]}}\nsweeps:\n"
        "- {name: '{cut} at {loss.temperature}', set: {loss.symmetric: false},\n"
        "   over: {cut: [first 1, even 2], loss.temperature: [0.02, 0.1]}}\n"
    )
    question = read_question(path, read_setup(asked / "setup.yaml"))
    assert [row.name for row in question.rows] == [
        "first 1 at 0.02", "first 1 at 0.1", "even 2 at 0.02", "even 2 at 0.1",
    ]  # fmt: skip
    (run,) = question.rows[2].runs
    assert (run.cut, run.seed, run.k) == ("even 2", 4, 2)
    assert run.settings == {"loss.symmetric": False, "loss.temperature": 0.02}


def test_without_a_teacher_nothing_asks_for_one(asked: Path) -> None:
    question = read_question(asked / "questions" / "x.yaml", read_setup(asked / "setup.yaml"))
    run = question.rows[0].runs[0]
    assert run.teacher == "none"
    assert run.setting("loss.cosine") == 0 and run.setting("train.cache_teacher") is False


def test_a_key_tells_what_gives_other_results_and_nothing_else() -> None:
    run = Run("scenes", "m", "first 4", 1, recipe="r", settings={"a": 1}, base={"b": 2})
    same = replace(run, recipe="another name of the same content", settings={"a": 1})
    assert same.key == run.key and same.trained_key == run.trained_key
    others = [
        replace(run, seed=2),
        replace(run, cut="even 4"),
        replace(run, settings={"a": 2}),
        replace(run, base={"b": 3}),
        replace(run, bridge=True),
        replace(run, data="emoji"),
    ]
    assert len({each.key for each in (run, *others)}) == 1 + len(others)
    assert len({each.trained_key for each in (run, *others)}) == 1 + len(others)
    # One student, scored in two ways.
    asymmetric = replace(run, index="teacher")
    assert asymmetric.trained_key == run.trained_key and asymmetric.key != run.key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("loss.contrastive_weight", "loss.contrastive_wait", "loss.contrastive_weight"),
        ("train: none", "trian: none", "Did you mean train?"),
        ("{teacher: none,", "{teacher: nobdy,", "there is no 'nobdy'"),
        ("train: none", "cut: frist 2", "'frist 2' is no cut"),
        ("{tiny: {}}", "{tinny: {}}", "Did you mean tiny?"),
        ("baseline: nobody", "baseline: somebody", "there is no 'somebody'"),
        ("{loss.contrastive_weight: 1.0}", "{loss.contrastive_weight: -1.0}", "at least 0"),
    ],
)
def test_a_slip_is_named_with_its_place(asked: Path, old: str, new: str, said: str) -> None:
    path = asked / "questions" / "x.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read_question(path, read_setup(asked / "setup.yaml"))
    assert said in str(caught.value) and str(path) in str(caught.value)


def test_the_time_of_a_plan_follows_recorded_runs() -> None:
    line = {
        "data": "scenes", "trainer": "puma", "layers": [0, 1, 2, 3], "batch": 48, "steps": 400,
        "train_seconds": 280.0,
    }  # fmt: skip
    rates = rates_of([line])
    run = Run("scenes", "m", "first 4", base={"batch.size": 48, "train.steps": 400})
    slower = rates_of([{**line, "train_seconds": 560.0}])
    assert rates.is_measured(run) and not rates.is_measured(replace(run, data="emoji"))
    # Without what is fixed, twice as slow a machine takes twice the time.
    assert seconds_of(run, slower) - 20 == pytest.approx(2 * (seconds_of(run, rates) - 20))
    longer = replace(run, settings={"train.steps": 800})
    assert seconds_of(longer, rates) - seconds_of(run, rates) == pytest.approx(280.0)
    assert seconds_of(run, Rates({}, {})) > 0


def test_the_steps_of_stages_add_up() -> None:
    stages = [{"name": "a", "train": {"steps": 3}}, {"name": "b"}]
    run = Run("scenes", "m", "first 4", base={"stages": stages, "train.steps": 5})
    assert steps_of(run) == 8
    assert steps_of(replace(run, settings={"stages.a.train.steps": 10})) == 15
    assert steps_of(replace(run, trainer="")) == 0
