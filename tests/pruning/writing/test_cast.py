"""A cast gives what torch gives for the whole tensor, and never makes a finite number infinite."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
import torch

from puma_cli.errors import CheckpointError, NumericError
from puma_cli.pruning.writing import cast as cast_module
from puma_cli.pruning.writing.cast import CASTABLE, Cast, cast_jobs

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def cast(values: torch.Tensor, before: str, after: str, folder: Path) -> bytes:
    """Cast through files, at odd places, in small parts."""
    source, target = folder / "source", folder / "target"
    data = raw(values.to(DTYPES[before]))
    source.write_bytes(b"abc" + data + b"def")
    target.write_bytes(b"header")
    jobs = cast_jobs([Cast("w", before, after, source, 3, target, 6, len(data))])
    for job in jobs:
        job(Event())
    written = target.read_bytes()
    assert written[:6] == b"header"
    return written[6:]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cast_module, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(cast_module, "BUFFER_BYTES", 104)


@pytest.mark.parametrize("before", sorted(CASTABLE))
@pytest.mark.parametrize("after", sorted(CASTABLE))
def test_parts_make_the_whole(before: str, after: str, tmp_path: Path) -> None:
    values = torch.randn(1237, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[::7] *= 1e-7  # denormal in half precision
    expected = values.to(DTYPES[before]).to(DTYPES[after])
    assert cast(values, before, after, tmp_path) == raw(expected)


def test_what_is_not_finite_stays_what_it_is(tmp_path: Path) -> None:
    values = torch.tensor([float("inf"), -float("inf"), float("nan"), 1.0])
    found = torch.frombuffer(bytearray(cast(values, "F32", "F16", tmp_path)), dtype=torch.float16)
    assert torch.equal(found.isinf(), values.isinf())
    assert torch.equal(found.isnan(), values.isnan())


@pytest.mark.parametrize(
    ("value", "before", "after"),
    [(7e4, "F32", "F16"), (-1e5, "BF16", "F16"), (1e300, "F64", "F32"), (3.4e38, "F32", "BF16")],
)
def test_a_finite_number_never_becomes_infinite(
    value: float, before: str, after: str, tmp_path: Path
) -> None:
    values = torch.zeros(500, dtype=torch.float64)
    values[-1] = value
    with pytest.raises(NumericError, match=f"`w` holds .*, which {after} cannot"):
        cast(values, before, after, tmp_path)


def test_the_largest_half_fits(tmp_path: Path) -> None:
    values = torch.tensor([65504.0, -65504.0, 65519.0])
    expected = raw(torch.tensor([65504.0, -65504.0, 65504.0]).half())
    assert cast(values, "F32", "F16", tmp_path) == expected


def test_a_source_that_ends_early_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(10))
    (tmp_path / "target").touch()
    part = Cast("w", "F32", "F16", tmp_path / "source", 0, tmp_path / "target", 0, 40)
    with pytest.raises(CheckpointError, match="became shorter"):
        cast_jobs([part])[0](Event())
