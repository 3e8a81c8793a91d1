"""Chunks hold what they may, and every input is in one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.distillation.chunks import plan_chunks
from puma_cli.models.processing import InputSize

SIZES = st.lists(
    st.builds(InputSize, st.integers(1, 60), st.sampled_from([0, 0, 784, 3136, 12544])),
    min_size=1,
    max_size=40,
)
BOUND = st.none() | st.integers(1, 20_000)


@given(sizes=SIZES, tokens=BOUND, pixels=BOUND)
@settings(max_examples=200, deadline=None)
def test_chunks_keep_the_bounds(
    sizes: list[InputSize], tokens: int | None, pixels: int | None
) -> None:
    chunks = plan_chunks(sizes, tokens, pixels)
    assert sorted(place for chunk in chunks for place in chunk) == list(range(len(sizes)))
    for chunk in chunks:
        held = [sizes[place] for place in chunk]
        assert len({size.pixels > 0 for size in held}) == 1
        if len(chunk) > 1:
            assert tokens is None or len(chunk) * max(size.tokens for size in held) <= tokens
            assert pixels is None or sum(size.pixels for size in held) <= pixels


def test_a_chunk_takes_what_fits() -> None:
    texts = [InputSize(10, 0)] * 7
    assert [len(chunk) for chunk in plan_chunks(texts, 30, None)] == [3, 3, 1]
    images = [InputSize(4, 100)] * 5
    assert [len(chunk) for chunk in plan_chunks(images, 1000, 200)] == [2, 2, 1]
    assert len(plan_chunks(texts + images, None, None)) == 2
