"""Every figure of an analysis can be read: axes have names, and no text lies on another."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from puma_cli.profiling.profile import LayerProfile
from puma_cli.report.profile_page import draw_figures
from tests.profiling.examples import profile
from tests.report.legible import check_legible
from tests.report.profiles import bare, deep

CASES = {
    "all": profile(),
    "bare": bare(),
    **{f"{depth} layers": deep(depth) for depth in (1, 2, 16, 17, 28, 80)},
    "hopeless": deep(3, full=0.0),
    "perfect": deep(3, full=1.0),
}


@pytest.fixture(params=CASES)
def figures(request: pytest.FixtureRequest) -> dict[str, Figure]:
    made: LayerProfile = CASES[request.param]
    return draw_figures(made)


def test_every_figure_is_legible(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        check_legible(figure, name)
