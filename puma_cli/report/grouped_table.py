"""A dense table of numbers whose columns stand in groups."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from puma_cli.report.page import escape, inline


@dataclass(frozen=True)
class Group:
    """Columns under one heading.

    Args:
        name: the heading above them, or nothing.
        columns: their own headings.
        cells: one row of text for each row of the table, as many as columns.
    """

    name: str
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]


def grouped_table(groups: Sequence[Group], *, marked: Collection[int] = ()) -> str:
    """Return the groups beside one another as one HTML table with two rows of headings.

    Args:
        groups: the first one's first column names the rows.
        marked: rows to stand out.
    """
    above = "".join(
        f'<th scope="colgroup" colspan="{len(group.columns)}"{_edge(True, place)}>'
        f"{escape(group.name)}</th>"
        for place, group in enumerate(groups)
    )
    below = "".join(
        f'<th scope="col"{_edge(not column, place)}>{escape(name)}</th>'
        for place, group in enumerate(groups)
        for column, name in enumerate(group.columns)
    )
    rows = zip(*(group.cells for group in groups), strict=True)
    body = "\n".join(
        ('<tr class="marked">' if number in marked else "<tr>")
        + "".join(
            f"<td{_edge(not column, place)}>{inline(cell)}</td>"
            for place, cells in enumerate(row)
            for column, cell in enumerate(cells)
        )
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table class="dense">\n<thead><tr>{above}</tr>\n'
        f"<tr>{below}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _edge(first: bool, place: int) -> str:
    """Return the mark of the first cell of every group but the first."""
    return ' class="edge"' if first and place else ""
