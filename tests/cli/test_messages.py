"""Every kind of failure becomes sentences and an exit code."""

import errno

import pytest

from puma_cli.cli.messages import Terminated, explain
from puma_cli.errors import CheckpointError, ConfigError, PumaError

GPU_TEXT = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 8 GiB."


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's own."""


def test_a_puma_error_keeps_its_parts() -> None:
    error = CheckpointError("No such model `x`.", cause="It is empty.", hint="Name another.")
    message = explain(error)
    assert message.exit_code == 1
    assert str(message).splitlines() == [
        "Error: No such model `x`.",
        "  It is empty.",
        "  Name another.",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PumaError("x"), 1),
        (ConfigError("x"), 2),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1),
        (ImportError("No module named 'peft'"), 1),
        (ZeroDivisionError("division by zero"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert explain(error).exit_code == code


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError(GPU_TEXT),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
    ids=["cuda", "mps", "cpu", "python"],
)
@pytest.mark.parametrize("training", [True, False], ids=["train", "encode"])
def test_out_of_memory_has_three_remedies(error: BaseException, training: bool) -> None:
    params = {"student": "s"} if training else {"model": "m", "batch_size": 64}
    message = explain(error, params)
    remedies = message.hint.splitlines()[1:]
    assert [line[:2] for line in remedies] == ["1.", "2.", "3."]
    assert "\n" not in message.cause
    if training:
        assert "scores will differ" in message.hint
    else:
        assert "--batch-size 16" in message.hint


def test_memory_advice_does_not_send_the_cpu_to_the_cpu() -> None:
    assert "--device cpu" not in explain(MemoryError(), {"model": "m", "device": "cpu"}).hint


@pytest.mark.parametrize("device", [None, "cpu", "cuda"])
def test_memory_advice_of_a_cut_changes_nothing_of_its_result(device: str | None) -> None:
    params = {"model": "m", "keep_last": None, "device": device, "batch_size": None}
    hint = explain(MemoryError(), params).hint
    assert len(hint.splitlines()) == 4
    assert "--dtype" not in hint and "--limit" not in hint
    assert ("--device cpu" in hint) == (device == "cuda")


def test_an_unforeseen_error_is_owned_up_to() -> None:
    message = explain(ZeroDivisionError("division by zero"))
    assert "ZeroDivisionError: division by zero" in message.problem
    assert "--debug" in message.hint
