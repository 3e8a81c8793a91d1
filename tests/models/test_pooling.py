"""Poolings against loops over tokens."""

from __future__ import annotations

import pytest
import torch

from puma_cli.models.pooling import mean_rows, read_places, rows_at

IDS = torch.tensor([[5, 9, 6, 9, 7], [9, 5, 0, 0, 0], [5, 6, 7, 9, 9]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    # The last row has its end tokens in the padding alone.
    [("last", [4, 1, 2]), ("mean", [4, 1, 2]), ("first", [0, 0, 0]), ("eos", [3, 0, 2])],
)
def test_places(pooling: str, expected: list[int]) -> None:
    assert read_places(IDS, MASK, pooling, 9).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_mean_is_over_real_tokens(dtype: torch.dtype) -> None:
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    hidden[MASK == 0] = float("nan")
    found = mean_rows(hidden, MASK)
    assert found.dtype is dtype
    for row, mask, mean in zip(hidden, MASK, found, strict=True):
        expected = row[mask.bool()].double().mean(dim=0).to(dtype)
        torch.testing.assert_close(mean, expected)


def test_a_long_mean_in_half_precision_does_not_drift() -> None:
    hidden = torch.full((1, 4096, 2), 1.0, dtype=torch.float16)
    assert mean_rows(hidden, torch.ones(1, 4096)).tolist() == [[1.0, 1.0]]


def test_rows() -> None:
    hidden = torch.arange(24.0).view(2, 3, 4)
    assert rows_at(hidden, torch.tensor([2, 0])).tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
