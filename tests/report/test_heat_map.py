"""Cells of a heat map and their scale."""

from __future__ import annotations

import pytest

from puma_cli.report.heat_map import CELL, draw_cells, draw_scale, map_canvas
from tests.report.drawn import corners


def test_one_path_a_density_with_a_rectangle_a_cell() -> None:
    _, (axes, _) = map_canvas(4, 3)
    draw_cells(axes, [(0, 0, 0.0), (1, 0, 1.0), (2, 5, 1.0), (3, 0, 7.0)])
    pale, dense = axes.patches
    assert len(corners(pale)) == 5
    assert len(corners(dense)) == 15
    assert pale.get_alpha() == pytest.approx(0.04)
    assert dense.get_alpha() == pytest.approx(1.0)
    second = corners(dense)[5:10]
    assert second.min(axis=0) == pytest.approx((2 - CELL[0] / 2, 5 - CELL[1] / 2))
    assert second.max(axis=0) == pytest.approx((2 + CELL[0] / 2, 5 + CELL[1] / 2))


def test_density_follows_the_value() -> None:
    _, (axes, _) = map_canvas(4, 3)
    draw_cells(axes, [(step, 0, step / 10) for step in range(11)])
    alphas = [patch.get_alpha() or 0.0 for patch in axes.patches]
    assert alphas == sorted(set(alphas))
    assert alphas[5] == pytest.approx(0.52)


def test_scale_names_its_ends_and_its_middle() -> None:
    _, (_, scale) = map_canvas(4, 3)
    draw_scale(scale, 0.5, 1.0, "linear CKA")
    assert [label.get_text() for label in scale.get_yticklabels()] == ["0.50", "0.75", "1.00"]
    assert scale.get_ylabel() == "linear CKA"
    low, high = scale.get_ylim()
    assert scale.get_yticks().tolist() == [low, (low + high) / 2, high]
