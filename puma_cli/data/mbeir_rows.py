"""One line of a file in the M-BEIR layout: a query, a candidate, or a qrel."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from puma_cli.data.records import MODALITIES, TASK_MODALITIES, Candidate, Query, clean_text
from puma_cli.errors import DataError

_NUMBER = re.compile(r"-?\d{1,9}", re.ASCII)


# What parsing a line raises.
BROKEN = (KeyError, ValueError, TypeError, AttributeError)


class Qrel(NamedTuple):
    """A judgement: how relevant a candidate is to a query; not at all at 0 and below."""

    qid: str
    did: str
    relevance: int


def parse_object(line: str) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        ValueError: it holds no JSON object.
    """
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    return row


def broken_line(path: Path, number: int, line: str, what: str, error: Exception) -> DataError:
    """Return the error of a line that could not be parsed.

    Args:
        what: what the line is instead, such as `broken`.
        error: what parsing it raised.
    """
    if isinstance(error, KeyError):
        return DataError(f"{path}, line {number} has no key {error}.")
    told = DataError(f"{path}, line {number} is {what}: {line.strip()[:80]!r}.", cause=f"{error}.")
    told.__cause__ = error
    return told


def parse_query(row: dict[str, Any], root: Path) -> Query:
    """Return the query of a line; `root` is what its image's path is relative to.

    Raises:
        KeyError: it lacks a key.
        ValueError: a value is of another kind, or contradicts another.
    """
    task_id = _task_number(row["task_id"])
    text, image = _text(row["query_txt"]), _image(row["query_img_path"], root)
    return Query(
        qid=_identifier(row["qid"], "qid"),
        text=text,
        image=image,
        modality=_modality(row["query_modality"], text, image),
        task_id=task_id,
        positives=_ids(row.get("pos_cand_list"), "pos_cand_list"),
        negatives=_ids(row.get("neg_cand_list"), "neg_cand_list"),
    )


def parse_candidate(row: dict[str, Any], root: Path) -> Candidate:
    """Return the candidate of a line; `root` is what its image's path is relative to.

    Raises:
        KeyError: it lacks a key.
        ValueError: a value is of another kind, or contradicts another.
    """
    text, image = _text(row["txt"]), _image(row["img_path"], root)
    modality = _modality(row["modality"], text, image)
    return Candidate(_identifier(row["did"], "did"), text, image, modality)


def parse_qrel(line: str, task_id: int | None = None) -> Qrel:
    """Return the judgement of a line `qid 0 did relevance task_id`, the last of which may lack.

    Args:
        task_id: the task that the line must be of, or None for any.

    Raises:
        ValueError: the line has other columns, or is of another task.
    """
    columns = line.split()
    if len(columns) not in (4, 5):
        raise ValueError("the columns are: qid 0 did relevance task_id")
    if not all(_NUMBER.fullmatch(number) for number in columns[3:]):
        raise ValueError("the relevance and the task are whole numbers")
    if task_id is not None and len(columns) == 5 and int(columns[4]) != task_id:
        raise ValueError(f"it is of task {columns[4]} in a file of {task_id}")
    return Qrel(columns[0], columns[2], int(columns[3]))


def _task_number(value: Any) -> int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in TASK_MODALITIES:
        raise ValueError(f"task_id {_shown(value)} is not one of {sorted(TASK_MODALITIES)}")
    return value


def _identifier(value: Any, name: str) -> str:
    # Qrels and run files separate their columns by white space.
    if not isinstance(value, str) or not value or any(letter.isspace() for letter in value):
        raise ValueError(f"{name} {_shown(value)} is no id: a text without white space")
    return _unicode(value, name)


def _ids(entries: Any, name: str) -> tuple[str, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise ValueError(f"{name} {_shown(entries)} is no list of ids")
    # The released files hold strings, the data set's card shows objects with a did.
    return tuple(_identifier(e["did"] if isinstance(e, dict) else e, name) for e in entries)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no text")
    return clean_text(_unicode(value, "the text"))


def _image(value: Any, root: Path) -> Path | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is no path of an image")
    path = PurePosixPath(_unicode(value, "the path"))
    if path.is_absolute() or ".." in path.parts or "\0" in value:
        raise ValueError(f"the path {_shown(value)} leads out of the data set's folder")
    return root / path


def _modality(name: Any, text: str | None, image: Path | None) -> str:
    name = "image,text" if name == "text,image" else name
    if name not in MODALITIES:
        raise ValueError(f"modality {_shown(name)} is not one of {MODALITIES}")
    for part, value in (("image", image), ("text", text)):
        told = part in name.split(",")
        if told and value is None:
            kind = "an image path" if part == "image" else "a text"
            raise ValueError(f"modality {name!r} without {kind}")
        if value is not None and not told:
            kind = "an image path" if part == "image" else "a text"
            raise ValueError(f"modality {name!r} with {kind}")
    return str(name)


def _unicode(value: str, name: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} is no valid Unicode: {error}") from error
    return value


def _shown(value: Any) -> str:
    return repr(value)[:80]
