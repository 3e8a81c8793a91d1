"""The commands on a tiny checkpoint, one after the other, as a user types them."""

import json
from pathlib import Path

import pytest

from puma_cli.cli.app import run
from tests.pruning.headers import plain_decoder, sparse_checkpoint

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_whole_path(
    here: Path, tiny_checkpoint: Path, tiny_scenes: Path, capsys: Printed
) -> None:
    model, data = str(tiny_checkpoint), str(tiny_scenes)

    assert run(["analyze", model, "--data", data, "--limit", "2", "-o", "profile"]) == 0
    printed = capsys.readouterr()
    assert "PARTIAL" in printed.out
    assert "Recommended: keep" in printed.out
    assert f"Next: puma prune {model} --profile profile" in printed.err

    assert run(["prune", model, "--profile", "profile", "-o", "cut", "--json"]) == 0
    pruned = json.loads(capsys.readouterr().out)
    assert pruned["written"]
    assert pruned["next"].startswith("puma distill cut")

    assert run(["mine", model, "--data", data, "--tasks", "*_task1", "-o", "mined"]) == 0
    printed = capsys.readouterr()
    assert "scenes_task1" in printed.out and "60 " in printed.out
    assert f"Next: puma distill STUDENT --teacher {model} --data mined" in printed.err
    data = "mined"

    training = ["--steps", "2", "--batch-size", "8", "--set", "train.validation_limit=1"]
    asked = ["distill", "cut", "--teacher", model, "--data", data, "-o", "student"]
    assert run([*asked, *training, "--set", "loss.cosine=1", "--quiet"]) == 0
    assert capsys.readouterr() == ("student\n", "")

    for folder in ("cut", "student"):
        assert run(["eval", folder, "--data", data, "--pools", "local"]) == 0
        assert f"Scores: scores-{folder}-test" in capsys.readouterr().out

    assert run(["compare", "scores-cut-test", "scores-student-test"]) == 0
    assert "mean" in capsys.readouterr().out
    assert run(["compare", "profile", "profile"]) == 0
    printed = capsys.readouterr()
    assert "The recommended cuts" in printed.out
    assert f"Next: puma prune {model} --profile profile" in printed.err
    assert run(["compare", "profile", "scores-cut-test"]) == 1

    for folder, kind in {
        "profile": "profile",
        "cut": "pruned checkpoint",
        "student": "distilled checkpoint",
        "scores-cut-test": "scores",
        str(tiny_scenes): "data set",
        data: "data set with mined negatives",
        model: "checkpoint",
    }.items():
        assert run(["info", folder, "--quiet"]) == 0
        assert capsys.readouterr().out == f"{kind}\n"


