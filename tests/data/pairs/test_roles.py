"""Columns: the usual names, named ones, and what is not clear."""

from __future__ import annotations

from pathlib import Path

import pytest

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.data.pairs.roles import USUAL, find_roles
from puma_cli.errors import ConfigError, DataError

PATH = Path("pairs.csv")


def roles(*columns: str, **named: object) -> str:
    return str(find_roles(columns, PairsSettings(**named), PATH))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("sent0 sent1 hard_neg", "query_text=sent0, positive_text=sent1, negative_text=hard_neg"),
        ("anchor positive", "query_text=anchor, positive_text=positive"),
        ("sentence1 sentence2", "query_text=sentence1, positive_text=sentence2"),
        (
            "query pos neg prompt pos_scores id",
            "query_text=query, positive_text=pos, negative_text=neg, instruction=prompt",
        ),
        (
            "qry qry_image_path pos_text pos_image_path neg_text neg_image_path",
            "query_text=qry, query_image=qry_image_path, positive_text=pos_text, "
            "positive_image=pos_image_path, negative_text=neg_text, negative_image=neg_image_path",
        ),
        (
            "Query-Image positive_text Negative_1 negative_2",
            "query_image=Query-Image, positive_text=positive_text, "
            "negative_text=Negative_1,negative_2",
        ),
    ],
)
def test_the_usual_names_are_recognised(columns: str, expected: str) -> None:
    assert roles(*columns.split()) == expected


def test_no_name_is_usual_for_two_roles() -> None:
    names = [name for usual in USUAL.values() for name in usual]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("text other", "no column that looks like the query"),
        ("query other", "no column that looks like the positive"),
        ("query anchor positive", "2 columns that may hold the query text: query, anchor"),
        ("sentence1 sentence2 score", "the column 'score'"),
    ],
)
def test_what_is_not_clear_lists_the_columns(columns: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        roles(*columns.split())
    assert all(repr(column) in caught.value.cause for column in columns.split())
    assert "pairs.query_text" in caught.value.hint


def test_named_columns_are_the_only_ones_read() -> None:
    found = roles("title", "body", "query", "neg", query_text="title", positive_text="body")
    assert found == "query_text=title, positive_text=body"
    named = {"query_text": "sentence1", "positive_text": "sentence2"}
    assert roles("sentence1", "sentence2", "score", **named).startswith("query_text=sentence1")


def test_a_named_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match=r"no column 'titel', which pairs\.query_text") as caught:
        roles("title", "body", query_text="titel", positive_text="body")
    assert "title" in caught.value.hint and "'body'" in caught.value.cause


def test_naming_one_column_takes_naming_the_others() -> None:
    with pytest.raises(ConfigError, match=r"pairs\.query_text names a column, but .* positive"):
        roles("query", "positive", query_text="query")


def test_texts_and_images_of_negatives_come_in_pairs() -> None:
    found = find_roles(("qry", "pos", "neg_1", "neg_2", "neg_image"), PairsSettings(
        query_text="qry", positive_text="pos", negative_text=("neg_1", "neg_2"),
    ), PATH)  # fmt: skip
    assert found.negatives == (("neg_1", None), ("neg_2", None))
    with pytest.raises(ConfigError, match=r"2 columns of negative texts .* 1 of images"):
        roles("qry", "pos", "neg_1", "neg_2", "neg_image")
