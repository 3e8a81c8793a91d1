"""From a row of a table to a query with its positives and negatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from puma_cli.data.columns import Shown
from puma_cli.data.pairs.incomplete import NO_POSITIVE, NO_QUERY, IncompleteError
from puma_cli.data.pairs.roles import Roles

# MMEB's texts say where the image stands; here a prompt's template does.
_IMAGE_MARK = re.compile(r"<\|image_\d+\|>")


@dataclass(frozen=True, slots=True)
class Pair:
    """One row: a query, what answers it (at least one), and hard negatives."""

    query: Shown
    positives: tuple[Shown, ...]
    negatives: tuple[Shown, ...] = ()
    instruction: str | None = None


def read_pair(row: Mapping[str, Any], roles: Roles, find_image: Callable[[str], Path]) -> Pair:
    """Return the pair that a row holds.

    Texts stay as they are, less outer white space and MMEB's marks of images; an empty text, a NaN
    and a missing value are no text.

    Args:
        find_image: returns the file of an image's path, or raises IncompleteError.

    Raises:
        IncompleteError: the row has no query or no positive, or an image file is not there.
        ValueError: a value is of another kind, or a text is no valid Unicode.
    """

    def contents(text: str | None, image: str | None) -> tuple[Shown, ...]:
        return _contents(row, text, image, find_image)

    queries = contents(roles.query_text, roles.query_image)
    if not queries:
        raise IncompleteError(NO_QUERY, "It has neither a text nor an image for the query.")
    if len(queries) > 1:
        raise ValueError(f"It has {len(queries)} queries, where one is expected.")
    positives = contents(roles.positive_text, roles.positive_image)
    if not positives:
        raise IncompleteError(NO_POSITIVE, "It has neither a text nor an image for the positive.")
    instructions = [text for text in _texts(row, roles.instruction) if text]
    if len(instructions) > 1:
        raise ValueError(f"It has {len(instructions)} instructions, where one is expected.")
    return Pair(
        query=queries[0],
        positives=tuple(dict.fromkeys(positives)),
        negatives=tuple(
            dict.fromkeys(each for columns in roles.negatives for each in contents(*columns))
        ),
        instruction=instructions[0] if instructions else None,
    )


def _contents(
    row: Mapping[str, Any],
    text: str | None,
    image: str | None,
    find_image: Callable[[str], Path],
) -> tuple[Shown, ...]:
    """Return the contents of two cells: texts with the images beside them, empty ones left out."""
    texts, images = _texts(row, text), _texts(row, image)
    if not images:
        return tuple([(words, None) for words in texts if words])
    if texts and len(texts) != len(images):
        raise ValueError(
            f"It has {len(texts)} texts in {text!r} but {len(images)} images in {image!r}."
        )
    return tuple(
        (words, find_image(file) if file else None)
        for words, file in zip_longest(texts, images)
        if words or file
    )


def _texts(row: Mapping[str, Any], column: str | None) -> list[str | None]:
    """Return the texts of a cell, which holds nothing, one or a list; None for an empty one."""
    if column is None:
        return []
    value = row.get(column)
    if isinstance(value, list):
        items = [_text(item, column) for item in value]
        return items if any(items) else []
    text = _text(value, column)
    return [] if text is None else [text]


def _text(value: Any, column: str) -> str | None:
    if isinstance(value, str):
        if not value.isascii():
            _check_unicode(value, column)
        text = _IMAGE_MARK.sub("", value) if "<|image_" in value else value
        return text.replace("\r\n", "\n").strip() or None
    # Tables call a missing value NaN, which differs from itself.
    if value is None or value != value:
        return None
    raise ValueError(f"{str(value)[:40]!r} in {column!r} is no text.")


def _check_unicode(text: str, column: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"The text in {column!r} is no valid Unicode: {error}.") from error
