"""How many tokens a batch gets, and how far along it says it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from transformers import AutoConfig

from puma_cli.models.opening import load
from puma_cli.models.token_budget import (
    CPU_TOKENS,
    LARGEST,
    OTHER_TOKENS,
    SHARE,
    SMALLEST,
    batch_tokens,
    bytes_per_token,
    fitting_tokens,
)
from puma_cli.progress import Reporter, by_rows

T = TypeVar("T")


def test_a_budget_follows_the_memory_within_bounds(tiny_checkpoint: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_checkpoint)
    # Four patches a token, each 8 times the tower's width and 3 times its inner one, two bytes
    # each: more than what the decoder takes.
    assert bytes_per_token(config) == 2 * 4 * (8 * 32 + 3 * 32 * config.vision_config.mlp_ratio)
    row = bytes_per_token(config)
    assert fitting_tokens(config, 0) == SMALLEST
    assert fitting_tokens(config, 10**15) == LARGEST
    assert fitting_tokens(config, int(10_000 * row / SHARE) + 1) == 10_000


def test_a_cpu_has_few_whatever_its_memory(tiny_checkpoint: Path) -> None:
    embedder = load(tiny_checkpoint, "cpu")
    assert embedder.batch_tokens() == CPU_TOKENS
    assert batch_tokens(embedder.model, torch.device("mps")) == OTHER_TOKENS


@pytest.mark.parametrize("sizes", [[], [1], [3, 1, 2]])
def test_rows_are_counted_when_they_are_done(sizes: list[int]) -> None:
    class Counting(Reporter):
        """Notes how far it was when each item had come back."""

        def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
            for done, item in enumerate(items, start=1):
                yield item
                ticks.append(done)

    ticks: list[int] = []
    seen = []
    for size in by_rows(Counting(), iter(sizes), "x", sum(sizes), lambda size: size):
        seen.append((size, len(ticks)))
    assert [size for size, _ in seen] == sizes
    assert [before for _, before in seen] == [sum(sizes[: n + 1]) - 1 for n in range(len(sizes))]
    assert len(ticks) == sum(sizes)
