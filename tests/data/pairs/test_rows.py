"""Cells to contents: what counts as nothing, lists, images, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from puma_cli.data.pairs.incomplete import IncompleteError
from puma_cli.data.pairs.roles import Roles
from puma_cli.data.pairs.rows import Pair, read_pair

ROLES = Roles("q", "q_img", "p", "p_img", (("n", "n_img"), ("m", None)), "ask")


def pair(**row: Any) -> Pair:
    return read_pair(row, ROLES, Path)


def test_a_row_with_everything() -> None:
    found = pair(
        q="a", q_img="a.png", p="b", p_img="b.png", n=["c", None], n_img=[None, "d.png"], m="e",
        ask=" find it ",
    )  # fmt: skip
    assert found == Pair(
        query=("a", Path("a.png")),
        positives=(("b", Path("b.png")),),
        negatives=(("c", None), (None, Path("d.png")), ("e", None)),
        instruction="find it",
    )


@pytest.mark.parametrize("nothing", [None, float("nan"), "", "  \r\n", [], [None], ["", None]])
def test_nothing_is_nothing_in_any_form(nothing: Any) -> None:
    found = pair(q="a", q_img=nothing, p=["b"], p_img=None, n=nothing, m=nothing, ask=nothing)
    assert found == Pair(("a", None), (("b", None),))
    with pytest.raises(IncompleteError, match="for the query"):
        pair(q=nothing, p="b")
    with pytest.raises(IncompleteError, match="for the positive"):
        pair(q="a", p=nothing, p_img=nothing)


def test_several_positives_are_all_kept_and_doubles_are_one() -> None:
    assert pair(q="a", p=["b", "c", " b"]).positives == (("b", None), ("c", None))


def test_texts_stay_as_they_are() -> None:
    assert pair(q=" who\r\nis “it”? ", p="NaN").query == ("who\nis “it”?", None)


def test_the_mark_of_an_image_goes_and_leaves_an_image_alone() -> None:
    found = pair(q="<|image_1|>\n", q_img="a.png", p="<|image_1|>\nFind it.", p_img="b.png")
    assert found.query == (None, Path("a.png"))
    assert found.positives == (("Find it.", Path("b.png")),)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"q": 3, "p": "b"}, "'3' in 'q' is no text"),
        ({"q": "a", "p": {"text": "b"}}, "in 'p' is no text"),
        ({"q": "a", "p": [["b"]]}, "in 'p' is no text"),
        ({"q": "a\ud800", "p": "b"}, "in 'q' is no valid Unicode"),
        ({"q": ["a", "b"], "p": "b"}, "2 queries"),
        ({"q": "a", "p": ["b", "c"], "p_img": ["b.png"]}, "2 texts in 'p' but 1 images in 'p_img'"),
        ({"q": "a", "p": "b", "ask": ["c", "d"]}, "2 instructions"),
    ],
)
def test_what_cannot_be_a_pair_says_why(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pair(**row)
