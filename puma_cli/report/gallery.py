"""Retrieved examples as pictures: a query, and what each model finds for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from puma_cli.report.page import escape, inline
from puma_cli.report.pictures import data_uri

ACROSS = 5


@dataclass(frozen=True)
class Found:
    """One retrieved candidate.

    Args:
        text: its text, or None.
        image: its picture, or None; at least one of the two is given.
        relevant: whether it answers the query.
    """

    text: str | None
    image: Path | None
    relevant: bool


@dataclass(frozen=True)
class Ranking:
    """What one model retrieves for the query.

    Args:
        model: the model's name as shown.
        found: the candidates, best first; the first five are shown.
        rank: rank of the first relevant candidate in the whole pool (>= 1), or None.
    """

    model: str
    found: tuple[Found, ...]
    rank: int | None = None


@dataclass(frozen=True)
class Example:
    """A query and the rankings to compare.

    Args:
        task: name of its task.
        instruction: what is asked of the model, or None.
        text: the query's text, or None.
        image: the query's picture, or None.
        rankings: one for each model.
    """

    task: str
    instruction: str | None
    text: str | None
    image: Path | None
    rankings: tuple[Ranking, ...]


def gallery(examples: tuple[Example, ...] | list[Example]) -> str:
    """Return examples as HTML, relevant candidates framed green and the others red.

    Raises:
        DataError: a picture is missing or cannot be read.
    """
    return "\n".join(_example(example) for example in examples)


def _example(example: Example) -> str:
    picture = _picture(example.image, "the query's picture") if example.image else ""
    words = [f"<h3>{escape(example.task)}</h3>"]
    if example.text:
        words.append(f"<p>{inline(example.text)}</p>")
    if example.instruction:
        words.append(f'<p class="note">{escape(example.instruction)}</p>')
    rows = "\n".join(_ranking(ranking) for ranking in example.rankings)
    return (
        f'<div class="example">\n<div class="ask">{picture}<div>{"".join(words)}</div></div>\n'
        f"{rows}\n</div>"
    )


def _ranking(ranking: Ranking) -> str:
    place = f"first hit at rank {ranking.rank}" if ranking.rank else "no hit"
    cells = "".join(_candidate(found) for found in ranking.found[:ACROSS])
    who = f'<div class="who">{escape(ranking.model)}<span>{place}</span></div>'
    return f'<div class="ranked">{who}{cells}</div>'


def _candidate(found: Found) -> str:
    kind, label = ("hit", "relevant") if found.relevant else ("miss", "not relevant")
    parts = [_picture(found.image, found.text or label)] if found.image else []
    if found.text:
        parts.append(f"<p>{escape(_short(found.text))}</p>")
    return f'<div class="{kind}" title="{label}">{"".join(parts)}</div>'


def _picture(path: Path, label: str) -> str:
    source, small = data_uri(path)
    kind = ' class="crisp"' if small else ""
    return f'<img{kind} alt="{escape(label)}" src="{source}">'


def _short(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
