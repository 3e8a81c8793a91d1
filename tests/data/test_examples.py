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


def test_equal_contents_are_one_candidate() -> None:
    batch = examples(query(1, "1:1"), query(2, "1:2"), query(3, "1:3"), query(4, "1:4")).batch(
        [0, 1, 2, 3], epoch=0
    )
    # 1:1 and 1:3 read the same, so both queries have the one for a positive.
    assert batch.labels.target.tolist() == [0, 1, 0, 2]
    assert [entry.text for entry in batch.candidates] == ["a", "b", None]
    assert batch.labels.excluded.shape == (4, 3) and not batch.labels.excluded.any()


def test_one_image_in_two_files_is_one_candidate(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "gone.png")]
    for file, content in zip(files, (b"same", b"same", b"else"), strict=False):
        file.write_bytes(content)
    pool = [Candidate(f"1:{n}", None, file, "image") for n, file in enumerate(files)]
    pool.append(Candidate("1:4", "with a text", files[0], "image,text"))
    queries = [query(n, candidate.did) for n, candidate in enumerate(pool)]
    batch = Examples(queries, pool, Instructions(), "first", seed=0).batch(range(5), 0)
    assert batch.labels.target.tolist() == [0, 0, 1, 2, 3]
    # The second query knows the other file as its positive, which is the same column.
    assert not batch.labels.excluded.any()


def hard(number: int, positive: str, *negatives: str) -> Query:
    return Query(f"1:{number}", "q", None, "text", 1, (positive,), negatives)


def with_negatives(count: int, *queries: Query) -> Examples:
    pool = [Candidate(f"1:{n}", f"text {n}", None, "text") for n in range(20)]
    return Examples(queries, pool, Instructions(), "first", seed=0, negatives=count)


def test_hard_negatives_come_after_the_positives_and_are_masked_for_no_one_else() -> None:
    built = with_negatives(2, hard(1, "1:1", "1:5", "1:6", "1:7"), hard(2, "1:2", "1:1", "1:8"))
    batch = built.batch([0, 1], epoch=0)
    texts = [entry.text for entry in batch.candidates]
    assert texts[:2] == ["text 1", "text 2"] and "text 8" in texts
    # Two of three for the first; of the second's two, one is there as a positive already.
    assert len(texts) == 5 == len(set(texts)) and batch.hard_negatives == 3
    assert len({"text 5", "text 6", "text 7"} & set(texts)) == 2
    assert not batch.labels.excluded.any()
    assert batch.labels.candidate_modality.shape == (5,)


def test_other_epochs_draw_other_hard_negatives_and_the_same_epoch_the_same() -> None:
    built = with_negatives(1, hard(1, "1:1", *(f"1:{n}" for n in range(5, 15))))
    drawn = [built.batch([0], epoch).candidates[1].text for epoch in range(12)]
    assert len(set(drawn)) > 4
    assert drawn == [built.batch([0], epoch).candidates[1].text for epoch in range(12)]


def test_a_known_positive_is_never_a_hard_negative_of_its_query() -> None:
    both = Query("1:1", "q", None, "text", 1, ("1:1", "1:2"), ("1:2", "1:99"))
    batch = with_negatives(3, both, hard(2, "1:3", "1:2")).batch([0, 1], epoch=0)
    assert batch.hard_negatives <= 1
    texts = [entry.text for entry in batch.candidates]
    for text in {"text 1", "text 2"} & set(texts):
        column = texts.index(text)
        assert batch.labels.excluded[0, column] == (batch.labels.target[0] != column)
        assert not batch.labels.excluded[1, column]


def test_another_known_positive_is_excluded_on_its_row_only() -> None:
    both = query(1, "1:1", "1:2")
    built = examples(both, query(2, "1:2"), query(3, "1:3"), query(4, "1:4"))
    for epoch in range(4):
        batch = built.batch([0, 1, 2, 3], epoch)
        own = batch.labels.target[0].item()
        other = next(n for n, e in enumerate(batch.candidates) if e.text and n != own)
        assert batch.labels.excluded.nonzero().tolist() == [[0, other]]


def test_each_epoch_may_draw_another_positive_but_the_same_one_again_for_the_same_epoch() -> None:
    both = examples(query(1, "1:1", "1:2"))
    drawn = [both.batch([0], epoch).candidates[0].text for epoch in range(12)]
    assert set(drawn) == {"a", "b"}
    assert drawn == [both.batch([0], epoch).candidates[0].text for epoch in range(12)]


def test_modalities_are_those_of_the_candidates() -> None:
    batch = examples(query(1, "1:4"), query(2, "1:1")).batch([0, 1], 0)
    assert batch.labels.candidate_modality.tolist() == [1, 0]


def test_a_query_without_a_positive_in_the_pool_is_named() -> None:
    with pytest.raises(DataError, match="'1:9' has no positive"):
        examples(query(1, "1:1"), query(9, "1:77"))


def test_a_real_batch_pairs_queries_with_their_positives(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    queries, pool = data.train_queries(), data.union_pool("train")
    built = Examples(queries, pool, data.instructions, "seeded", 3).batch(range(30), epoch=1)
    contents = {candidate.did: candidate.to_input() for candidate in pool}
    for index, asked in enumerate(built.queries):
        answer = built.candidates[built.labels.target[index]]
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
