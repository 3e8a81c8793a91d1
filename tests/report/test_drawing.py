"""Figures as SVG that follows the theme and as PNG."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from puma_cli.report.drawing import DARK, LIGHT, ROLES, canvas, house_style, save_png, to_svg


def draw() -> Figure:
    with house_style():
        figure, (axes,) = canvas(3, 2)
        axes.plot([0, 1], [0, 1], color=LIGHT.first)
        axes.set_title("a < b & $c_d$")
    return figure


def test_svg_names_roles_instead_of_colours() -> None:
    svg = to_svg(draw(), "one", 'say "x" & <y>')
    assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(ROLES)
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)
    assert "DejaVu" not in svg
    assert "<style" not in svg
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == 'say "x" & <y>'
    assert "a < b & $c_d$" in "".join(root.itertext())


def test_ids_differ_between_figures_on_a_page() -> None:
    ids = [set(re.findall(r'id="([^"]+)"', to_svg(draw(), name, ""))) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]
    svg = to_svg(draw(), "one", "")
    assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= ids[0]


def test_same_figure_same_text() -> None:
    assert to_svg(draw(), "one", "x") == to_svg(draw(), "one", "x")


def test_palettes_tell_roles_apart() -> None:
    for palette in (LIGHT, DARK):
        colours = [getattr(palette, role) for role in ROLES]
        assert len(set(colours)) == len(colours)


def test_own_settings_do_not_change_the_report() -> None:
    plain = to_svg(draw(), "one", "x")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "#ff0000"}):
        assert to_svg(draw(), "one", "x") == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_png(tmp_path: Path) -> None:
    save_png(draw(), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.size == (600, 400)
