"""The tables of parts, tasks, layers and bridges."""

from __future__ import annotations

from dataclasses import replace

from puma_cli.profiling.cost.depth_cost import Parameters
from puma_cli.report.profile_tables import (
    bridge_note,
    bridge_table,
    has_bridges,
    layer_table,
    parts_table,
    task_table,
)
from tests.profiling.examples import profile
from tests.report.profiles import bare
from tests.report.table_cells import cells


def test_parts_of_the_model_and_of_the_cut() -> None:
    head, *rows = cells(parts_table(profile()))
    assert head[3] == "cut at k = 4"
    assert rows[2] == ["12 decoder layers, 350 k each", "4.20 M", "75%", "1.40 M", "50%"]
    assert rows[-1] == ["all", "5.60 M", "100%", "2.80 M", "100%"]
    assert len(rows) == 5


def test_a_cut_goes_without_the_head() -> None:
    parts = Parameters(10, 10, (1,) * 11 + (9,), 10, 50)
    _, *rows = cells(parts_table(replace(profile(), parts=parts)))
    assert rows[2][0] == "12 decoder layers"
    assert rows[4] == ["linear head", "50", "50%", "0", "0%"]
    assert rows[5] == ["all", "100", "100%", "34", "100%"]


def test_tasks_at_the_cut() -> None:
    made = profile()
    heads, _, *rows = cells(task_table(made))
    assert heads == ["", "full model", "cut at k = 4, untrained", "cut at k = 4, bridged"]
    task = made.readout[1]
    plain, bridged = (task.scores[name]["hit@1"] for name in ("first", "bridged"))
    assert rows[1] == [
        "scenes_task1",
        "200",
        "1,000",
        f"{plain[-1]:.1%}",
        f"{plain[4]:.1%}",
        f"{plain[4] / plain[-1]:.0%}",
        f"{bridged[4]:.1%}",
        f"{bridged[4] / bridged[-1]:.0%}",
    ]
    assert rows[-1][0] == "mean"
    assert rows[-1][4] == f"{made.mean()[4]:.1%}"
    assert len(cells(task_table(bare()))[-1]) == 6


def test_layers_at_the_embed_token() -> None:
    made = profile()
    heads, names, *rows = cells(layer_table(made))
    assert names == [
        "decoder layer",
        "plain",
        "centred",
        "trimmed",
        "angular distance",
        "block influence",
    ]
    assert heads[1] == "cosine of input and output"
    # Its input is the same for every row, so that nothing is left about the mean.
    assert rows[0][2] == "–"
    assert rows[5][5] == f"{made.block_influence(5):.3f}"
    mean = sum(entry.trimmed[5] or 0 for entry in made.at_embed) / len(made.at_embed)
    assert rows[5][3] == f"{mean:.3f}"
    assert rows[0][3].startswith("−")
    assert "trimmed" not in cells(layer_table(bare()))[1]


def test_bridges_by_depth() -> None:
    made = profile()
    heads, _, *rows = cells(bridge_table(made))
    assert heads == ["", "first k layers", "first k − 1 and the last"]
    fit = made.bridges["bridged"][2]
    shown = [f"{fit.cosine_before:.3f}", f"{fit.cosine:.3f}", f"{fit.error:.3f}", "0.01"]
    assert rows[2] == ["3", *shown, *shown]
    assert rows[0][5:] == ["–"] * 4
    assert bridge_table(made).count("marked") == 1


def test_bridges_of_another_length_have_no_cosine_before() -> None:
    made = profile(keep_last=False)
    fits = tuple(replace(fit, cosine_before=None) for fit in made.bridges["bridged"])
    rows = cells(bridge_table(replace(made, bridges={"bridged": fits})))[2:]
    assert {row[1] for row in rows} == {"–"}


def test_rows_that_bridges_were_fitted_on() -> None:
    made = profile(keep_last=False)
    assert "Fitted on 8,000 training inputs, 800 of them held out" in bridge_note(made)
    first, *others = made.bridges["bridged"]
    uneven = replace(made, bridges={"bridged": (replace(first, rows=7000), *others)})
    assert "7,000 to 8,000 training inputs" in bridge_note(uneven)


def test_no_bridges() -> None:
    assert has_bridges(profile())
    assert not has_bridges(replace(profile(), bridges={}))
    assert not has_bridges(replace(profile(), bridges={"bridged": ()}))
