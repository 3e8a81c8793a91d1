"""Batches hold what they may, every input is in one, and no division is cheaper."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.models.batch_plan import FEWEST, InputSize, plan_batches

SIZES = st.lists(
    st.builds(InputSize, st.integers(1, 60), st.sampled_from([0, 0, 784, 3136, 12544])),
    min_size=1,
    max_size=40,
)
BOUND = st.none() | st.integers(1, 20_000)
FEW = st.none() | st.integers(1, 50)


def allowed(
    held: list[InputSize], rows: int | None, tokens: int | None, pixels: int | None
) -> bool:
    if len(held) == 1:
        return True
    return (
        (rows is None or len(held) <= rows)
        and (tokens is None or len(held) * max(size.tokens for size in held) <= tokens)
        and (pixels is None or sum(size.pixels for size in held) <= pixels)
    )


@given(sizes=SIZES, rows=FEW, tokens=BOUND, pixels=BOUND, per_pass=st.sampled_from([0, 64, FEWEST]))
@settings(max_examples=200)
def test_batches_keep_the_bounds(
    sizes: list[InputSize],
    rows: int | None,
    tokens: int | None,
    pixels: int | None,
    per_pass: int,
) -> None:
    batches = plan_batches(sizes, rows=rows, tokens=tokens, pixels=pixels, per_pass=per_pass)
    assert sorted(place for batch in batches for place in batch) == list(range(len(sizes)))
    for batch in batches:
        held = [sizes[place] for place in batch]
        assert len({size.pixels > 0 for size in held}) == 1
        assert allowed(held, rows, tokens, pixels)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    rows=FEW,
    tokens=FEW,
    per_pass=st.integers(0, 30),
)
@settings(max_examples=100)
def test_no_other_division_of_the_rows_in_order_is_cheaper(
    lengths: list[int], rows: int | None, tokens: int | None, per_pass: int
) -> None:
    ordered = [InputSize(length, 0) for length in sorted(lengths)]
    costs = []
    for choice in range(1 << (len(ordered) - 1)):
        cuts = [i + 1 for i in range(len(ordered) - 1) if choice >> i & 1]
        groups = [ordered[a:b] for a, b in pairwise([0, *cuts, len(ordered)])]
        if all(allowed(group, rows, tokens, None) for group in groups):
            costs.append(sum(per_pass + group[-1].tokens * len(group) for group in groups))
    sizes = [InputSize(length, 0) for length in lengths]
    batches = plan_batches(sizes, rows=rows, tokens=tokens, per_pass=per_pass)
    found = sum(per_pass + max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert found == min(costs)


def test_as_few_as_the_bounds_allow() -> None:
    texts = [InputSize(10, 0)] * 7
    found = plan_batches(texts, tokens=30, per_pass=FEWEST)
    assert sorted(map(len, found)) == [1, 3, 3]
    images = [InputSize(4, 100)] * 5
    found = plan_batches(images, tokens=1000, pixels=200, per_pass=FEWEST)
    assert sorted(map(len, found)) == [1, 2, 2]
    assert len(plan_batches(texts + images)) == 2
    assert plan_batches([]) == []