def test_a_dry_run_needs_no_folder_and_writes_nothing(
    here: Path, tiny_checkpoint: Path, capsys: Printed
) -> None:
    assert run(["prune", str(tiny_checkpoint), "--keep", "2", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "nothing was written" in printed.out
    assert "--keep 2 -o pruned" in printed.err
    assert list(here.iterdir()) == []


def test_a_dry_run_repeats_what_was_given_and_tells_of_casts(
    here: Path, tiny_checkpoint: Path, capsys: Printed
) -> None:
    given = ["--keep", "2", "--dtype", "bfloat16", "--verify", "keys", "--bridge-rows", "99"]
    assert run(["prune", str(tiny_checkpoint), "--dry-run", "--lm-head", "keep", *given]) == 0
    printed = capsys.readouterr()
    assert "tensors from F32 to BF16." in printed.out
    (line,) = [line for line in printed.err.splitlines() if line.startswith("Next: ")]
    for words in ("--keep 2", "--dtype bfloat16", "--verify keys", "--bridge-rows 99"):
        assert words in line
    assert "--lm-head keep" in line and "--seed" not in line and "--dry-run" not in line


def test_a_head_that_stays_is_explained(here: Path, capsys: Printed) -> None:
    shapes = {**plain_decoder(2, "model.language_model."), "lm_head.weight": (16, 8)}
    config = {"model_type": "qwen2_vl", "text_config": {"num_hidden_layers": 2}}
    sparse_checkpoint(here / "model", config, shapes)
    assert run(["prune", "model", "--keep", "1", "--dry-run"]) == 0
    assert "The LM head stays: " in capsys.readouterr().out


def test_tasks_are_listed_without_a_model(here: Path, tiny_scenes: Path, capsys: Printed) -> None:
    asked = ["eval", "--data", str(tiny_scenes), "--list-tasks", "--tasks", "*_task[01]"]
    assert run([*asked, "--quiet"]) == 0
    assert capsys.readouterr().out.split() == ["scenes_task0", "scenes_task1"]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["info", "nowhere"], 1, ["nowhere"]),
        (["analyze", "nowhere", "--data", "{data}"], 1, ["no model `nowhere`"]),
        (["analyze", "puma-mni", "--data", "{data}"], 1, ["Did you mean `puma-mini`?"]),
        (["analyze", "{model}", "--data", "nowhere"], 1, ["nowhere"]),
        (["analyze", "{model}", "--data", "{model}"], 1, ["M-BEIR"]),
        (["eval", "{data}", "--data", "{data}"], 1, ["no checkpoint", "data set"]),
        (["eval", "{model}", "--data", "{data}", "--tasks", "x*"], 1, ["'x*'", "scenes_task0"]),
        (["eval", "{model}", "--data", "{data}", "--device", "tpu9"], 1, ["tpu9"]),
        (["prune", "{model}", "--keep", "9", "-o", "o"], 2, ["9", "4"]),
        (["prune", "{model}", "-o", "o"], 2, ["--keep", "--layers", "--profile"]),
        (["prune", "{model}", "--layers", "3-1", "-o", "o"], 2, ["3-1"]),
        (["prune", "{model}", "--profile", "{data}", "-o", "o"], 1, ["puma analyze"]),
        (["prune", "{model}", "--keep", "2", "-o", "taken"], 1, ["taken", "--overwrite"]),
        (["distill", "{model}", "--data", "{data}", "-o", "o", "--resume", "--set"], 2, ["--set"]),
        (["distill", "{model}", "--data", "nowhere", "-o", "o"], 1, ["nowhere"]),
        (["mine", "nowhere", "--data", "{data}"], 1, ["no model `nowhere`"]),
        (["mine", "{data}", "--data", "{data}"], 1, ["no checkpoint", "data set"]),
        (["mine", "{model}", "--data", "{model}"], 1, ["M-BEIR"]),
        (["mine", "{model}", "--data", "{data}", "-o", "taken"], 1, ["taken", "--overwrite"]),
        (["mine", "{model}", "--data", "{data}", "-o", "{data}/in"], 1, ["lies in the data set"]),
        (["mine", "{model}", "--data", "{data}", "--skip", "-1"], 2, ["skip = -1"]),
        (["compare", "nowhere", "{data}"], 1, ["nowhere"]),
        (["compare", "{data}"], 2, ["at least two"]),
        (["compare", "a", "b", "--metric", "hits"], 1, ["a"]),
        (["data", "scenes", "-o", "taken"], 1, ["taken", "--overwrite"]),
        (["demo", "--set", "model=nowhere"], 1, ["no model `nowhere`"]),
        (["demo", "-o", "taken", "--overwrite", "--set", "model={model}"], 1, ["taken"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "{" not in value[0] else "",
)
def test_what_goes_wrong_is_said_and_leaves_nothing(
    args: list[str],
    code: int,
    words: list[str],
    here: Path,
    tiny_checkpoint: Path,
    tiny_scenes: Path,
    capsys: Printed,
) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "mine.txt").write_text("keep me", encoding="utf-8")
    filled = [word.format(model=tiny_checkpoint, data=tiny_scenes) for word in args]
    assert run(filled) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Error: " in printed.err
    for word in words:
        assert word in printed.err
    assert "Traceback" not in printed.err
    assert "fault of puma's own" not in printed.err
    assert [path.name for path in here.iterdir()] == ["taken"]
    assert [path.name for path in (here / "taken").iterdir()] == ["mine.txt"]
