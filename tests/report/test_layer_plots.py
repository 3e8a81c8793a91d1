"""What the figures by layer show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from puma_cli.profiling.profile import LayerProfile
from puma_cli.report.layer_means import groups_at, mean_angles, mean_cka, mean_over
from puma_cli.report.layer_plots import plot_blocks, plot_cka, plot_cosines, plot_similarity
from tests.profiling.examples import profile
from tests.report.drawn import cell_count, heights, points
from tests.report.profiles import bare, deep


def with_cka(made: LayerProfile, *places: str) -> LayerProfile:
    return replace(
        made,
        similarity=tuple(
            entry if entry.place in places else replace(entry, cka=None)
            for entry in made.similarity
        ),
    )


def test_similarity_has_a_line_for_each_group_at_the_embed_token() -> None:
    made = profile()
    for axes in plot_similarity(made).axes:
        assert len(axes.lines) == len(made.at_embed) + 1
    angles = [heights(line).tolist() for line in plot_similarity(made).axes[0].lines[:-1]]
    assert angles == [list(entry.angular) for entry in made.at_embed]


def test_means_weigh_groups_by_their_rows() -> None:
    made = profile()
    first, *others = made.similarity
    uneven = replace(made, similarity=(replace(first, count=700), *others))
    entries = uneven.at_embed
    values = [float(place) for place in range(len(entries))]
    assert mean_over(entries, values) == pytest.approx((1 + 2 + 3 + 4 + 5) * 100 / 1200)
    assert mean_over(entries, [None, *values[1:]]) is None
    angles = [entry.angular_grid[2][4] for entry in entries]
    expected = (7 * angles[0] + sum(angles[1:])) / 12
    assert mean_angles(uneven)[2][4] == pytest.approx(expected)


def test_blocks_show_every_angle_and_mark_the_least_of_each_size() -> None:
    made = profile()
    axes, scale = plot_blocks(made).axes
    grid = mean_angles(made)
    shown = {text.get_position(): text for text in axes.texts}
    assert len(shown) == 12 * 13 // 2
    for (start, size), text in shown.items():
        value = grid[int(start)][int(size) - 1]
        assert text.get_text() == f"{value:.2f}"[1:]
        least = min(grid[first][int(size) - 1] for first in range(13 - int(size)))
        if text.get_fontweight() == "bold":
            assert value == least
    bold = [place[1] for place, text in shown.items() if text.get_fontweight() == "bold"]
    assert sorted(bold) == list(range(1, 13))
    assert scale.get_ylabel() == "mean angle / π"


def test_blocks_frame_what_the_cut_removes() -> None:
    made = profile()
    axes = plot_blocks(made).axes[0]
    assert cell_count(axes) == 12 * 13 // 2
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.texts] == ["the block that k = 4 removes"]
    (frame,) = (patch for patch in axes.patches if not patch.get_fill())
    assert frame.get_bbox().bounds == (3.5, 7.5, 1, 1)  # type: ignore[attr-defined]
    whole = replace(made, choice=replace(made.choice, k=12))
    assert plot_blocks(whole).axes[0].get_legend() is None


def test_blocks_of_a_deep_model_have_dots_instead_of_numbers() -> None:
    made = deep(20)
    axes = plot_blocks(made).axes[0]
    grid = mean_angles(made)
    assert not axes.texts
    (dots,) = axes.lines
    places = [(int(start), int(size)) for start, size in points(dots)]
    assert [size for _, size in places] == list(range(1, 21))
    for start, size in places:
        least = min(grid[first][size - 1] for first in range(21 - size))
        assert grid[start][size - 1] == least


def test_cka_is_the_plain_mean_over_the_groups() -> None:
    made = profile()
    first, *others = made.similarity
    assert first.cka is not None
    changed = tuple(
        tuple(None if value is None else value - 0.6 for value in row) for row in first.cka
    )
    found = mean_cka(replace(made, similarity=(replace(first, cka=changed), *others)), "embed")
    assert found is not None
    assert found[5][5] == pytest.approx(1.0 - 0.6 / 6)
    assert found[0] == [None] * 13


@pytest.mark.parametrize(
    ("places", "titles"),
    [
        (("embed", "tokens"), ["Embed token", "Sampled tokens"]),
        (("embed",), ["Embed token"]),
        (("tokens",), ["Sampled tokens"]),
    ],
)
def test_cka_has_a_map_for_each_place(places: tuple[str, ...], titles: list[str]) -> None:
    figure = plot_cka(with_cka(profile(), *places))
    assert figure is not None
    *maps, scale = figure.axes
    assert [axes.get_title(loc="left") for axes in maps] == titles
    assert scale.get_ylabel() == "linear CKA"
    for axes in maps:
        # Depth 0 is the same for every input: no cell in its row and column.
        assert cell_count(axes) == 12 * 12


def test_no_cka_no_map() -> None:
    assert plot_cka(with_cka(profile())) is None
    made = profile()
    blank = ((None,) * 13,) * 13
    constant = tuple(replace(entry, cka=blank) for entry in made.similarity)
    assert plot_cka(replace(made, similarity=constant)) is None


def test_cosines_at_both_places_with_a_gap() -> None:
    made = profile()
    for axes, place in zip(plot_cosines(made).axes, ("embed", "tokens"), strict=True):
        plain, centred, trimmed, _ = map(heights, axes.lines)
        entries = groups_at(made, place)
        assert plain[3] == pytest.approx(np.mean([entry.cosine[3] for entry in entries]))
        assert trimmed[3] == pytest.approx(np.mean([entry.trimmed[3] for entry in entries]))
        assert np.isnan(centred).tolist() == [True] + [False] * 11


def test_cosines_without_tokens_and_trimming() -> None:
    figure = plot_cosines(bare())
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].texts] == ["plain", "centred", "cut"]
    assert len(axes.lines) == 3
