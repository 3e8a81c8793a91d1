"""What a command does around its library call: signals, tracebacks, printed settings."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import puma_cli
from puma_cli.cli.app import run
from puma_cli.errors import CheckpointError

Printed = pytest.CaptureFixture[str]
ANALYZE = ["analyze", "m", "--data", "d"]


@pytest.fixture
def analysis(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Put a stand-in in the place of the library's `analyze`."""

    def replace(action: Callable[[], Any]) -> None:
        monkeypatch.setitem(vars(puma_cli), "analyze", lambda *given: action())

    return replace


def _fail(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_a_failure_is_a_message_without_a_traceback(analysis: Any, capsys: Printed) -> None:
    analysis(_fail(CheckpointError("No model `m`.", hint="Name one.")))
    assert run(ANALYZE) == 1
    assert capsys.readouterr() == ("", "Error: No model `m`.\n  Name one.\n")


def test_debug_shows_the_traceback_too(analysis: Any, capsys: Printed) -> None:
    analysis(_fail(CheckpointError("No model `m`.")))
    assert run([*ANALYZE, "--debug"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("Error: No model `m`.\n")


def test_ctrl_c_exits_with_130(analysis: Any, capsys: Printed) -> None:
    analysis(_fail(KeyboardInterrupt()))
    assert run(ANALYZE) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_sigterm_unwinds_and_exits_with_143(analysis: Any, capsys: Printed) -> None:
    cleaned = []

    def action() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    analysis(action)
    assert run(ANALYZE) == 143
    assert cleaned
    assert signal.getsignal(signal.SIGTERM) is before
    assert "Terminated" in capsys.readouterr().err


def test_an_interrupted_demo_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    def interrupt(settings: object, reporter: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(puma_cli), "run_demo", interrupt)
    assert run(["demo"]) == 130
    assert "same command again" in capsys.readouterr().err


def test_quiet_keeps_errors(analysis: Any, capsys: Printed) -> None:
    analysis(_fail(CheckpointError("No model `m`.")))
    assert run([*ANALYZE, "--quiet"]) == 1
    assert "No model" in capsys.readouterr().err


def test_print_config_is_a_config(tmp_path: Path, capsys: Printed) -> None:
    asked = ["distill", "s", "--data", "d", "-o", "o", "--config", "demo", "--steps", "7"]
    assert run([*asked, "--set", "loss.temperature=0.07", "--print-config"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    content = yaml.safe_load(printed.out)
    assert content["train"]["steps"] == 7
    assert content["loss"]["temperature"] == 0.07
    file = tmp_path / "all.yaml"
    file.write_text(printed.out, encoding="utf-8")
    assert run(["distill", "--config", str(file), "--print-config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == content
    assert run(["distill", "--config", str(file), "--print-config"]) == 0
    assert capsys.readouterr().out == printed.out


@pytest.mark.parametrize(
    ("args", "folder"),
    [
        (["analyze", "org/name@main", "--data", "d"], "profile-org-name-main"),
        (["eval", "some/where/model", "--data", "d"], "scores-some-where-model-test"),
        (["eval", "m", "--data", "d", "--split", "val"], "scores-m-val"),
        (["eval", "m", "--data", "d", "-o", "mine"], "mine"),
        (["mine", "m", "--data", "some/where/data"], "mined-some-where-data"),
    ],
)
def test_the_default_folder_is_named_after_the_model(
    args: list[str], folder: str, capsys: Printed
) -> None:
    assert run([*args, "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["output_dir"] == folder


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        (["--teacher", "puma-mini"], (0.9, 0.005)),
        (["--teacher", "puma-mini", "--set", "loss.cosine=1"], (1.0, 0.0)),
        (["--teacher", "puma-mini", "--config", "paper-stage1"], (0.9, 0.005)),
        ([], (1.0, 0.0)),
    ],
)
def test_a_teacher_alone_means_the_paper_s_loss(
    words: list[str], weights: tuple[float, float], capsys: Printed
) -> None:
    assert run(["distill", "cut", "--data", "d", "-o", "o", *words, "--print-config"]) == 0
    loss = yaml.safe_load(capsys.readouterr().out)["loss"]
    assert (loss["contrastive_weight"], loss["mse"]) == pytest.approx(weights)
