"""JSON is read strictly, and agrees with Python's reader on what is strict JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puma_cli.checkpoint.json_object import parse_object, read_object
from puma_cli.errors import CheckpointError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=4), st.booleans())
def test_every_json_object_is_read_as_it_was_written(content: dict[str, Any], ascii_: bool) -> None:
    raw = json.dumps(content, ensure_ascii=ascii_).encode("utf-8")
    assert parse_object(raw) == content


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b:", 'c"d', "é"]), st.integers()), max_size=4))
def test_a_key_that_stands_twice_is_found_whatever_it_holds(pairs: list[tuple[str, int]]) -> None:
    inner = "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in pairs) + "}"
    raw = f'{{"x": [{inner}], "::": 1}}'.encode()
    if len(dict(pairs)) == len(pairs):
        assert parse_object(raw) == {"x": [dict(pairs)], "::": 1}
    else:
        with pytest.raises(ValueError, match="twice"):
            parse_object(raw)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "not finite"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\uDFFF": 1}', "surrogate"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": "\xff"}', "utf-8"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' * 80 + b"1" + b"}" * 80, "nested too deeply"),
        (b'{"a": [1' + b"0" * 80 + b"]}", "digits"),
        (b'{"a": 1' + b"0" * 9000 + b"}", "digits"),
        (b'{"a": 1} {}', "Extra data"),
        (b"", "Expecting value"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
    ],
)
def test_what_is_no_strict_json_is_refused(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError) as caught:
        read_object(path)
    assert says in str(caught.value)


def test_whole_pairs_and_the_numbers_of_tokenizers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    path.write_text('{"a": "\\ud83d\\ude00", "model_max_length": 1000000000000000019884624838656}')
    assert read_object(path) == {"a": "😀", "model_max_length": 1000000000000000019884624838656}


def test_an_absurd_size_is_refused_unread_and_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch()
    os.truncate(path, 10**12)
    with pytest.raises(CheckpointError, match="1000000000000 bytes"):
        read_object(path)
    with pytest.raises(CheckpointError, match="is missing"):
        read_object(tmp_path / "other.json")
