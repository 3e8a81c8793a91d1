"""From a data set of angles to its negatives: cases worked out by hand, and the rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puma_cli.config.settings import MineSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import DataError
from puma_cli.mining.mine import mine_embedder
from puma_cli.mining.negatives import Found, choose
from puma_cli.mining.questions import read_questions
from tests.mining.angles import Row, angles, candidate, query, write_data


def found_in(
    root: Path,
    queries: Sequence[Row] | Mapping[str, Sequence[Row]],
    candidates: Sequence[Row],
    **options: Any,
) -> list[Found]:
    """Return what is found for each training query."""
    named = queries if isinstance(queries, Mapping) else {"nine": queries}
    data = MbeirFolder(write_data(root, named, candidates))
    asked = MineSettings("angles", root, root / "out", **options)
    questions = read_questions(data, asked.tasks)
    found = mine_embedder(angles(), data, questions, asked)
    return [found[place] for place in questions.lines if place is not None]


def cosine(degrees: float) -> float:
    return pytest.approx(math.cos(math.radians(degrees)), abs=1e-5)  # type: ignore[return-value]


LINE = [candidate(f"9:{at}", at) for at in (0, 5, 10, 20, 30, 60, 120)]


def test_the_nearest_that_are_clear_of_the_positive(tmp_path: Path) -> None:
    # cos 20 is .940, .95 of it .893, and cos 30 is .866: what is nearer than 26.8 degrees is out.
    (found,) = found_in(tmp_path, [query(1, 0, ["9:20"])], LINE, negatives=2)
    assert found.negatives == ("9:30", "9:60")
    assert found.scores == (cosine(30), cosine(60))
    assert found.positive == cosine(20)
    assert (found.others, found.above) == (6, 3)


def test_without_a_margin_even_what_is_nearer_than_the_positive(tmp_path: Path) -> None:
    (found,) = found_in(tmp_path, [query(1, 0, ["9:20"])], LINE, negatives=9, relative_margin=None)
    assert found.negatives == ("9:0", "9:5", "9:10", "9:30", "9:60", "9:120")
    assert found.above == 0


def test_bounds_and_skipped_ranks(tmp_path: Path) -> None:
    asked = [query(1, 0, ["9:0"])]
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"max_score": 0.9}, ("9:30", "9:60", "9:120")),
        ({"min_score": 0.4}, ("9:20", "9:30", "9:60")),
        ({"skip": 2}, ("9:60", "9:120")),
        ({"skip": 1, "negatives": 1}, ("9:30",)),
        ({"skip": 9}, ()),
    ]
    for number, (options, expected) in enumerate(cases):
        (found,) = found_in(tmp_path / str(number), asked, LINE, **options)
        # cos 10 is .985 and cos 20 is .940: the margin of .95 lies between them.
        assert found.negatives == expected, options


def test_of_several_positives_the_lowest_counts(tmp_path: Path) -> None:
    (found,) = found_in(tmp_path, [query(1, 0, ["9:5", "9:30", "9:404"])], LINE)
    assert found.positive == cosine(30)
    assert found.negatives == ("9:60", "9:120")


def test_negative_cosines(tmp_path: Path) -> None:
    # cos 120 is -.5: the bound is -.525, which is 121.7 degrees.
    pool = [candidate(f"9:{at}", at) for at in (110, 120, 121, 122, 150)]
    (found,) = found_in(tmp_path, [query(1, 0, ["9:120"])], pool)
    assert found.negatives == ("9:122", "9:150")
    assert found.above == 2


def test_what_shows_the_same_as_a_positive_is_none(tmp_path: Path) -> None:
    for name, content in (
        ("10.png", b"a red circle"),
        ("11.png", b"a red circle"),
        ("12.png", b""),
    ):
        (tmp_path / name).write_bytes(content)
    pool = [candidate("9:1", "20"), candidate("9:2", " 20. "), candidate("9:3", "40")]
    pictures = [candidate(f"9:{at}", at, f"{at}.png") for at in (10, 11, 12)]
    asked = [query(1, 0, ["9:1"]), query(2, 0.5, ["9:10"], task_id=0)]
    text, image = found_in(tmp_path, asked, [*pool, *pictures], relative_margin=None)
    assert text.negatives == ("9:3",)
    assert image.negatives == ("9:12",)


def test_equal_candidates_are_one_negative(tmp_path: Path) -> None:
    pool = [candidate("9:1", 0), candidate("9:2", 40), candidate("9:3", 40), candidate("9:4", 50)]
    (found,) = found_in(tmp_path, [query(1, 0, ["9:1"])], pool)
    assert found.negatives == ("9:2", "9:4")


def test_equal_queries_share_their_positives(tmp_path: Path) -> None:
    asked = [query(1, 0, ["9:20"]), query(2, 0, ["9:60"]), query(3, 1, ["9:20"])]
    first, second, other = found_in(tmp_path, asked, LINE)
    assert first is second
    assert first.negatives == ("9:120",)
    assert other.negatives == ("9:30", "9:60", "9:120")


def test_a_task_is_searched_in_its_own_kind(tmp_path: Path) -> None:
    (tmp_path / "41.png").touch()
    pool = [candidate("9:1", 0), candidate("8:1", 40), candidate("9:2", 41, "41.png")]
    pool += [candidate("9:3", 42), candidate("8:2", 43), candidate("9:4", "43")]
    asked = [query(1, 0, ["9:1"])]
    (own,) = found_in(tmp_path, asked, pool)
    # What 8:2 and 9:4 both show goes by the name that is of the kind.
    assert own.negatives == ("9:3", "9:4")
    (every,) = found_in(tmp_path, asked, pool, pool="union")
    assert every.negatives == ("8:1", "9:2", "9:3", "8:2")
    (both,) = found_in(tmp_path, [query(1, 0, ["9:1", "8:1"])], pool, relative_margin=None)
    assert both.negatives == ("9:3", "8:2")


def test_what_is_named_already_is_not_found_again(tmp_path: Path) -> None:
    asked = [query(1, 0, ["9:0"], neg_cand_list=["9:20", "9:404"])]
    (replaced,) = found_in(tmp_path, asked, LINE, negatives=2)
    assert replaced.negatives == ("9:20", "9:30")
    (added,) = found_in(tmp_path, asked, LINE, negatives=2, keep_existing=True)
    assert added.negatives == ("9:30", "9:60")


def test_blocks_and_rounding_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [query(1, 0, ["9:20"]), query(2, 90, ["9:60", "9:30"]), query(3, 40, ["9:10"])]
    whole = found_in(tmp_path, asked, LINE)
    monkeypatch.setattr("puma_cli.mining.passes.BLOCK", 2)
    monkeypatch.setattr("puma_cli.mining.passes._EXACT_BYTES", 0)
    rounded = found_in(tmp_path, asked, LINE, batch_size=1)
    for one, other in zip(whole, rounded, strict=True):
        assert one.negatives == other.negatives
        assert one.scores == pytest.approx(other.scores, abs=2e-3)
        assert one.scores != other.scores
        assert (one.others, one.above) == (other.others, other.above)


def test_queries_that_nothing_is_found_for(tmp_path: Path) -> None:
    (tmp_path / "7.png").touch()
    pool = [*LINE, candidate("9:7", 7, "7.png")]
    asked = [query(1, 1, ["9:404"]), query(2, 0, ["9:7"], task_id=0), query(3, 0, ["9:120"])]
    missing, alone, all_above = found_in(tmp_path, asked, pool)
    assert (missing.positive, missing.negatives) == (None, ())
    assert (alone.others, alone.negatives) == (0, ())
    assert (all_above.others, all_above.above, all_above.negatives) == (6, 6, ())
    with pytest.raises(DataError, match="No training query has a positive"):
        found_in(tmp_path, asked[:1], pool)


def test_the_sample_comes_from_the_first_ranks_and_from_the_seed() -> None:
    ranks = [(1 - rank / 100, rank) for rank in range(40)]
    drawn = {
        (seed, qid): choose(
            ranks, MineSettings("m", Path("d"), Path("o"), sample=True, seed=seed, skip=4), qid
        )
        for seed in range(20)
        for qid in ("9:1", "9:2")
    }
    for chosen in drawn.values():
        assert len(chosen) == 8
        assert list(chosen) == sorted(set(chosen), reverse=True)
        assert set(chosen) <= set(ranks[4:])
    assert len({tuple(chosen) for chosen in drawn.values()}) > 30
    assert {place for chosen in drawn.values() for _, place in chosen} == set(range(4, 40))
    again = MineSettings("m", Path("d"), Path("o"), sample=True, seed=3, skip=4)
    assert choose(ranks, again, "9:1") == drawn[3, "9:1"]
    assert choose(ranks[:9], again, "9:1") == ranks[4:9]


ANGLES = st.lists(st.integers(0, 359), min_size=1, max_size=14)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pool=ANGLES,
    asked=st.lists(
        st.tuples(st.integers(0, 359), st.sets(st.integers(0, 13))), min_size=1, max_size=5
    ),
    share=st.sampled_from([None, 0.5, 0.95, 1.0]),
    lowest=st.sampled_from([None, -0.3]),
    negatives=st.integers(1, 15),
    skip=st.integers(0, 3),
)
def test_they_are_what_the_rules_say(
    tmp_path: Path,
    pool: list[int],
    asked: list[tuple[int, set[int]]],
    share: float | None,
    lowest: float | None,
    negatives: int,
    skip: int,
) -> None:
    """Scores are compared rather than ids, since equal ones may come in any order."""
    rows = [candidate(f"9:{number}", at) for number, at in enumerate(pool)]
    queries = [
        query(number, at, [f"9:{each}" for each in sorted(positives)])
        for number, (at, positives) in enumerate(asked)
    ]
    answers: dict[int, set[int]] = {}
    for at, positives in asked:
        inside = {pool[each] for each in positives if each < len(pool)}
        answers.setdefault(at, set()).update(inside)
    if not any(answers.values()):
        return
    options = {"negatives": negatives, "skip": skip, "relative_margin": share, "min_score": lowest}
    found = found_in(tmp_path, queries, rows, **options)
    for (at, _), each in zip(asked, found, strict=True):
        if not answers[at]:
            assert each == Found()
            continue
        score = {other: math.cos(math.radians(at - other)) for other in set(pool)}
        positive = min(score[answer] for answer in answers[at])
        limit = math.inf if share is None else positive - (1 - share) * abs(positive)
        floor = -math.inf if lowest is None else lowest
        competing = [score[other] for other in set(pool) - answers[at]]
        if any(abs(value - bound) < 1e-5 for value in competing for bound in (limit, floor)):
            return
        kept = sorted((value for value in competing if floor <= value <= limit), reverse=True)
        assert each.positive == pytest.approx(positive, abs=1e-5)
        assert each.scores == pytest.approx(kept[skip : skip + negatives], abs=1e-5)
        shown = [pool[int(did.partition(":")[2])] for did in each.negatives]
        assert [score[other] for other in shown] == pytest.approx(list(each.scores), abs=1e-5)
        assert len(set(shown)) == len(shown) and not set(shown) & answers[at]
        assert (each.others, each.above) == (len(competing), sum(v > limit for v in competing))
