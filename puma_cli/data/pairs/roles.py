"""Which column of a table holds what: as the settings say, or told by the usual names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.config.suggestion import did_you_mean
from puma_cli.errors import ConfigError, DataError

# The names in use, in lower case with underscores; sent0, sent1 and hard_neg are SimCSE's, qry is
# MMEB's, the sentences and the anchor those of sentence-transformers.
_QUERY = ("query", "qry", "anchor")
_POSITIVE = ("positive", "positives", "pos")
_NEGATIVE = ("negative", "negatives", "neg", "hard_negative", "hard_negatives", "hard_neg")
_TEXT = ("", "_text", "_txt")
_IMAGE = ("_image", "_images", "_image_path", "_img_path", "_image_paths")


def _names(stems: Iterable[str], endings: Iterable[str], *others: str) -> frozenset[str]:
    return frozenset({stem + ending for stem in stems for ending in endings} | set(others))


USUAL = {
    "query_text": _names(_QUERY, _TEXT, "question", "sentence1", "sent0"),
    "query_image": _names(_QUERY, _IMAGE),
    "positive_text": _names(_POSITIVE, _TEXT, "answer", "sentence2", "sent1"),
    "positive_image": _names(_POSITIVE, _IMAGE),
    "negative_text": _names(_NEGATIVE, _TEXT, "sentence3"),
    "negative_image": _names(_NEGATIVE, _IMAGE),
    "instruction": frozenset({"instruction", "query_instruction", "qry_inst", "prompt"}),
}
# Whether a row is a pair of query and positive at all may hang on one of these.
_JUDGED = frozenset({"label", "labels", "gold_label", "score", "similarity_score", "is_duplicate"})


@dataclass(frozen=True)
class Roles:
    """Names of the columns that are read; None where a table has none.

    Args:
        negatives: columns of texts and images of hard negatives, in pairs.
    """

    query_text: str | None
    query_image: str | None
    positive_text: str | None
    positive_image: str | None
    negatives: tuple[tuple[str | None, str | None], ...] = ()
    instruction: str | None = None

    @property
    def columns(self) -> list[str]:
        """Every column that has a role, once."""
        sides = ((self.query_text, self.query_image), (self.positive_text, self.positive_image))
        names = [name for side in (*sides, *self.negatives) for name in side]
        return list(dict.fromkeys(name for name in (*names, self.instruction) if name))

    def __str__(self) -> str:
        """The roles as settings spell them, such as `query_text=sent0, positive_text=sent1`."""
        texts, images = zip(*self.negatives, strict=True) if self.negatives else ((), ())
        named = {
            "query_text": (self.query_text,),
            "query_image": (self.query_image,),
            "positive_text": (self.positive_text,),
            "positive_image": (self.positive_image,),
            "negative_text": texts,
            "negative_image": images,
            "instruction": (self.instruction,),
        }
        return ", ".join(
            f"{role}={','.join(map(str, names))}" for role, names in named.items() if any(names)
        )


def find_roles(columns: Sequence[str], settings: PairsSettings, path: Path) -> Roles:
    """Return what each column of the table at `path` is for.

    Raises:
        ConfigError: columns are named in part only.
        DataError: a column that is named is not there, or without names the roles are not clear.
    """
    named = _named(settings)
    found = _set(columns, named, path) if named else _told(columns, path)
    texts, images = found["negative_text"], found["negative_image"]
    if texts and images and len(texts) != len(images):
        raise ConfigError(
            f"{len(texts)} columns of negative texts do not go with {len(images)} of images.",
            cause=f"They are {', '.join(texts)} and {', '.join(images)}.",
            hint="Name as many of both with pairs.negative_text and pairs.negative_image, or one.",
        )
    negatives = zip_longest(texts, images)
    single = {role: (names[0] if names else None) for role, names in found.items()}
    return Roles(
        single["query_text"],
        single["query_image"],
        single["positive_text"],
        single["positive_image"],
        tuple(negatives),
        single["instruction"],
    )


def _named(settings: PairsSettings) -> dict[str, list[str]]:
    """Return the columns that the settings name, by role; nothing if they name none."""
    named: dict[str, list[str]] = {}
    for role in USUAL:
        value = getattr(settings, role)
        if value:
            named[role] = [value] if isinstance(value, str) else list(value)
    return named


def _set(columns: Sequence[str], named: dict[str, list[str]], path: Path) -> dict[str, list[str]]:
    for side in ("query", "positive"):
        if not {f"{side}_text", f"{side}_image"} & named.keys():
            raise ConfigError(
                f"pairs.{next(iter(named))} names a column, but no column is named for the {side}.",
                cause="As soon as one column is named, only named columns are read.",
                hint=f"Add --set pairs.{side}_text=COLUMN or pairs.{side}_image=COLUMN.",
            )
    for role, names in named.items():
        for name in names:
            if name not in columns:
                raise DataError(
                    f"{path} has no column {name!r}, which pairs.{role} names.",
                    cause=_list(columns),
                    hint=did_you_mean(name, columns),
                )
    return {role: named.get(role, []) for role in USUAL}


def _told(columns: Sequence[str], path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {role: [] for role in USUAL}
    for column in columns:
        plain = re.sub(r"[\s\-]+", "_", column.strip().lower())
        for role, usual in USUAL.items():
            # Several negatives often stand side by side, as negative_1, negative_2.
            numbered = role.startswith("negative") and re.sub(r"_?\d+$", "", plain) in usual
            if plain in usual or numbered:
                found[role].append(column)
    for role, names in found.items():
        if len(names) > 1 and not role.startswith("negative"):
            raise _unclear(
                f"{path} has {len(names)} columns that may hold the {role.replace('_', ' ')}: "
                f"{', '.join(names)}.",
                columns,
            )
    for side in ("query", "positive"):
        if not found[f"{side}_text"] and not found[f"{side}_image"]:
            raise _unclear(f"{path} has no column that looks like the {side}.", columns)
    judged = [column for column in columns if column.strip().lower() in _JUDGED]
    if judged:
        raise _unclear(
            f"{path} has the column {judged[0]!r}: not each of its rows may be a pair that "
            "belongs together.",
            columns,
            "If each is, name the columns; if not, take out the others first. ",
        )
    return found


def _unclear(problem: str, columns: Sequence[str], first: str = "") -> DataError:
    return DataError(
        problem,
        cause=_list(columns),
        hint=f"{first}For instance --set pairs.query_text=COLUMN --set pairs.positive_text=COLUMN; "
        "there are query_image, positive_image, negative_text, negative_image and instruction too.",
    )


def _list(columns: Sequence[str]) -> str:
    return f"Its columns: {', '.join(map(repr, columns))}."
