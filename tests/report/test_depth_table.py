"""What the cut at each depth costs and keeps, in tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from puma_cli.cli import output
from puma_cli.profiling.retrieval.retention import Retention
from puma_cli.report.depth_table import (
    cost_notes,
    cost_table,
    depth_headers,
    depth_rows,
    listing,
)
from puma_cli.report.numbers import count, three_digits
from tests.profiling.examples import profile
from tests.report.html_check import read
from tests.report.profiles import bare, deep
from tests.report.table_cells import cells


def test_short_row_of_each_cut() -> None:
    made = profile()
    rows = depth_rows(made)
    assert [row[0] for row in rows] == [str(k) for k in range(1, 13)]
    assert rows[3] == [
        "4",
        "2.80 M",
        f"{made.mean()[4]:.1%}",
        f"{made.kept(4):.0%}",
        f"{made.kept(4, reading='bridged'):.0%}",
        "0.0590",
        "6.00",
    ]
    assert rows[-1][3] == rows[-1][4] == "100%"
    assert {len(row) for row in rows} == {len(depth_headers(made))}


def test_short_rows_without_bridges() -> None:
    rows = depth_rows(bare())
    assert {row[4] for row in rows} == {"–"}
    assert [row[:4] for row in rows] == [row[:4] for row in depth_rows(profile())]


def test_predictions_stand_where_there_are_any() -> None:
    made = profile(predicted=True)
    assert made.prediction is not None
    kept = made.prediction.kept["first"]
    share, low, high = kept.share[4], kept.low[4], kept.high[4]
    assert share is not None and low is not None and high is not None
    assert depth_rows(made)[3][5] == f"{share:.0%}"
    assert depth_rows(made)[-1][5] == "100%"
    heads, names, *rows = cells(cost_table(made))
    assert "trained" in heads and "last layer kept" in heads
    place = names.index("predicted")
    assert rows[3][place] == f"{share:.0%} ({100 * low:.0f}–{100 * high:.0f})"
    assert names[-3:] == ["untrained", "bridged", "trained"]
    assert rows[0][-3:] == ["–"] * 3
    last = made.prediction.kept["keep_last"].share[4]
    assert rows[3][-1] == f"{last:.0%}"
    text = " ".join(cost_notes(made))
    for part in ("what the bridged cut keeps", "24 students of 2 small models", "750 steps"):
        assert part in text


@pytest.mark.parametrize("depth", [12, 80])
def test_short_table_fits_a_narrow_terminal(
    depth: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_PIPE_WIDTH", 80)
    made = deep(depth)
    large = tuple(replace(cost, latency_query=1234.5, flops_query=1.5e13) for cost in made.costs)
    rows = depth_rows(replace(made, costs=large))
    output.Output().emit(output.Outcome("", {}, [output.Table(depth_headers(made), rows)]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        assert " ".join(row).split() in lines


def test_full_table_shows_the_costs() -> None:
    made = profile()
    _, *rows = cells(cost_table(made))
    assert len(rows) == 1 + made.depth
    cost, retention = made.costs[3], made.retention
    kept, bridged = (
        f"{retention[name].share[4]:.0%} "
        f"({100 * (retention[name].low[4] or 0):.0f}–{100 * (retention[name].high[4] or 0):.0f})"
        for name in ("first", "bridged")
    )
    expected = ["4", count(cost.parameters), "50%", "11.2 MB", "0.0590", "0.0320"]
    expected += ["6.00", "240", "480", f"{made.mean()[4]:.1%}", kept, bridged]
    expected += [f"{retention[name].share[4]:.0%}" for name in ("keep_last", "keep_last_bridged")]
    assert rows[4] == expected


def test_full_table_marks_the_recommended_cut() -> None:
    made = profile()
    text = cost_table(made)
    assert text.count("marked") == 1
    assert f'<tr class="marked"><td>{made.recommended}</td>' in text


def test_full_table_without_bridges() -> None:
    heads, names, *rows = cells(cost_table(bare()))
    assert heads == ["", "size", "GFLOPs", "speed", "untrained"]
    assert {len(row) for row in rows} == {len(names)}


def test_memory_stands_where_it_is_known() -> None:
    made = profile()
    assert "memory" not in cost_table(made)
    costs = tuple(
        replace(cost, peak_memory=None if cost.k == 1 else 10**9 * cost.k) for cost in made.costs
    )
    known = replace(made, costs=costs)
    heads, names, *rows = cells(cost_table(known))
    place = names.index("peak")
    assert "memory" in heads
    assert [row[place] for row in rows[:3]] == ["–", "2.00 GB", "3.00 GB"]
    assert any("other times and memory are read off" in note for note in cost_notes(known))


def test_shares_without_an_interval() -> None:
    made = profile()
    steps = range(made.depth + 1)
    unknown = (None,) * len(steps)
    share = tuple(k / made.depth for k in steps)
    bounded = replace(made, retention={"first": Retention(share, unknown, unknown)})
    assert cells(cost_table(bounded))[2 + 5][-1] == "50%"
    hopeless = replace(made, retention={"first": Retention(unknown, unknown, unknown)})
    assert cells(cost_table(hopeless))[2 + 5][-1] == "–"
    assert depth_rows(hopeless)[5][3] == "–"


def test_small_print_says_how_it_was_measured() -> None:
    made = profile()
    text = read("".join(f"<p>{note}</p>" for note in cost_notes(made))).text
    for part in (
        "cuts at k = 1, 3, 6, 9 and 12; the other times are read off a straight line",
        "median of 5 passes on cpu in float32",
        "batches of 128",
        "20.5 tokens a query and 9.2 a candidate",
        "3.07 MB in float16",
        "Bridged is",
    ):
        assert part in text
    timed = replace(made, costs=tuple(replace(cost, measured=True) for cost in made.costs))
    assert not any("read off" in note for note in cost_notes(timed))
    assert not any("Bridged" in note for note in cost_notes(bare()))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.017, "0.0170"),
        (1.2345, "1.23"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_listing() -> None:
    assert listing([3]) == "3"
    assert listing([1, 2, 3]) == "1, 2 and 3"
