"""Building blocks of a report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources

from puma_cli.report.drawing import DARK, LIGHT, ROLES, Palette


@dataclass(frozen=True)
class Drawing:
    """A drawing with the sentence below it.

    Args:
        svg: an SVG element as `to_svg` returns it.
        caption: plain text.
    """

    svg: str
    caption: str = ""


def page(title: str, subtitle: str, sections: Sequence[str], footer: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title: plain text, also the document's title.
        subtitle: plain text below it.
        sections: HTML, in order, from the functions below.
        footer: plain text.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style()}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="subtitle">{escape(subtitle)}</p>',
        *sections,
        f"<footer>{escape(footer)}</footer>" if footer else "",
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def style() -> str:
    """Return the style sheet with the colours of both themes filled in."""
    text = resources.files("puma_cli.report").joinpath("style.css").read_text(encoding="utf-8")
    return text.replace("LIGHT_ROLES", _roles(LIGHT)).replace("DARK_ROLES", _roles(DARK))


def heading(text: str) -> str:
    """Return a section's heading."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, note: bool = False) -> str:
    """Return a paragraph of plain text in which `backticks` mark code."""
    return f"<p{' class=' + quoted('note') if note else ''}>{inline(text)}</p>"


def card(headline: str, paragraphs: Sequence[str], command: str = "") -> str:
    """Return the box at the top of a report: the finding, why, and what to type next."""
    parts = [f'<p class="headline">{inline(headline)}</p>', *map(paragraph, paragraphs)]
    if command:
        parts.append(code(command))
    return f'<div class="card">\n{chr(10).join(parts)}\n</div>'


def code(text: str) -> str:
    """Return a block of text to type."""
    return f"<pre>{escape(text)}</pre>"


def figure(content: Drawing) -> str:
    """Return a drawing in its frame."""
    caption = f"\n<figcaption>{inline(content.caption)}</figcaption>" if content.caption else ""
    return f"<figure>\n{content.svg}{caption}\n</figure>"


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    marked: Collection[int] = (),
    words: bool = False,
) -> str:
    """Return a table of plain text, its first column to the left and the others to the right.

    Args:
        headers: (C,) names of the columns.
        rows: (R, C) cells.
        marked: rows to stand out.
        words: the cells are sentences rather than numbers.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in headers)
    body = "\n".join(
        f"<tr{' class=' + quoted('marked') if number in marked else ''}>"
        + "".join(f"<td>{inline(cell)}</td>" for cell in row)
        + "</tr>"
        for number, row in enumerate(rows)
    )
    kind = ' class="words"' if words else ""
    return (
        f'<div class="scroll"><table{kind}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def inline(text: str) -> str:
    """Return plain text as HTML, `backticks` as code."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return "".join(
        f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts)
    )


def escape(text: str) -> str:
    """Return plain text as HTML."""
    return html.escape(text, quote=True)


def quoted(text: str) -> str:
    """Return an attribute's value."""
    return f'"{escape(text)}"'


def _roles(palette: Palette) -> str:
    return "\n".join(f"  --{name}: {getattr(palette, name)};" for name in ROLES)
