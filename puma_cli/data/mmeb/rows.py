"""One row of MMEB: a query and its own candidates, the first of which is the right one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from puma_cli.models.inputs import Input

QUERY_COLUMNS = ("qry_text", "qry_img_path", "tgt_text", "tgt_img_path")
INSTRUCTION_COLUMNS = ("qry_inst", "tgt_inst")
_MARK = re.compile(r"<\|image_\d+\|>")

FindImage = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class MmebRow:
    """A query with its candidates, of which there are at least two."""

    query: Input
    candidates: tuple[Input, ...]


def read_row(row: Mapping[str, Any], find_image: FindImage) -> MmebRow:
    """Return what a row shows a model.

    The mark of an image goes out of the text, since a model's own template places its image token.
    Of the second form, `qry_inst` is the query's instruction, and `tgt_inst` that of candidates
    with an image; texts that stand alone have none, as in the authors' code.

    Args:
        find_image: returns the file of an image's path.

    Raises:
        ImageError: an image is not there.
        ValueError: a value is of another kind, or the row lacks its query or its answer.
    """
    asked, text = row.get("qry_inst"), _text(row.get("qry_text"), "qry_text")
    instruction = _plain(_text(asked, "qry_inst"))
    name = _text(row.get("qry_img_path"), "qry_img_path")
    _check_mark(f"{asked or ''}{text}", name, "the query")
    query = Input(
        text=_plain(text) or None,
        image=find_image(name) if name else None,
        instruction=instruction or None,
    )
    if query.text is None and query.image is None and query.instruction is None:
        raise ValueError("it has neither a text nor an image for the query")
    if query.text is None and query.image is None:
        # A query that is all instruction is a text.
        query = Input(text=query.instruction)
    return MmebRow(query, _candidates(row, find_image))


def _candidates(row: Mapping[str, Any], find_image: FindImage) -> tuple[Input, ...]:
    texts, names = (
        _texts(row.get("tgt_text"), "tgt_text"),
        _texts(row["tgt_img_path"], "tgt_img_path"),
    )
    if texts and names and len(texts) != len(names):
        raise ValueError(f"it has {len(texts)} texts but {len(names)} images of candidates")
    asked = _plain(_text(row.get("tgt_inst"), "tgt_inst")) or None
    found: list[Input] = []
    for text, name in zip_longest(texts, names, fillvalue=""):
        _check_mark(text, name, f"candidate {len(found)}")
        image = find_image(name) if name else None
        # A wrong candidate may be an empty text: so are some answers of people.
        shown = _plain(text) or (None if image else "")
        found.append(Input(text=shown, image=image, instruction=asked if image else None))
    if len(found) < 2:
        raise ValueError(f"it has {len(found)} candidates, where the best of several is asked for")
    if found[0] == Input(text=""):
        raise ValueError("its right candidate, the first, has neither a text nor an image")
    return tuple(found)


def _check_mark(text: str, name: str, what: str) -> None:
    if not name and _MARK.search(text):
        raise ValueError(f"the text of {what} shows an image, but there is no path of one")


def _plain(text: str) -> str:
    return _MARK.sub("", text).replace("\r\n", "\n").strip()


def _texts(value: Any, column: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{repr(value)[:40]} in {column!r} is no list")
    return [_text(item, column) for item in value]


def _text(value: Any, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{repr(value)[:40]} in {column!r} is no text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"a text in {column!r} is no valid Unicode: {error}") from error
    return value
