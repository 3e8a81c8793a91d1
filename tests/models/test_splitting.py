"""Parts of a batch compute what the whole does, and pad no more than they must."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.models.batch_plan import PASS_TOKENS
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load
from puma_cli.models.processing import Batch
from puma_cli.models.splitting import in_order, pass_tokens, split_by_length


def text_batch(lengths: list[int]) -> Batch:
    """Rows of ids 1, 2, ... of some lengths, right-padded with 0."""
    width = max(lengths)
    last = torch.tensor(lengths) - 1
    places = torch.arange(width).expand(len(lengths), -1)
    mask = (places <= last[:, None]).long()
    positions = (places * mask).expand(3, -1, -1)
    return Batch((places + 1) * mask, mask, positions, torch.zeros_like(mask), last)


def least_cost(lengths: list[int], per_pass: int) -> int:
    """The least cost over every way to divide the rows by length, tried one by one."""
    widths = sorted(set(lengths))
    best = None
    for choice in range(1 << (len(widths) - 1)):
        cuts = [i + 1 for i in range(len(widths) - 1) if choice >> i & 1]
        groups = [widths[a:b] for a, b in pairwise([0, *cuts, len(widths)])]
        cost = sum(
            per_pass + max(group) * sum(length in group for length in lengths) for group in groups
        )
        best = cost if best is None else min(best, cost)
    assert best is not None
    return best


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=20),
    st.integers(0, 60),
)
def test_no_other_division_by_length_is_cheaper(lengths: list[int], per_pass: int) -> None:
    parts = split_by_length(text_batch(lengths), per_pass)
    cost = sum(per_pass + part.batch.input_ids.numel() for part in parts)
    assert cost == least_cost(lengths, per_pass)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(0, 60))
def test_every_row_is_in_one_part_whole_and_comes_back_in_its_place(
    lengths: list[int], per_pass: int
) -> None:
    parts = split_by_length(text_batch(lengths), per_pass)
    for part in parts:
        assert [int(n) for n in part.batch.attention_mask.sum(1)] == [
            lengths[row] for row in part.rows.tolist()
        ]
        assert part.batch.input_ids.shape[1] == max(lengths[row] for row in part.rows.tolist())
    lasts = in_order([part.rows for part in parts], [part.batch.last[:, None] for part in parts])
    assert lasts[:, 0].tolist() == [length - 1 for length in lengths]


def test_equal_lengths_and_dear_passes_stay_whole() -> None:
    batch = text_batch([5, 5, 5])
    assert split_by_length(batch, 0)[0].batch is batch
    assert len(split_by_length(text_batch([1, 2, 30]), 10**9)) == 1
    assert len(split_by_length(text_batch([1, 2, 30]), 0)) == 3


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Embedder:
    found = load(tiny_checkpoint, "cpu")
    found.model.double()
    return found


@pytest.fixture(scope="module")
def batch(tiny_scenes: Path, embedder: Embedder) -> Batch:
    """Texts, images of two sizes, and both together, in no order."""
    data = MbeirFolder(tiny_scenes)
    rows = [q.to_input("Find it.") for t in data.tasks("test") for q in data.queries("test", t)[:3]]
    rows += [candidate.to_input() for candidate in data.union_pool("test")[:9]]
    order = np.random.default_rng(0).permutation(len(rows))
    found = embedder.collate([rows[place] for place in order])
    assert found.pixel_values is not None
    found.pixel_values = found.pixel_values.double()
    return found


def test_the_parts_give_the_vectors_and_the_gradients_of_the_whole(
    embedder: Embedder, batch: Batch
) -> None:
    parts = split_by_length(batch, 0)
    assert len(parts) > 3
    assert any(part.batch.pixel_values is None for part in parts)
    assert sum(part.batch.pixel_values is not None for part in parts) > 1
    together = in_order(
        [part.rows for part in parts], [embedder.embed(part.batch) for part in parts]
    )
    whole = embedder.embed(batch)
    torch.testing.assert_close(together, whole, rtol=0, atol=1e-10)
    weights = [p for p in embedder.model.parameters() if p.requires_grad]
    direction = torch.linspace(-1, 1, whole.numel(), dtype=whole.dtype).view_as(whole)
    for ours, theirs in zip(
        torch.autograd.grad((together * direction).sum(), weights),
        torch.autograd.grad((whole * direction).sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_images_of_other_rows_would_be_noticed(embedder: Embedder, batch: Batch) -> None:
    """The vectors depend on the images, or the test above would not see them mixed up."""
    assert batch.pixel_values is not None
    shown = embedder.embed(batch)
    turned = Batch(**{**vars(batch), "pixel_values": batch.pixel_values.flip(0)})
    has_image = batch.token_types.bool().any(1)
    moved = (embedder.embed(turned) - shown).abs().amax(1)
    assert bool((moved[has_image] > 1e-3).all()) and bool((moved[~has_image] == 0).all())


def test_one_more_pass_costs_many_tokens_of_small_layers_on_a_gpu() -> None:
    small, large = (nn.Linear(width, width, device="meta") for width in (64, 8_192))
    assert pass_tokens(small) == pass_tokens(large) == PASS_TOKENS


@pytest.mark.gpu
def test_one_more_pass_is_counted_against_what_the_gpu_could_do() -> None:
    small, large = (nn.Linear(width, width, device="cuda") for width in (64, 30_000))
    assert pass_tokens(small) > 100_000
    assert pass_tokens(large) == PASS_TOKENS
