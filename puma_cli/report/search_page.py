"""The results of `puma search` as one page, pictures included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from puma_cli.checkpoint.output_folder import explained_writes, write_text
from puma_cli.embedding.index_file import IndexDescription
from puma_cli.embedding.rows import Row, shown_path
from puma_cli.errors import DataError, OutputError
from puma_cli.report.page import escape, heading, page, paragraph
from puma_cli.report.pictures import data_uri
from puma_cli.searching.found import Answer, Hit

_LONGEST = 220
_MARK = "<!-- written by puma search -->"


def check_page(path: Path, overwrite: bool) -> None:
    """Raise OutputError unless a page may be written to `path`."""
    if path.is_dir():
        raise OutputError(f"The page `{path}` is a folder.", hint="Name a file, such as found.html")
    if path.exists() and not overwrite and not _is_own(path):
        raise OutputError(
            f"`{path}` is already there, and is no page of `puma search`.",
            hint="Name another file, or replace it with --overwrite.",
        )
    if not path.resolve().parent.is_dir():
        raise OutputError(
            f"The folder of the page `{path}` does not exist.",
            hint="Make it first, or choose another place with --html.",
        )


def write_search_page(
    path: Path, about: IndexDescription, answers: Sequence[Answer], remarks: Sequence[str] = ()
) -> None:
    """Write the results of some queries as one file that needs no other.

    Raises:
        OutputError: it cannot be written.
    """
    sections = [*(paragraph(remark, note=True) for remark in remarks)]
    for answer in answers:
        sections += [heading(_words(answer.query) or "An image"), _asked(answer.query)]
        sections.append(f'<div class="found">\n{"".join(map(_hit, answer.hits))}</div>')
    sections.append(_MARK)
    subtitle = f"{about.rows:,} vectors by {about.model}, {about.dimensions} numbers each"
    with explained_writes(path):
        write_text(path, page("Found", subtitle, sections, "Scores are cosines."))


def _is_own(path: Path) -> bool:
    """Tell whether a file is a page that an earlier search wrote, which the next may replace."""
    try:
        return _MARK in path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def _asked(query: Row) -> str:
    if query.image is None:
        return ""
    return f'<div class="ask">{_picture(query.image, "the query")}</div>'


def _hit(hit: Hit) -> str:
    parts = [f'<div class="score">{hit.rank}<span>{hit.score:.4f}</span></div>']
    if hit.row.image is not None:
        parts.append(_picture(hit.row.image, hit.row.text or hit.row.id))
    if hit.row.text:
        parts.append(f"<p>{escape(_words(hit.row))}</p>")
    parts.append(f'<p class="note">{escape(hit.row.id)}</p>')
    return f'<div class="item">{"".join(parts)}</div>\n'


def _picture(path: Path, label: str) -> str:
    try:
        source, small = data_uri(path)
    except (DataError, ValueError):
        # Moved or removed since it was embedded; what was found is still worth showing.
        return f'<p class="note">{escape(shown_path(path))} cannot be shown.</p>'
    kind = ' class="crisp"' if small else ""
    return f'<img{kind} alt="{escape(label[:_LONGEST])}" src="{source}">'


def _words(row: Row) -> str:
    text = " ".join((row.text or "").split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
