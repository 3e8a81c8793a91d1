"""The building blocks of a page."""

from __future__ import annotations

from puma_cli.report.drawing import DARK, LIGHT, ROLES
from puma_cli.report.page import card, inline, page, style, table
from tests.report.html_check import read


def test_both_themes_have_every_colour() -> None:
    text = style()
    light, dark = text.split("@media (prefers-color-scheme: dark)")[:2]
    for role in ROLES:
        assert f"--{role}: {getattr(LIGHT, role)};" in light
        assert f"--{role}: {getattr(DARK, role)};" in dark
    assert "_ROLES" not in text


def test_text_is_text() -> None:
    made = page("A <b>", "x & y", [table(["<h>"], [["</td><script>"]])], "<i>")
    reading = read(made)
    assert "A <b>" in reading.text
    assert "</td><script>" in reading.text


def test_backticks_become_code() -> None:
    assert inline("type `puma <x>` now") == "type <code>puma &lt;x&gt;</code> now"
    assert inline("one ` alone") == "one ` alone"


def test_marked_row() -> None:
    made = table(["a", "b"], [["1", "2"], ["3", "4"]], marked=[1])
    assert made.count('<tr class="marked">') == 1
    assert made.index("marked") > made.index("<td>2</td>")


def test_card_ends_in_the_command() -> None:
    made = card("Cut here.", ["Because."], "puma prune x")
    assert made.index("Cut here.") < made.index("Because.") < made.index("<pre>puma prune x</pre>")
