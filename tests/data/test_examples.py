"""Contrastive batches: positives, prompts and exclusions."""

from __future__ import annotations

from pathlib import Path

import pytest

from puma_cli.data.examples import Examples
from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.data.records import Candidate, Query
from puma_cli.errors import DataError

POOL = [
    Candidate("1:1", "a", None, "text"),
    Candidate("1:2", "b", None, "text"),
    Candidate("1:3", "a", None, "text"),
    Candidate("1:4", None, Path("x.png"), "image"),
]


def query(number: int, *positives: str) -> Query:
    return Query(f"1:{number}", "q", None, "text", 1, positives)


def examples(*queries: Query) -> Examples:
    return Examples(queries, POOL, Instructions(), "first", seed=0)


def test_positives_of_a_query_and_equal_contents_are_excluded() -> None:
    batch = examples(query(1, "1:1"), query(2, "1:2"), query(3, "1:3"), query(4, "1:4")).batch(
        [0, 1, 2, 3], epoch=0
    )
    # 1:1 and 1:3 read the same; nothing else may be excluded, the diagonal never.
    expected = [(0, 2), (2, 0)]
    assert [tuple(pair) for pair in batch.excluded.nonzero().tolist()] == expected


def test_another_known_positive_is_excluded_on_its_row_only() -> None:
    both = query(1, "1:1", "1:2")
    batch = examples(both, query(2, "1:2"), query(3, "1:4")).batch([0, 1, 2], epoch=0)
    assert batch.excluded[0, 1] and not batch.excluded[1, 2] and not batch.excluded.diagonal().any()


def test_each_epoch_may_draw_another_positive_but_the_same_one_again_for_the_same_epoch() -> None:
    both = examples(query(1, "1:1", "1:2"))
    drawn = [both.batch([0], epoch).candidates[0].text for epoch in range(12)]
    assert set(drawn) == {"a", "b"}
    assert drawn == [both.batch([0], epoch).candidates[0].text for epoch in range(12)]


def test_modalities_are_those_of_the_candidates() -> None:
    batch = examples(query(1, "1:4"), query(2, "1:1")).batch([0, 1], 0)
    assert batch.candidate_modality.tolist() == [1, 0]


def test_a_query_without_a_positive_in_the_pool_is_named() -> None:
    with pytest.raises(DataError, match="'1:9' has no positive"):
        examples(query(1, "1:1"), query(9, "1:77"))


def test_a_real_batch_pairs_queries_with_their_positives(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    queries, pool = data.train_queries(), data.union_pool("train")
    built = Examples(queries, pool, data.instructions, "seeded", 3).batch(range(30), epoch=1)
    contents = {candidate.did: candidate.to_input() for candidate in pool}
    for index, (asked, answer) in enumerate(zip(built.queries, built.candidates, strict=True)):
        assert asked.instruction is not None and answer.instruction is None
        assert answer in [contents[did] for did in queries[index].positives]


def test_views_are_drawn_for_images_only_and_anew_each_epoch(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    queries, pool = data.train_queries(), data.union_pool("train")
    built = Examples(queries, pool, data.instructions, "first", 0, augment=True)
    plain = Examples(queries, pool, data.instructions, "first", 0)
    first, again, later = (built.batch(range(40), epoch) for epoch in (0, 0, 1))
    assert first.queries == again.queries
    for entry in [*first.queries, *first.candidates]:
        assert (entry.view is not None) == (entry.image is not None)
    views = [{e.view for e in batch.queries if e.view is not None} for batch in (first, later)]
    assert views[0].isdisjoint(views[1])
    assert all(entry.view is None for entry in plain.batch(range(40), 0).queries)
