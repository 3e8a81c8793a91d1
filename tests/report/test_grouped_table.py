"""The table whose columns stand in groups."""

from __future__ import annotations

from puma_cli.report.grouped_table import Group, grouped_table
from tests.report.html_check import read

GROUPS = (
    Group("", ["k"], [["1"], ["2"]]),
    Group("size <", ["a", "b"], [["x", "y &"], ["z", "`w`"]]),
)


def test_groups_span_their_columns() -> None:
    reading = read(grouped_table(GROUPS))
    spans = [tag["colspan"] for name, tag in reading.tags if name == "th" and "colspan" in tag]
    assert spans == ["1", "2"]
    assert reading.count("td") == 6
    assert "size <" in reading.text
    assert "y &" in reading.text
    assert reading.count("code") == 1


def test_only_the_marked_row_stands_out() -> None:
    made = grouped_table(GROUPS, marked=[1])
    assert made.count('<tr class="marked">') == 1
    assert made.index(">x</td>") < made.index("marked")


def test_groups_after_the_first_begin_with_an_edge() -> None:
    made = grouped_table(GROUPS)
    assert made.count('class="edge"') == 2 + 2
    assert '<td class="edge">x</td><td>y &amp;</td>' in made
