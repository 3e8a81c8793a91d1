"""`puma distill --num-processes 2`: whole trainings, stopped, resumed, with one process lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

STEPS = 6
WORDS = [
    "--steps", str(STEPS), "--batch-size", "9", "--lora-rank", "4", "--device", "cpu",
    "--set", "lora.dropout=0.1", "--set", "train.validate_every=3", "--set", "train.save_every=1",
    "--set", "train.validation_limit=2", "--set", "optimizer.learning_rate=0.001",
]  # fmt: skip


def start(
    output: Path, student: Path, teacher: Path, data: Path, *more: str
) -> subprocess.Popen[str]:
    words = ["distill", str(student), "--teacher", str(teacher), "--data", str(data)]
    return subprocess.Popen(
        [sys.executable, "-m", "puma_cli", *words, "-o", str(output), *WORDS, *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, errors = process.communicate(timeout=300)
    return process.returncode, out + errors


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < until
        time.sleep(0.02)


def same(ours: Path, theirs: Path) -> None:
    for name in (".", "last"):
        one, other = (load_file(root / name / "model.safetensors") for root in (ours, theirs))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def folders(pruned: Path, tiny_checkpoint: Path, tiny_scenes: Path) -> tuple[Path, Path, Path]:
    return pruned, tiny_checkpoint, tiny_scenes


@pytest.fixture(scope="module")
def whole(folders: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two processes that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole") / "student"
    code, said = finish(start(output, *folders, "--num-processes", "2"))
    assert code == 0, said
    assert said.count(f"Trained {STEPS} steps") == 1
    return output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_processes_go_on_to_the_same_weights(
    folders: tuple[Path, Path, Path], whole: Path, tmp_path: Path, number: int
) -> None:
    output = tmp_path / "student"
    process = start(output, *folders, "--num-processes", "2")
    wait_for(lambda: any(output.glob("training/state-0000000[234]")), process)
    if number == signal.SIGTERM:
        process.send_signal(number)
        code, said = finish(process)
        assert code == 143 and "Go on with the same command and --resume" in said
    else:
        lost = children(process.pid)[1]
        os.kill(lost, number)
        began = time.monotonic()
        code, said = finish(process)
        assert code == 1 and "Process 2 of 2 was ended by SIGKILL" in said
        assert time.monotonic() - began < 30
    assert not (output / "config.json").exists()
    code, said = finish(start(output, *folders, "--num-processes", "2", "--resume"))
    assert code == 0, said
    same(whole, output)
    # Every step was logged once, and none is missing.
    log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "loss" in row] == [1, STEPS]


def test_another_number_of_processes_goes_on_in_the_same_order(
    folders: tuple[Path, Path, Path], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "student"
    process = start(output, *folders, "--set", "lora.dropout=0.0")
    wait_for(lambda: any(output.glob("training/state-0000000[234]")), process)
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 130, said
    more = ("--set", "lora.dropout=0.0", "--num-processes", "2")
    code, said = finish(start(output, *folders, *more, "--resume"))
    assert code == 0, said
    assert "The state is of 1 processes, and 2 go on" in said
    sharded = tmp_path / "sharded"
    code, said = finish(start(sharded, *folders, *more, "--set", "train.strategy=fsdp2"))
    assert code == 0, said
    one, other = (load_file(root / "last" / "model.safetensors") for root in (output, sharded))
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=1e-5)


def test_what_cannot_go_together_is_said_once(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "student"
    more = ("--set", "train.strategy=fsdp2", "--set", "lora.rank=0", "--num-processes", "2")
    code, said = finish(start(output, *folders, *more, "--lora-rank", "0"))
    assert code == 2 and said.count("the teacher is a model of its own") == 1
    assert not output.exists()


def children(parent: int) -> list[int]:
    """Return the processes that a process has started, in their order."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(int(child) for child in found)


def test_a_projection_is_fitted_where_a_process_has_no_inputs(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    # Two steps show fewer inputs than one batch of the fit, which one of the two processes reads.
    more = (
        "--steps", "2", "--set", "loss.projection=ridge", "--set", "loss.cosine=1",
        "--set", "train.validation_limit=0", "--set", "lora.dropout=0",
    )  # fmt: skip
    for name, count in (("one", "1"), ("two", "2")):
        process = start(tmp_path / name, *folders, *more, "--num-processes", count)
        code, said = finish(process)
        assert code == 0, said
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[key], two[key], atol=1e-4) for key in one)
